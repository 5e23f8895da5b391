//! The session between agents and servers, both ways, and what servers pass on of it to the leader.
//!
//! It refuses to believe either side. Heartbeats, acknowledgements and farewells say nothing that could be judged: they are
//! read and written again, like all messages.

use certwright_agent::checkpoint::{Kept, greeted, told};
use certwright_agent::trust::{Announcement, Trust};
use certwright_core::command::Command;
use certwright_core::event::{Delivered, Issued, Stage};
use certwright_core::ids::{AgentName, InstanceId, IssuerName, Serial};
use certwright_core::limits::MESSAGE_OCTETS_MAX;
use certwright_core::spec::Labels;
use certwright_core::x509::csr;
use certwright_core::x509::inspect::inspect;
use certwright_core::x509::key::sha256;
use certwright_proto::agent::v1;
use certwright_proto::agent::v1::agent_message::Kind as Up;
use certwright_proto::agent::v1::server_message::Kind as Down;
use certwright_proto::api::names;
use certwright_proto::api::session::{report_from_message, report_to_message, submission_from_message};
use certwright_proto::api::spec::{spec_from_message, spec_to_message};
use certwright_proto::api::values::{moment_from_message, moment_to_message, span_from_optional};
use certwright_proto::internal::v1::{ReadmitRequest, ReportBatch};
use prost::Message;

use crate::csr::leaf;
use crate::estate::{self, CLUSTER};
use crate::octets::Octets;
use crate::verdict::{accepted, took};
use crate::{text, x509};

pub(crate) fn run(input: &[u8]) {
    let mut input = Octets(input);
    match input.u8() % 2 {
        0 => up(input.0),
        _ => down(input.0),
    }
}

/// What an agent says.
fn up(octets: &[u8]) {
    let Ok(message) = v1::AgentMessage::decode(octets) else { return };
    assert_eq!(v1::AgentMessage::decode(&*message.encode_to_vec()).expect("what was written is read"), message);
    text::traceparent(&message.traceparent);
    match message.kind {
        Some(Up::Hello(hello)) => text::resume(hello.resume.as_ref()),
        Some(Up::Csr(submission)) => submitted(submission),
        Some(Up::Report(report)) => reported(&report),
        Some(Up::Identity(renewal)) => renewed(&renewal),
        Some(Up::Held(held)) => holds(&held),
        Some(Up::Heartbeat(v1::Heartbeat { clock })) => told_time(clock.as_ref()),
        Some(Up::CheckpointRefused(_)) | None => {}
    }
}

/// What a server passes on, by the internal method's path.
pub(crate) fn forwarded(method: &str, octets: &[u8]) {
    match method {
        "agent/csr" => drop(v1::CsrSubmission::decode(octets).map(submitted)),
        "agent/held" => drop(v1::HeldCertificate::decode(octets).map(|held| holds(&held))),
        "agent/identity" => drop(v1::IdentityRenewal::decode(octets).map(|renewal| renewed(&renewal))),
        "agent/reports" => drop(ReportBatch::decode(octets).map(|batch| batch.reports.iter().for_each(reported))),
        "agent/readmit" => drop(ReadmitRequest::decode(octets).map(|it| accepted(inspect(&it.certificate)))),
        _ => {}
    }
}

fn told_time(clock: Option<&prost_types::Timestamp>) {
    if clock.is_some_and(|clock| accepted(moment_from_message("clock", clock)).is_some()) {
        took();
    }
}

fn renewed(renewal: &v1::IdentityRenewal) {
    if accepted(csr::parse(&renewal.csr)).is_some() {
        took();
    }
}

/// A certificate that the log does not know. The estate was never restored: nothing is taken back.
fn holds(held: &v1::HeldCertificate) {
    let asked = (accepted(names::certificate(&held.certificate)), InstanceId::parse(&held.instance));
    let (Some(certificate), Some(instance), Some(read)) = (asked.0, asked.1, accepted(inspect(&held.der))) else {
        return;
    };
    took();
    let Some(serial) = Serial::parse(&read.serial) else { return };
    let issued = Issued {
        instance: Some(instance),
        generation: held.generation,
        serial,
        not_before: read.not_before,
        not_after: read.not_after,
        spki_hash: read.spki_hash,
        certificate: std::sync::Arc::from(&held.der[..]),
        ..estate::issued(&IssuerName::parse("internal-ca").expect("a name"), 7)
    };
    estate::decided(&Command::AdoptHeld { certificate, spec_revision: 1, issued: Box::new(issued) });
}

fn submitted(submission: v1::CsrSubmission) {
    let Some(submission) = accepted(submission_from_message(submission)) else { return };
    if accepted(csr::parse(&submission.csr)).is_some() {
        took();
    }
    let (certificate, instance, generation) = (submission.certificate, submission.instance, submission.generation);
    let (reason, message) = ("POLICY_DENIED".to_owned(), "not allowed".to_owned());
    estate::decided(&Command::FailIssuance { certificate, instance, generation, reason, message });
}

fn reported(report: &v1::Report) {
    let Some((certificate, delivered)) = accepted(report_from_message(report)) else { return };
    let again = report_to_message(report.id, &certificate, &delivered);
    assert_eq!(report_from_message(&again), Ok((certificate.clone(), delivered.clone())));
    if let Some((reason, message)) = &delivered.failure {
        for text in [reason, message] {
            assert!(text.len() <= MESSAGE_OCTETS_MAX && !text.chars().any(char::is_control), "{text:?}");
        }
    }
    let agent = AgentName::parse("edge-7").expect("a name");
    estate::decided(&Command::RecordDeliveries { agent, deliveries: vec![(certificate, delivered)] });
    took();
}

/// What a server says.
fn down(octets: &[u8]) {
    let Ok(message) = v1::ServerMessage::decode(octets) else { return };
    assert_eq!(v1::ServerMessage::decode(&*message.encode_to_vec()).expect("what was written is read"), message);
    text::traceparent(&message.traceparent);
    match message.kind {
        Some(Down::Assignment(assignment)) => assigned(assignment),
        Some(Down::Welcome(welcome)) => welcomed(&welcome),
        Some(Down::Checkpoint(shown)) => {
            if let Ok(shown) = Kept::verified(&shown, CLUSTER) {
                assert_eq!(told(Some(shown), shown), Ok(shown));
                took();
            }
            if let Ok(next) = Kept::verified(&shown, CLUSTER).and_then(|shown| told(Some(kept()), shown)) {
                moved_on(&next);
            }
        }
        Some(Down::TrustBundle(bundle)) => announced(&bundle),
        Some(Down::Bookmark(bookmark)) => text::resume(bookmark.token.as_ref()),
        Some(Down::Gone(gone)) => instance(&gone.instance),
        Some(Down::CsrAnswer(answer)) => {
            instance(&answer.instance);
            let _ = accepted(span_from_optional("retry_after", answer.retry_after.as_ref()));
        }
        Some(Down::Identity(issued)) => {
            let _: Vec<_> = issued.chain.iter().map(|der| accepted(inspect(der))).collect();
            if accepted(inspect(&issued.certificate)).is_some() {
                took();
            }
        }
        Some(Down::Heartbeat(v1::Heartbeat { clock })) => told_time(clock.as_ref()),
        Some(Down::ReportAck(_) | Down::Draining(_)) | None => {}
    }
}

fn instance(text: &str) {
    if let Some(id) = InstanceId::parse(text) {
        assert_eq!(id.to_string(), text);
        took();
    }
}

/// What the agent has seen of the log before.
fn kept() -> Kept {
    Kept::verified(&checkpoint(), CLUSTER).expect("a good signature")
}

/// An agent never goes back behind what it has seen.
fn moved_on(next: &Kept) {
    assert!((next.epoch(), next.index()) >= (kept().epoch(), kept().index()), "{next:?}");
}

fn welcomed(welcome: &v1::Welcome) {
    told_time(welcome.clock.as_ref());
    let shown = welcome.checkpoint.as_ref().and_then(|it| Kept::verified(it, CLUSTER).ok());
    if let Ok(first) = greeted(None, welcome, CLUSTER) {
        assert_eq!(first.kept, shown);
        assert!(greeted(first.kept, welcome, CLUSTER).is_ok() || welcome.recalled.is_some());
        took();
    }
    if let Ok(next) = greeted(Some(kept()), welcome, CLUSTER) {
        moved_on(&next.kept.expect("what was kept once"));
    }
}

/// Other roots than those that are held count only when they are told as news, each of them.
fn announced(bundle: &v1::TrustBundle) {
    let held = x509::trusted();
    let trust = Trust::announced(Some(held.clone()));
    let is_later = (bundle.epoch, bundle.index) > (held.epoch, held.index);
    match trust.compare(bundle) {
        Announcement::Known => assert_eq!(bundle.roots, held.roots),
        Announcement::Stale => assert!(!is_later),
        Announcement::News(fresh) => {
            let strangers = bundle.roots.iter().filter(|root| !held.roots.contains(root));
            let named = strangers.map(|root| (root.authority.clone(), hex::encode_upper(sha256(&root.certificate))));
            assert!(is_later && fresh == named.collect::<Vec<_>>());
            took();
        }
    }
    let is_held = |der: &[u8]| held.roots.iter().any(|root| root.certificate == der);
    assert!(bundle.roots.iter().all(|root| trust.holds(&root.certificate) == is_held(&root.certificate)));
}

fn assigned(assignment: v1::Assignment) {
    if let Some(id) = InstanceId::parse(&assignment.instance) {
        assert_eq!(id.to_string(), assignment.instance);
    }
    let Some(spec) = assignment.spec else { return };
    let spec = certwright_proto::v1::CertificateSpec { targets: assignment.targets, ..spec };
    let Some(spec) = accepted(spec_from_message(spec, Labels::new())) else { return };
    if let Some(issued) = &assignment.issued {
        x509::delivered(issued, &spec);
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let state = estate::state();
    let certificate = state.certificates.iter().next().expect("the estate has one");
    let instance = certificate.instances.first().map(|it| it.id.to_string()).unwrap_or_default();
    let name = certwright_proto::api::names::certificate_to_message(&certificate.name);
    let delivered = Delivered {
        instance: InstanceId::parse(&instance).expect("an instance"),
        generation: 1,
        target: certificate.spec().targets.first().map(|target| target.name.clone()),
        stage: Stage::Written,
        failure: Some(("TARGET_NOT_WRITABLE".into(), "read-only".into())),
        elapsed: std::time::Duration::from_millis(5),
    };
    let token = certwright_proto::token::encode(CLUSTER, 1, Default::default());
    let csr = crate::csr::request();
    let ups = [
        Up::Hello(v1::Hello { version: "0.1.0".into(), resume: Some(token.clone()), ..Default::default() }),
        Up::Csr(v1::CsrSubmission {
            certificate: name.clone(),
            instance: instance.clone(),
            generation: 2,
            csr: csr.clone().into(),
        }),
        Up::Report(report_to_message(7, &certificate.name, &delivered)),
        Up::Identity(v1::IdentityRenewal { csr: csr.into() }),
        Up::Held(held()),
        Up::Heartbeat(v1::Heartbeat { clock: Some(moment_to_message(estate::NOW)) }),
        Up::CheckpointRefused(v1::CheckpointRefused { server: "server-1".into(), message: "set back".into() }),
    ];
    let spec = spec_to_message(&certificate.spec());
    let root: prost::bytes::Bytes = crate::csr::authority().certificate.clone().into();
    let issued = v1::Issued {
        generation: 1,
        serial: "01".repeat(20),
        certificate: root.clone(),
        root: root.clone(),
        intermediates: vec![root.clone()],
        ..Default::default()
    };
    let assignment = v1::Assignment {
        certificate: name,
        instance: instance.clone(),
        revision: 1,
        targets: spec.targets.clone(),
        spec: Some(spec.clone()),
        wanted_generation: 2,
        issued: Some(issued),
    };
    let sound = v1::Issued {
        generation: 1,
        serial: crate::csr::leaf_serial().to_string(),
        certificate: leaf().to_vec().into(),
        root: root.clone(),
        ..Default::default()
    };
    let of_sound = certwright_proto::v1::CertificateSpec {
        dns_names: vec!["web.example.test".into()],
        issuer: spec.issuer,
        ..Default::default()
    };
    let downs = [
        Down::Assignment(assignment.clone()),
        Down::TrustBundle(v1::TrustBundle {
            roots: vec![v1::TrustedRoot { authority: "root".into(), certificate: root.clone() }],
            ..Default::default()
        }),
        Down::Assignment(v1::Assignment {
            spec: Some(of_sound),
            targets: Vec::new(),
            issued: Some(sound),
            ..assignment
        }),
        Down::TrustBundle(v1::TrustBundle {
            epoch: 2,
            index: 1,
            roots: vec![v1::TrustedRoot { authority: "another".into(), certificate: root.clone() }],
        }),
        Down::Gone(v1::Gone { instance: instance.clone(), ..Default::default() }),
        Down::CsrAnswer(v1::CsrAnswer {
            instance,
            generation: 2,
            reason: "POLICY_DENIED".into(),
            message: "no".into(),
            retry_after: Some(prost_types::Duration { seconds: 1, nanos: 5 }),
        }),
        Down::ReportAck(v1::ReportAck { id: 7 }),
        Down::Identity(v1::IdentityIssued {
            certificate: leaf().to_vec().into(),
            chain: vec![root],
            ..Default::default()
        }),
        Down::Heartbeat(v1::Heartbeat { clock: Some(moment_to_message(estate::NOW)) }),
        Down::Bookmark(v1::Bookmark { token: Some(token), complete: true }),
        Down::Welcome(v1::Welcome { checkpoint: Some(checkpoint()), ..Default::default() }),
        Down::Checkpoint(checkpoint()),
    ];
    let up = |kind| v1::AgentMessage { kind: Some(kind), ..Default::default() }.encode_to_vec();
    let down = |kind| v1::ServerMessage { kind: Some(kind), ..Default::default() }.encode_to_vec();
    let mut seeds: Vec<_> = ups.into_iter().map(|kind| [vec![0], up(kind)].concat()).collect();
    seeds.extend(downs.into_iter().map(|kind| [vec![1], down(kind)].concat()));
    seeds
}

/// A certificate of the agent's.
fn held() -> v1::HeldCertificate {
    let state = estate::state();
    let certificate = state.certificates.iter().next().expect("the estate has one");
    v1::HeldCertificate {
        certificate: names::certificate_to_message(&certificate.name),
        instance: certificate.instances.first().map(|it| it.id.to_string()).unwrap_or_default(),
        generation: 3,
        der: leaf().to_vec().into(),
    }
}

/// What is passed on, by the internal method's path.
pub(crate) fn calls() -> [(&'static str, Vec<u8>); 5] {
    let csr = crate::csr::request();
    let held = held();
    let submission = v1::CsrSubmission {
        certificate: held.certificate.clone(),
        instance: held.instance.clone(),
        generation: 2,
        csr: csr.clone().into(),
    };
    let report = v1::Report {
        certificate: held.certificate.clone(),
        instance: held.instance.clone(),
        generation: 1,
        stage: "received".into(),
        ..Default::default()
    };
    [
        ("agent/csr", submission.encode_to_vec()),
        ("agent/held", held.encode_to_vec()),
        ("agent/identity", v1::IdentityRenewal { csr: csr.into() }.encode_to_vec()),
        ("agent/reports", ReportBatch { reports: vec![report] }.encode_to_vec()),
        ("agent/readmit", ReadmitRequest { certificate: leaf().to_vec().into() }.encode_to_vec()),
    ]
}

/// A checkpoint with a good signature.
fn checkpoint() -> v1::Checkpoint {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed of 32 octets");
    let checkpoint = certwright_core::checkpoint::Checkpoint {
        cluster_id: CLUSTER,
        epoch: 1,
        index: 5,
        chain: [6; 32],
        at: estate::NOW,
    };
    v1::Checkpoint {
        epoch: 1,
        index: 5,
        chain: vec![6; 32].into(),
        at_millis: estate::NOW.millis(),
        public_key: pair.public_key().as_ref().to_vec().into(),
        signature: pair.sign(&checkpoint.message()).as_ref().to_vec().into(),
    }
}

//! What a stored certificate costs in memory, indexes and allocator included, measured from outside: the process's own
//! resident set. A test binary of its own, so that nothing else grows meanwhile.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test reads /proc and fails loudly")]
#![cfg(target_os = "linux")]

use std::sync::Arc;
use std::time::Duration;

use certwright_core::State;
use certwright_core::event::{Delivered, Event, Issued, Stage, Trigger};
use certwright_core::ids::{
    AgentName, AuthorityName, CertificateName, InstanceId, IssuerName, Serial, TargetName, Uid,
};
use certwright_core::limits::CERTIFICATE_RESIDENT_OCTETS_MAX;
use certwright_core::log::{Applied, Fold, Position};
use certwright_core::spec::{
    CertificateSpec, Dialect, FilesSink, Holder, Labels, PrivateKeySpec, Reload, ReloadAction, Sink, Subject, Target,
    Usage,
};
use certwright_core::time::Timestamp;

const CERTIFICATES: u64 = 40_000;
const CERTIFICATES_PER_AGENT: u64 = 100;
const T0: Timestamp = Timestamp::from_seconds(1_800_000_000);

fn resident_octets() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// A certificate as a service would have it: two names, a file target with a reload hook, a label.
fn spec(n: u64, agent: &AgentName) -> CertificateSpec {
    let argv = ["/usr/bin/systemctl", "reload", "nginx"].map(str::to_owned).to_vec();
    CertificateSpec {
        dialect: Dialect::Certwright,
        common_name: None,
        dns_names: vec![format!("service-{n}.prod.example.com"), format!("service-{n}.internal")],
        ip_addresses: vec![],
        uris: vec![],
        email_addresses: vec![],
        subject: Subject::default(),
        duration: Some(Duration::from_secs(24 * 3600)),
        renew_before: None,
        renew_before_percentage: None,
        usages: vec![Usage::DigitalSignature, Usage::ServerAuth],
        is_ca: false,
        private_key: PrivateKeySpec::default(),
        revision_history_limit: None,
        issuer: IssuerName::parse("internal").unwrap(),
        targets: vec![Target {
            name: TargetName::parse("nginx").unwrap(),
            holder: Holder::Agent(agent.clone()),
            sink: Sink::Files(FilesSink { directory: format!("/etc/tls/service-{n}"), ..FilesSink::default() }),
            reload: Some(Reload { action: ReloadAction::Exec(argv), test_exec: vec![], timeout_seconds: 30 }),
            served_check: None,
        }],
        labels: Labels::from([("team".to_owned(), "payments".to_owned())]),
        secret_name: None,
    }
}

fn issued(instance: InstanceId, n: u64) -> Issued {
    let mut octets = [1; 20];
    octets[8..16].copy_from_slice(&n.to_be_bytes());
    Issued {
        instance: Some(instance),
        generation: 1,
        serial: Serial::from_random(octets),
        issuer: IssuerName::parse("internal").unwrap(),
        authority: AuthorityName::parse("intermediate").unwrap(),
        authority_serial: Serial::from_random([2; 20]),
        not_before: T0,
        not_after: T0.plus(Duration::from_secs(24 * 3600 + n)),
        renew_at: Some(T0.plus(Duration::from_secs(16 * 3600 + n))),
        spki_hash: [n as u8; 32],
        certificate: Arc::from([0; 600]),
    }
}

struct Feeder {
    state: State,
    index: u64,
}

impl Feeder {
    fn apply(&mut self, stream: &certwright_core::log::StreamId, event: &Event) -> Position {
        self.index += 1;
        let position = Position { index: self.index, ordinal: 0 };
        let free = matches!(event, Event::CertificateDelivered(_));
        let revision = (!free).then(|| self.state.revision(stream) + 1);
        self.state.apply(&Applied { position, at: T0, stream, revision, actor: "system" }, event);
        position
    }

    /// Declared, paired, opened, issued, delivered, served.
    fn certificate(&mut self, n: u64) {
        let agent = AgentName::parse(&format!("region-a-host-{}", n / CERTIFICATES_PER_AGENT)).unwrap();
        if n.is_multiple_of(CERTIFICATES_PER_AGENT) {
            let registered = Event::AgentRegistered { name: agent.clone(), labels: Labels::new(), spki_hash: [0; 32] };
            self.apply(&agent.stream(), &registered);
        }
        let name = CertificateName::parse("payments-prod", &format!("service-{n}-tls")).unwrap();
        let stream = name.stream();
        let spec = Arc::new(spec(n, &agent));
        let declared = self.apply(&stream, &Event::CertificateDeclared { name, spec });
        let instance = InstanceId { certificate: Uid(declared), number: 1 };
        self.apply(&stream, &Event::InstanceAdded { instance, agent });
        self.apply(&stream, &Event::IssuanceOpened { instance, generation: 1, trigger: Trigger::First });
        self.apply(&stream, &Event::CertificateIssued(Box::new(issued(instance, n))));
        for (target, stage) in [(None, Stage::Verified), (Some("nginx"), Stage::Served)] {
            let target = target.map(|target| TargetName::parse(target).unwrap());
            let elapsed = Duration::from_millis(10);
            let report = Delivered { instance, generation: 1, target, stage, failure: None, elapsed };
            self.apply(&stream, &Event::CertificateDelivered(report));
        }
    }
}

#[test]
fn a_certificate_with_one_instance_and_one_target_fits() {
    let mut feeder = Feeder { state: State::default(), index: 0 };
    // Warm up: the allocator's own arenas and the first pages of everything.
    (0..CERTIFICATES_PER_AGENT).for_each(|n| feeder.certificate(n));
    let before = resident_octets();
    (CERTIFICATES_PER_AGENT..CERTIFICATES).for_each(|n| feeder.certificate(n));
    let each = (resident_octets() - before) / (CERTIFICATES - CERTIFICATES_PER_AGENT) as usize;
    println!("{each} octets resident for each certificate");
    assert_eq!(feeder.state.certificates.len() as u64, CERTIFICATES);
    assert!(each <= CERTIFICATE_RESIDENT_OCTETS_MAX, "{each} octets, at most {CERTIFICATE_RESIDENT_OCTETS_MAX}");
    assert!(each > 300, "{each} octets is too little to be true: the measurement is broken");

    // The same after a restart from a snapshot, where everything was made in another order.
    let rebuilt = State::from_parts(feeder.state.cut());
    assert_eq!(rebuilt.counts().ready as u64, CERTIFICATES);
}

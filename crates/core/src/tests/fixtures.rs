//! A small estate: one authority, one issuer, an agent, a certificate; and short ways to name their parts.
//!
//! It refuses cleverness: every fixture is a plain value.

use std::sync::Arc;
use std::time::Duration;

use crate::event::{Delivered, Event, Identity, Issued, NodeRecord, SealedKey, Stage, TokenGrant};
use crate::ids::{
    AgentName, AuthorityName, CertificateName, ClusterId, Generation, InstanceId, IssuerName, NodeId, NodeName, Serial,
    TargetName, TokenId, Uid, cluster_stream,
};
use crate::log::{Position, StreamId};
use crate::spec::{
    AuthorityPurpose, AuthoritySpec, CertificateSpec, Dialect, FilesSink, Holder, IssuerKind, IssuerSpec, KeyAlgorithm,
    Labels, PrivateKeySpec, Sink, Subject, Target,
};
use crate::time::Timestamp;

/// Log time at which every test begins.
pub(crate) const T0: Timestamp = Timestamp::from_seconds(1_800_000_000);

pub(crate) fn name(name: &str) -> CertificateName {
    CertificateName::parse("default", name).unwrap()
}

pub(crate) fn agent(name: &str) -> AgentName {
    AgentName::parse(name).unwrap()
}

pub(crate) fn issuer(name: &str) -> IssuerName {
    IssuerName::parse(name).unwrap()
}

pub(crate) fn authority(name: &str) -> AuthorityName {
    AuthorityName::parse(name).unwrap()
}

pub(crate) fn token(name: &str) -> TokenId {
    TokenId::parse(name).unwrap()
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn serial(n: u64) -> Serial {
    let mut octets = [1; 20];
    octets[12..].copy_from_slice(&n.to_be_bytes());
    Serial::from_random(octets)
}

/// A file target of this name on one agent.
pub(crate) fn target(name: &str, holder: Holder) -> Target {
    Target {
        name: TargetName::parse(name).unwrap(),
        holder,
        sink: Sink::Files(FilesSink { directory: format!("/etc/tls/{name}"), ..FilesSink::default() }),
        reload: None,
        served_check: None,
    }
}

pub(crate) fn on(name: &str) -> Holder {
    Holder::Agent(agent(name))
}

pub(crate) fn selecting(pairs: &[(&str, &str)]) -> Holder {
    Holder::Selector(labels(pairs))
}

/// One DNS name, one target `files` held by `holder`, issuer `demo`, one hour.
pub(crate) fn spec(holder: Holder) -> CertificateSpec {
    CertificateSpec {
        dialect: Dialect::Certwright,
        common_name: None,
        dns_names: vec!["web.example.test".to_owned()],
        ip_addresses: vec![],
        uris: vec![],
        email_addresses: vec![],
        subject: Subject::default(),
        duration: Some(Duration::from_secs(3600)),
        renew_before: None,
        renew_before_percentage: None,
        usages: vec![],
        is_ca: false,
        private_key: PrivateKeySpec::default(),
        revision_history_limit: None,
        issuer: issuer("demo"),
        targets: vec![target("files", holder)],
        labels: Labels::new(),
        secret_name: None,
    }
}

pub(crate) fn issuer_spec(name: &str) -> IssuerSpec {
    IssuerSpec { kind: IssuerKind::Ca { authority: authority(name) }, max_duration: None, allowed_dns_suffixes: vec![] }
}

pub(crate) fn authority_spec(parent: Option<&str>) -> AuthoritySpec {
    AuthoritySpec {
        common_name: "Demo".to_owned(),
        key_algorithm: KeyAlgorithm::EcdsaP256,
        parent: parent.map(authority),
        duration: Duration::from_secs(10 * 365 * 24 * 3600),
        path_len: None,
        purpose: AuthorityPurpose::Issuing,
    }
}

pub(crate) fn sealed() -> SealedKey {
    SealedKey { data_key_id: 1, sealed: vec![7; 60] }
}

pub(crate) fn identity(n: u64, key: u8) -> Identity {
    Identity {
        serial: serial(n),
        spki_hash: [key; 32],
        not_before: T0,
        not_after: T0.plus(Duration::from_secs(24 * 3600)),
        certificate: Arc::from([0x30, 0x00]),
    }
}

pub(crate) fn node(id: NodeId, key: u8) -> NodeRecord {
    NodeRecord {
        id,
        name: NodeName::parse(&format!("node-{key}")).unwrap(),
        raft_address: format!("127.0.0.{key}:7001"),
        api_address: format!("127.0.0.{key}:7000"),
        http_address: format!("127.0.0.{key}:7002"),
        spki_hash: [key; 32],
        hpke_public: vec![key; 32],
    }
}

/// A certificate of `generation` for a key, valid for an hour from `T0`.
pub(crate) fn issued(instance: InstanceId, generation: Generation, key: u8) -> Issued {
    Issued {
        instance: Some(instance),
        generation,
        serial: serial(1000 * generation + u64::from(key)),
        issuer: issuer("demo"),
        authority: authority("root"),
        authority_serial: serial(1),
        not_before: T0,
        not_after: T0.plus(Duration::from_secs(3600)),
        renew_at: Some(T0.plus(Duration::from_secs(2400))),
        spki_hash: [key; 32],
        certificate: Arc::from([0x30, 0x00]),
    }
}

pub(crate) fn delivered(instance: InstanceId, generation: Generation, target: Option<&str>, stage: Stage) -> Delivered {
    Delivered {
        instance,
        generation,
        target: target.map(|name| TargetName::parse(name).unwrap()),
        stage,
        failure: None,
        elapsed: Duration::from_millis(5),
    }
}

/// An instance's id by where its certificate was declared.
pub(crate) fn instance(index: u64, number: u32) -> InstanceId {
    InstanceId { certificate: Uid(Position { index, ordinal: 0 }), number }
}

pub(crate) fn declared(certificate: &str, spec: CertificateSpec) -> (StreamId, Event) {
    let name = name(certificate);
    (name.stream(), Event::CertificateDeclared { name, spec: Arc::new(spec) })
}

pub(crate) fn registered(who: &str, pairs: &[(&str, &str)]) -> (StreamId, Event) {
    let agent = agent(who);
    let event = Event::AgentRegistered { name: agent.clone(), labels: labels(pairs), spki_hash: [1; 32] };
    (agent.stream(), event)
}

pub(crate) fn token_created(id: &str, grant: TokenGrant) -> (StreamId, Event) {
    let id = token(id);
    let expires_at = T0.plus(Duration::from_secs(600));
    (id.stream(), Event::TokenCreated { id, secret_hash: [9; 32], grant, expires_at })
}

pub(crate) fn bootstrapped() -> (StreamId, Event) {
    (cluster_stream(), Event::ClusterBootstrapped { cluster_id: ClusterId([5; 16]), epoch: 1 })
}

pub(crate) fn joined(id: NodeId, key: u8) -> (StreamId, Event) {
    (cluster_stream(), Event::NodeJoined(Box::new(node(id, key))))
}

/// The data key, wrapped to that node.
pub(crate) fn wrapped(node_id: NodeId, data_key_id: u64) -> (StreamId, Event) {
    (cluster_stream(), Event::DataKeyWrapped { node_id, data_key_id, wrapped: vec![8] })
}

/// Index at which [`estate`] declares its certificate.
pub(crate) const WEB: u64 = 8;

/// One node that holds data key 1, authority `root` (certified), issuer `demo`, agent `a1`, certificate `web` held by it, instance 1.
pub(crate) fn estate() -> Vec<(StreamId, Event)> {
    let root = authority("root").stream();
    vec![
        bootstrapped(),
        joined(1, 1),
        wrapped(1, 1),
        (
            root.clone(),
            Event::AuthorityDeclared {
                name: authority("root"),
                spec: authority_spec(None),
                public_key: vec![4; 91],
                sealed_key: sealed(),
            },
        ),
        (
            root,
            Event::AuthorityCertified {
                serial: serial(1),
                not_before: T0,
                not_after: T0.plus(Duration::from_secs(10 * 365 * 24 * 3600)),
                certificate: Arc::from([0x30, 0x00]),
            },
        ),
        (issuer("demo").stream(), Event::IssuerDeclared { name: issuer("demo"), spec: issuer_spec("root") }),
        registered("a1", &[("zone", "a")]),
        declared("web", spec(on("a1"))),
        (name("web").stream(), Event::InstanceAdded { instance: instance(WEB, 1), agent: agent("a1") }),
    ]
}

/// The instance of [`estate`]'s certificate.
pub(crate) fn web() -> InstanceId {
    instance(WEB, 1)
}

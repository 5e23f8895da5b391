//! One full value of every stored shape, for golden octets and round trips.
//!
//! It refuses defaults: every field has a value that another field does not have, every option is there.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use certwright_core::Event;
use certwright_core::event::{Delivered, Identity, Issued, NodeRecord, SealedKey, Stage, TokenGrant, Trigger};
use certwright_core::ids::{
    AdministratorName, AgentName, AuthorityName, CertificateName, ClusterId, InstanceId, IssuerName, NodeName, Serial,
    TargetName, TokenId, Uid,
};
use certwright_core::log::{Append, Guard, Position, RequestId, StreamId, Trace, Transaction};
use certwright_core::spec::{
    AuthorityPurpose, AuthoritySpec, CertificateSpec, Dialect, FilesSink, Holder, IssuerKind, IssuerSpec, KeyAlgorithm,
    KeyEncoding, Labels, PackedSpec, PrivateKeySpec, Reload, ReloadAction, RotationPolicy, ServedCheck, Sink, Subject,
    Target, Usage,
};
use certwright_core::state::{
    Agent, Authority, Certificate, Certified, Cluster, Cut, Delivery, Generated, IdentityState, Instance, Issuer, Node,
    Open, Token,
};
use certwright_core::time::Timestamp;

pub(crate) fn serial(first: u8) -> Serial {
    let mut octets = [0xa5; 20];
    octets[0] = first;
    Serial::from_octets(octets).unwrap()
}

pub(crate) fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + millis)
}

pub(crate) fn position(index: u64, ordinal: u32) -> Position {
    Position { index, ordinal }
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

pub(crate) fn agent_name() -> AgentName {
    AgentName::parse("edge-1").unwrap()
}

pub(crate) fn certificate_name() -> CertificateName {
    CertificateName::parse("web", "front").unwrap()
}

pub(crate) fn instance_id() -> InstanceId {
    InstanceId { certificate: Uid(position(7, 2)), number: 3 }
}

fn targets() -> Vec<Target> {
    let files = FilesSink {
        directory: "/etc/nginx/tls".to_owned(),
        names: labels(&[("cert.pem", "tls.crt"), ("key.pem", "tls.key")]),
        owner: Some("root".to_owned()),
        group: Some("www-data".to_owned()),
        mode: Some(0o640),
    };
    let signal = ReloadAction::Signal { signal: "HUP".to_owned(), pid_file: "/run/nginx.pid".to_owned() };
    vec![
        Target {
            name: TargetName::parse("nginx").unwrap(),
            holder: Holder::Selector(labels(&[("region", "eu"), ("role", "edge")])),
            sink: Sink::Files(files),
            reload: Some(Reload { action: signal, test_exec: words(&["nginx", "-t"]), timeout_seconds: 20 }),
            served_check: Some(ServedCheck {
                address: "127.0.0.1:443".to_owned(),
                server_name: "front.example.com".to_owned(),
            }),
        },
        Target {
            name: TargetName::parse("exec").unwrap(),
            holder: Holder::Agent(agent_name()),
            sink: Sink::Files(FilesSink { directory: "/srv/tls".to_owned(), ..FilesSink::default() }),
            reload: Some(Reload {
                action: ReloadAction::Exec(words(&["systemctl", "reload", "haproxy"])),
                test_exec: Vec::new(),
                timeout_seconds: 30,
            }),
            served_check: None,
        },
    ]
}

/// Every field there; no Secret target, which the API refuses.
pub(crate) fn spec() -> CertificateSpec {
    CertificateSpec {
        dialect: Dialect::Certwright,
        common_name: Some("front.example.com".to_owned()),
        dns_names: words(&["front.example.com", "*.front.example.com"]),
        ip_addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        uris: words(&["spiffe://example.com/front"]),
        email_addresses: words(&["ops@example.com"]),
        subject: Subject {
            organizations: words(&["Example"]),
            organizational_units: words(&["Web"]),
            countries: words(&["DE"]),
            localities: words(&["Berlin"]),
            provinces: words(&["BE"]),
            street_addresses: words(&["Street 1"]),
            postal_codes: words(&["10115"]),
            serial_number: Some("42".to_owned()),
        },
        duration: Some(Duration::from_secs(30)),
        renew_before: Some(Duration::from_millis(10_500)),
        renew_before_percentage: Some(33),
        usages: vec![Usage::DigitalSignature, Usage::ServerAuth],
        is_ca: true,
        private_key: PrivateKeySpec {
            algorithm: KeyAlgorithm::EcdsaP384,
            encoding: KeyEncoding::Pkcs8,
            rotation_policy: RotationPolicy::Never,
        },
        revision_history_limit: Some(5),
        issuer: IssuerName::parse("demo").unwrap(),
        targets: targets(),
        labels: labels(&[("app", "front"), ("team", "web")]),
        secret_name: Some("front-tls".to_owned()),
    }
}

/// As little as a specification can say, in cert-manager's dialect, with the target kind that the API refuses.
pub(crate) fn small_spec() -> CertificateSpec {
    CertificateSpec {
        dialect: Dialect::CertManager,
        common_name: None,
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        uris: Vec::new(),
        email_addresses: Vec::new(),
        subject: Subject::default(),
        duration: None,
        renew_before: None,
        renew_before_percentage: None,
        usages: Vec::new(),
        is_ca: false,
        private_key: PrivateKeySpec {
            algorithm: KeyAlgorithm::Rsa2048,
            encoding: KeyEncoding::Pkcs1,
            rotation_policy: RotationPolicy::Always,
        },
        revision_history_limit: None,
        issuer: IssuerName::parse("demo").unwrap(),
        targets: vec![Target {
            name: TargetName::parse("secret").unwrap(),
            holder: Holder::Agent(agent_name()),
            sink: Sink::Secret { namespace: "backend".to_owned(), name: "tls".to_owned() },
            reload: None,
            served_check: None,
        }],
        labels: Labels::new(),
        secret_name: None,
    }
}

pub(crate) fn issuer_spec() -> IssuerSpec {
    IssuerSpec {
        kind: IssuerKind::Ca { authority: AuthorityName::parse("demo-ca").unwrap() },
        max_duration: Some(Duration::from_secs(86_400)),
        allowed_dns_suffixes: words(&["example.com"]),
    }
}

pub(crate) fn authority_spec() -> AuthoritySpec {
    AuthoritySpec {
        common_name: "Demo CA".to_owned(),
        key_algorithm: KeyAlgorithm::EcdsaP256,
        parent: Some(AuthorityName::parse("demo-root").unwrap()),
        duration: Duration::from_secs(31_536_000),
        path_len: Some(0),
        purpose: AuthorityPurpose::Issuing,
    }
}

pub(crate) fn node_record() -> NodeRecord {
    NodeRecord {
        id: 4,
        name: NodeName::parse("node-4").unwrap(),
        raft_address: "10.0.0.4:7443".to_owned(),
        api_address: "10.0.0.4:7444".to_owned(),
        http_address: "10.0.0.4:7480".to_owned(),
        spki_hash: [0x11; 32],
        hpke_public: vec![0x12; 5],
    }
}

pub(crate) fn identity() -> Identity {
    Identity {
        serial: serial(0x21),
        spki_hash: [0x22; 32],
        not_before: at(1_000),
        not_after: at(2_000),
        certificate: Arc::from([0x30, 0x23]),
    }
}

pub(crate) fn sealed_key() -> SealedKey {
    SealedKey { data_key_id: 6, sealed: b"sealed-canary".to_vec() }
}

pub(crate) fn agent_grant() -> TokenGrant {
    TokenGrant::Agent { name: Some(agent_name()), labels: labels(&[("role", "edge")]) }
}

pub(crate) fn issued() -> Issued {
    Issued {
        instance: Some(instance_id()),
        generation: 9,
        serial: serial(0x31),
        issuer: IssuerName::parse("demo").unwrap(),
        authority: AuthorityName::parse("demo-ca").unwrap(),
        authority_serial: serial(0x32),
        not_before: at(3_000),
        not_after: at(4_000),
        renew_at: Some(at(3_666)),
        spki_hash: [0x33; 32],
        certificate: Arc::from([0x30, 0x34]),
    }
}

/// A direct issuance.
pub(crate) fn direct() -> Issued {
    Issued { instance: None, generation: 1, renew_at: None, ..issued() }
}

pub(crate) fn delivered() -> Delivered {
    Delivered {
        instance: instance_id(),
        generation: 9,
        target: Some(TargetName::parse("nginx").unwrap()),
        stage: Stage::Written,
        failure: Some(("RELOAD_FAILED".to_owned(), "exit status 1".to_owned())),
        elapsed: Duration::from_millis(1_250),
    }
}

/// Every variant of `Event`, some twice for their other shape.
pub(crate) fn events() -> Vec<Event> {
    let mut events = cluster_events();
    events.extend(joining_events());
    events.extend(issuing_events());
    events.extend(certificate_events());
    events
}

fn cluster_events() -> Vec<Event> {
    let name = AdministratorName::parse("admin").unwrap();
    vec![
        Event::ClusterBootstrapped { cluster_id: ClusterId([0x01; 16]), epoch: 2 },
        Event::NodeJoined(Box::new(node_record())),
        Event::DataKeyWrapped { node_id: 4, data_key_id: 6, wrapped: b"wrapped-canary".to_vec() },
        Event::DataKeyProved { node_id: 4, data_key_id: 6 },
        Event::NodeRemoved { node_id: 4 },
        Event::NodeIdentityIssued { node_id: 4, identity: identity() },
        Event::AdministratorIdentityIssued { name, identity: identity() },
    ]
}

fn joining_events() -> Vec<Event> {
    let id = TokenId::parse("t-1").unwrap();
    let secret_hash = *b"secret-hash-canary-secret-hash-c";
    vec![
        Event::TokenCreated { id: id.clone(), secret_hash, grant: TokenGrant::Node, expires_at: at(5_000) },
        Event::TokenCreated { id, secret_hash, grant: agent_grant(), expires_at: at(5_000) },
        Event::TokenConsumed { spki_hash: [0x41; 32] },
        Event::TokenRevoked,
        Event::AgentRegistered { name: agent_name(), labels: labels(&[("role", "edge")]), spki_hash: [0x42; 32] },
        Event::AgentLabelsChanged { labels: labels(&[("region", "eu"), ("role", "edge")]) },
        Event::AgentIdentityIssued { identity: identity() },
        Event::AgentRemoved,
    ]
}

fn issuing_events() -> Vec<Event> {
    let name = AuthorityName::parse("demo-ca").unwrap();
    let reserved = IssuerSpec { kind: IssuerKind::Reserved("acme".to_owned()), max_duration: None, ..issuer_spec() };
    vec![
        Event::AuthorityDeclared {
            name,
            spec: authority_spec(),
            public_key: b"public".to_vec(),
            sealed_key: sealed_key(),
        },
        Event::AuthorityCertificateIntended { serial: serial(0x51), tbs_hash: [0x52; 32] },
        Event::AuthorityCertified {
            serial: serial(0x51),
            not_before: at(6_000),
            not_after: at(7_000),
            certificate: Arc::from([0x30, 0x53]),
        },
        Event::IssuerDeclared { name: IssuerName::parse("demo").unwrap(), spec: issuer_spec() },
        Event::IssuerUpdated { spec: reserved },
        Event::IssuerDeleted,
    ]
}

fn certificate_events() -> Vec<Event> {
    let (instance, generation) = (instance_id(), 9);
    let bare = Delivered { target: None, stage: Stage::Received, failure: None, ..delivered() };
    vec![
        Event::CertificateDeclared { name: certificate_name(), spec: Arc::new(spec()) },
        Event::CertificateUpdated { spec: Arc::new(small_spec()) },
        Event::CertificateDeleted,
        Event::InstanceAdded { instance, agent: agent_name() },
        Event::InstanceRemoved { instance },
        Event::IssuanceOpened { instance, generation, trigger: Trigger::Due },
        Event::IssuanceFailed {
            instance,
            generation,
            reason: "ISSUER_NOT_READY".to_owned(),
            message: "not yet".to_owned(),
            retry_at: at(8_000),
        },
        Event::IssuanceAbandoned { instance, generation, reason: "SPEC_CHANGED".to_owned() },
        Event::CertificateDelivered(delivered()),
        Event::CertificateDelivered(bare),
        Event::CertificateIssued(Box::new(issued())),
        Event::CertificateIssued(Box::new(direct())),
    ]
}

/// A transaction with guards, a keyed append of two events and a once append.
pub(crate) fn transaction() -> Transaction<Event> {
    Transaction {
        request_id: RequestId([0x61; 16]),
        request_digest: [0x62; 16],
        actor: "administrator/admin".into(),
        trace: Trace { trace_id: [0x63; 16], span_id: [0x64; 8] },
        guards: vec![
            Guard { stream: StreamId::new("issuers/demo"), revision: 3 },
            Guard { stream: StreamId::new("authorities/demo-ca"), revision: 0 },
        ],
        appends: vec![
            Append {
                stream: certificate_name().stream(),
                expected: Some(0),
                events: vec![
                    Event::CertificateDeclared { name: certificate_name(), spec: Arc::new(spec()) },
                    Event::InstanceAdded { instance: instance_id(), agent: agent_name() },
                ],
            },
            Append {
                stream: StreamId::new("direct/31"),
                expected: None,
                events: vec![Event::CertificateIssued(Box::new(direct()))],
            },
        ],
    }
}

fn identity_state() -> IdentityState {
    IdentityState { serial: serial(0x71), spki_hash: [0x72; 32], not_after: at(9_000), position: position(11, 1) }
}

pub(crate) fn certificate() -> Certificate {
    Certificate {
        uid: Uid(position(7, 2)),
        revision: 12,
        name: certificate_name(),
        spec: PackedSpec::pack(&spec()),
        spec_revision: 4,
        created_at: at(10_000),
        updated_at: at(11_000),
        next_instance: 5,
        instances: vec![instance(), bare_instance()],
    }
}

pub(crate) fn instance() -> Instance {
    let failure = Some(Box::new(("RELOAD_FAILED".to_owned(), "exit status 1".to_owned())));
    Instance {
        id: instance_id(),
        agent: agent_name(),
        changed: position(13, 1),
        current: Some(Generated {
            generation: 9,
            serial: serial(0x31),
            spki_hash: [0x33; 32],
            not_before: at(3_000),
            not_after: at(40_000),
            renew_at: at(3_666),
            spec_revision: 4,
            position: position(12, 3),
        }),
        open: Some(Open { generation: 10, opened_at: at(12_000), trigger: Trigger::Requested }),
        failures: 2,
        last_failure: Some(Box::new(("ISSUER_NOT_READY".to_owned(), "not yet".to_owned(), at(8_000)))),
        retry_at: Some(at(8_002)),
        deliveries: vec![
            Delivery { target: None, generation: 9, stage: Stage::Verified, failure: None, at: at(13_000) },
            Delivery {
                target: Some(TargetName::parse("nginx").unwrap()),
                generation: 9,
                stage: Stage::Written,
                failure,
                at: at(14_000),
            },
        ],
    }
}

/// An instance to which nothing has happened.
pub(crate) fn bare_instance() -> Instance {
    Instance {
        id: InstanceId { number: 4, ..instance_id() },
        agent: AgentName::parse("edge-2").unwrap(),
        changed: position(7, 2),
        current: None,
        open: None,
        failures: 0,
        last_failure: None,
        retry_at: None,
        deliveries: Vec::new(),
    }
}

fn cluster() -> Cluster {
    let node = Node {
        record: node_record(),
        wrapped: BTreeMap::from([(5, b"old".to_vec()), (6, b"new".to_vec())]),
        proved: Some(6),
        identity: Some(identity_state()),
        removed: false,
    };
    let gone = Node {
        record: NodeRecord { id: 2, name: NodeName::parse("node-2").unwrap(), ..node_record() },
        wrapped: BTreeMap::new(),
        proved: None,
        identity: None,
        removed: true,
    };
    Cluster {
        revision: 20,
        id: Some(ClusterId([0x01; 16])),
        epoch: 2,
        last_node_id: 4,
        nodes: BTreeMap::from([(2, gone), (4, node)]),
        data_key_id: 6,
        administrators: BTreeMap::from([(AdministratorName::parse("admin").unwrap(), identity_state())]),
    }
}

pub(crate) fn token() -> Token {
    Token {
        uid: Uid(position(14, 0)),
        revision: 2,
        id: TokenId::parse("t-1").unwrap(),
        secret_hash: [0x43; 32],
        grant: agent_grant(),
        created_at: at(15_000),
        expires_at: at(16_000),
        consumed_by: Some([0x44; 32]),
        revoked: true,
    }
}

pub(crate) fn agent() -> Agent {
    Agent {
        uid: Uid(position(15, 0)),
        revision: 3,
        name: agent_name(),
        labels: labels(&[("region", "eu"), ("role", "edge")]),
        registered_at: at(17_000),
        spki_hash: [0x45; 32],
        identity: Some(identity_state()),
    }
}

pub(crate) fn issuer() -> Issuer {
    Issuer {
        uid: Uid(position(16, 0)),
        revision: 1,
        name: IssuerName::parse("demo").unwrap(),
        spec: issuer_spec(),
        created_at: at(18_000),
    }
}

pub(crate) fn authority() -> Authority {
    Authority {
        uid: Uid(position(17, 0)),
        revision: 3,
        name: AuthorityName::parse("demo-ca").unwrap(),
        spec: authority_spec(),
        public_key: b"public".to_vec(),
        sealed_key: sealed_key(),
        intended: Some((serial(0x51), [0x52; 32])),
        certified: Some(Certified {
            serial: serial(0x51),
            not_before: at(6_000),
            not_after: at(7_000),
            certificate: Arc::from([0x30, 0x53]),
        }),
    }
}

/// One of everything.
pub(crate) fn cut() -> Cut {
    let mut cut = Cut { cluster: cluster(), applied: position(99, 1), ..Cut::default() };
    cut.tokens.insert(token());
    cut.agents.insert(agent());
    cut.issuers.insert(issuer());
    cut.authorities.insert(authority());
    cut.certificates.insert(certificate());
    cut
}

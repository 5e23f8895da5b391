//! Samples of events, and of the transaction that appends some.
//!
//! It refuses to forget a kind: the tests count them.

use std::sync::Arc;
use std::time::Duration;

use certwright_core::event::{
    Delivered, EpochCause, EpochOpened, HistoryTrimmed, Identity, Issued, NodeRecord, SealedKey, SignedCheckpoint,
    Stage, TokenGrant, Trigger,
};
use certwright_core::ids::{AdministratorName, AuthorityName, ClusterId, IssuerName, NodeName, TargetName, TokenId};
use certwright_core::log::{Append, Guard, RequestId, StreamId, Trace, Transaction};
use certwright_core::spec::{IssuerKind, IssuerSpec};
use certwright_core::{Event, Format};

use super::*;

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

pub(crate) fn signed_checkpoint() -> SignedCheckpoint {
    SignedCheckpoint { epoch: 2, index: 17, chain: [0x14; 32], at: at(500), signature: [0x15; 64] }
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

pub(crate) fn epoch_opened() -> EpochOpened {
    let (after_chain, after) = ([0x15; 32], at(7_000));
    EpochOpened { epoch: 3, cause: EpochCause::Restored, after_index: 41, after_chain, after, at: at(8_000) }
}

pub(crate) fn history_trimmed() -> HistoryTrimmed {
    let (chain, digest) = ([0x16; 32], [0x17; 32]);
    let (last_at, last_not_after) = (at(7_000), at(6_000));
    HistoryTrimmed { first_index: 40, chain, digest, digest_version: 1, last_at, last_not_after }
}

fn cluster_events() -> Vec<Event> {
    let name = AdministratorName::parse("admin").unwrap();
    vec![
        Event::ClusterBootstrapped { cluster_id: ClusterId([0x01; 16]), epoch: 2 },
        Event::NodeJoined(Box::new(node_record())),
        Event::DataKeyWrapped { node_id: 4, data_key_id: 6, wrapped: b"wrapped-canary".to_vec() },
        Event::DataKeyProved { node_id: 4, data_key_id: 6 },
        Event::NodeRemoved { node_id: 4 },
        Event::DataKeyRotated { data_key_id: 8, wrapped: vec![(5, b"wrapped-canary".to_vec()), (6, vec![])] },
        Event::DataKeyRetired { data_key_id: 6 },
        Event::NodeIdentityIssued { node_id: 4, identity: identity() },
        Event::AdministratorIdentityIssued { name, identity: identity() },
        Event::CheckpointKeyMade { public_key: [0x13; 32], sealed_key: sealed_key() },
        Event::CheckpointKeyResealed { sealed_key: sealed_key() },
        Event::CheckpointSigned(Box::new(signed_checkpoint())),
        Event::NodeRoleSet { node_id: 4, learner: true },
        Event::RenewalsHeld { ahead_millis: 3_600_000 },
        Event::RenewalsReleased,
        Event::EpochOpened(Box::new(epoch_opened())),
        Event::FormatRaised { format: Format(2) },
        Event::TimeRebased { from: at(86_400_000), to: at(3_600_000) },
        Event::RetentionSet { keep_seconds: 86_400 },
        Event::HistoryTrimmed(Box::new(history_trimmed())),
    ]
}

fn joining_events() -> Vec<Event> {
    let (id, learner) = (TokenId::parse("t-1").unwrap(), TokenId::parse("t-2").unwrap());
    let secret_hash = *b"secret-hash-canary-secret-hash-c";
    vec![
        Event::TokenCreated { id: id.clone(), secret_hash, grant: TokenGrant::Node, expires_at: at(5_000) },
        Event::TokenCreated { id, secret_hash, grant: agent_grant(), expires_at: at(5_000) },
        Event::TokenConsumed { spki_hash: [0x41; 32] },
        Event::TokenRevoked,
        Event::AgentRegistered { name: agent_name(), labels: labels(&[("role", "edge")]), spki_hash: [0x42; 32] },
        Event::AgentLabelsChanged { labels: labels(&[("region", "eu"), ("role", "edge")]) },
        Event::AgentIdentityIssued { identity: identity(), readmitted: true },
        Event::AgentRemoved,
        Event::TokenCreated { id: learner, secret_hash, grant: TokenGrant::Learner, expires_at: at(5_000) },
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
        Event::AuthorityKeyResealed { sealed_key: sealed_key() },
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

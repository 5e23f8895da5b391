//! Samples of live state, and one cut that holds one of everything.
//!
//! It refuses invariants: these are shapes, not a state that could come to be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use certwright_core::Format;
use certwright_core::event::{NodeRecord, Stage, Trigger};
use certwright_core::ids::{AdministratorName, AuthorityName, ClusterId, IssuerName, NodeName, TargetName, TokenId};
use certwright_core::spec::PackedSpec;
use certwright_core::state::{
    Agent, Authority, Certificate, Certified, CheckpointKey, Checkpoints, Cluster, Cut, Delivery, Generated,
    IdentityState, Instance, Issuer, Node, Open, Rebase, RenewalHold, Retention, Setting, Token,
};

use super::*;

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
        learner: false,
    };
    let gone = Node {
        record: NodeRecord { id: 2, name: NodeName::parse("node-2").unwrap(), ..node_record() },
        wrapped: BTreeMap::new(),
        proved: None,
        identity: None,
        removed: true,
        learner: true,
    };
    Cluster {
        revision: 20,
        id: Some(ClusterId([0x01; 16])),
        epoch: 3,
        epochs: vec![epoch_opened()],
        last_node_id: 4,
        nodes: BTreeMap::from([(2, gone), (4, node)]),
        data_key_id: 6,
        administrators: BTreeMap::from([(AdministratorName::parse("admin").unwrap(), identity_state())]),
        hold: Some(RenewalHold { since: at(20_000), ahead_millis: 3_600_000, hour: at(21_000), begun: 7 }),
        released_at: Some(at(19_000)),
        checkpoints: Checkpoints {
            revision: 3,
            key: Some(CheckpointKey { public_key: [0x13; 32], sealed_key: sealed_key() }),
            last: Some((signed_checkpoint(), position(18, 1))),
        },
        format: Format::FIRST,
        rebases: Vec::new(),
        retention: Retention::default(),
    }
}

/// A cluster with all that came with format 3: its log time was set back, and old history was let go.
pub(crate) fn newer_cluster() -> Cluster {
    let rebases = vec![Rebase { index: 18, from: at(86_400_000), to: at(3_600_000) }];
    let (keep, since) = (Some(Duration::from_secs(86_400)), Some(at(5_000)));
    let under = Some(Setting { keep: Duration::from_secs(172_800), since: at(4_000) });
    let retention = Retention { keep, since, trimmed: Some(history_trimmed()), under };
    Cluster { format: Format(3), rebases, retention, ..cluster() }
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
        previous_spki_hash: Some([0x46; 32]),
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

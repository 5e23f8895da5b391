//! A small estate to decide against, and what must hold of every decision.
//!
//! It refuses a log: one decision is folded into a copy of the estate and thrown away.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use certwright_core::command::Command;
use certwright_core::decide::{Decision, decide};
use certwright_core::event::{Identity, Issued, NodeRecord, SealedKey, TokenGrant, Trigger};
use certwright_core::ids::{
    Actor, AgentName, AuthorityName, CertificateName, ClusterId, IssuerName, NodeName, Serial, TokenId,
};
use certwright_core::log::{Codec, Fold, Position, RequestId, Trace, Transaction};
use certwright_core::policy::{Action, AuthorizedActor, Resource, authorize};
use certwright_core::spec::Labels;
use certwright_core::state::{Cut, State};
use certwright_core::time::Timestamp;
use certwright_core::{Context, Event};
use certwright_proto::api;
use certwright_proto::storage::{DomainCodec, EntryBuilder, decode_entry, encode_transaction};
use certwright_raft::limits::ENTRY_OCTETS_MAX;

use crate::manifest::wishes;
use crate::verdict;

/// Log time: 2027-01-15.
pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
/// The estate's cluster.
pub(crate) const CLUSTER: ClusterId = ClusterId([5; 16]);
/// SHA-256 of the secret of [`TOKEN`].
pub(crate) const SECRET_HASH: [u8; 32] = [9; 32];
/// A token for agents.
pub(crate) const TOKEN: &str = "t-agents";
/// A token for servers.
pub(crate) const NODE_TOKEN: &str = "t-nodes";

const AUTHORITIES: &str = include_str!("../../../examples/authorities.yaml");
const ISSUERS: &str = include_str!("../../../examples/issuers.yaml");
const SHOP: &str = include_str!("../../../examples/shop.yaml");

static ESTATE: LazyLock<Cut> = LazyLock::new(found);

/// The estate.
pub(crate) fn state() -> State {
    State::from_parts(ESTATE.clone())
}

fn actor() -> AuthorizedActor {
    authorize(&Actor::System, Action::Internal, &Resource::Cluster).expect("the system may do what it must")
}

fn context() -> Context {
    Context { now: NOW, draw: [3; 32] }
}

pub(crate) fn serial(number: u8) -> Serial {
    Serial::from_random([number | 1; 20])
}

pub(crate) fn identity(number: u8) -> Identity {
    Identity {
        serial: serial(number),
        spki_hash: [number; 32],
        not_before: NOW,
        not_after: NOW.plus(Duration::from_secs(24 * 3600)),
        certificate: Arc::from([0x30, 0x00]),
    }
}

pub(crate) fn sealed() -> SealedKey {
    SealedKey { data_key_id: 1, sealed: vec![7; 60] }
}

pub(crate) fn node(id: u64, name: NodeName, addresses: [String; 3], hpke_public: Vec<u8>) -> Box<NodeRecord> {
    let [raft_address, api_address, http_address] = addresses;
    Box::new(NodeRecord { id, name, raft_address, api_address, http_address, spki_hash: [id as u8; 32], hpke_public })
}

/// The first commands of the estate.
fn commands() -> Vec<Command> {
    let name = NodeName::parse("node-1").expect("a name");
    let addresses = ["127.0.0.1:7001", "127.0.0.1:7000", "127.0.0.1:7002"].map(str::to_owned);
    let node = node(1, name, addresses, vec![1; 32]);
    let mut commands =
        vec![Command::BootstrapCluster { cluster_id: CLUSTER, epoch: 1, node, data_key_id: 1, wrapped: vec![8; 80] }];
    for authority in wishes(AUTHORITIES).authorities {
        let (name, spec) = api::authority::authority_from_message(Some(authority)).expect("an example");
        let (not_after, number) = (NOW.plus(spec.duration), commands.len() as u8);
        commands.push(Command::DeclareAuthority {
            name: name.clone(),
            spec,
            public_key: vec![4; 91],
            sealed_key: sealed(),
        });
        let (serial, tbs_hash) = (serial(100 + 2 * number), [number; 32]);
        commands.push(Command::IntendAuthorityCertificate { name: name.clone(), serial, tbs_hash });
        commands.push(Command::RecordAuthorityCertificate {
            name,
            serial,
            not_before: NOW,
            not_after,
            certificate: Arc::from([0x30, 0x00]),
        });
    }
    for issuer in wishes(ISSUERS).issuers {
        let wish = api::issuer::issuer_from_message(Some(issuer)).expect("an example");
        commands.push(Command::CreateIssuer { name: wish.name, spec: wish.spec });
    }
    let labels = Labels::from([("zone".to_owned(), "a".to_owned())]);
    let agent = AgentName::parse("edge-7").expect("a name");
    let grants = [(TOKEN, TokenGrant::Agent { name: None, labels: labels.clone() }), (NODE_TOKEN, TokenGrant::Node)];
    for (id, grant) in grants {
        let id = TokenId::parse(id).expect("a name");
        let expires_at = NOW.plus(Duration::from_secs(900));
        commands.push(Command::CreateToken { id, secret_hash: SECRET_HASH, grant, expires_at });
    }
    let token = TokenId::parse("t-used").expect("a name");
    let (grant, expires_at) =
        (TokenGrant::Agent { name: None, labels: labels.clone() }, NOW.plus(Duration::from_secs(9)));
    commands.push(Command::CreateToken { id: token.clone(), secret_hash: SECRET_HASH, grant, expires_at });
    commands.push(Command::AdmitAgent { token, secret_hash: SECRET_HASH, agent, labels, identity: identity(21) });
    for certificate in wishes(SHOP).certificates {
        let wish = api::certificate::certificate_from_message(Some(certificate)).expect("an example");
        commands.push(Command::CreateCertificate { name: wish.name, spec: wish.spec });
    }
    commands
}

fn found() -> Cut {
    let mut state = State::default();
    let mut index = 0;
    let mut carry_out = |state: &mut State, command: &Command| {
        index += 1;
        let decision = decide(state, &actor(), command, &context()).unwrap_or_else(|why| panic!("{command:?}: {why}"));
        fold(state, index, &decision);
    };
    commands().iter().for_each(|command| carry_out(&mut state, command));
    for command in issuances(&state) {
        carry_out(&mut state, &command);
    }
    state.cut()
}

/// A first generation of every instance.
fn issuances(state: &State) -> Vec<Command> {
    let instances = state.certificates.iter().flat_map(|it| it.instances.iter().map(move |one| (it, one.id)));
    let commands = instances.zip(50..).flat_map(|((certificate, instance), number)| {
        let name: CertificateName = certificate.name.clone();
        let issued = issued(&certificate.spec().issuer, number);
        let issued = Issued { instance: Some(instance), ..issued };
        [
            Command::OpenIssuance { certificate: name.clone(), instance, generation: 1, trigger: Trigger::First },
            Command::RecordIssued { certificate: name, issued: Box::new(issued), guards: Vec::new() },
        ]
    });
    commands.collect()
}

pub(crate) fn issued(issuer: &IssuerName, number: u8) -> Issued {
    Issued {
        instance: None,
        generation: 1,
        serial: serial(2 * number),
        issuer: issuer.clone(),
        authority: AuthorityName::parse("example-ca").expect("a name"),
        authority_serial: serial(1),
        not_before: NOW,
        not_after: NOW.plus(Duration::from_secs(3600)),
        renew_at: Some(NOW.plus(Duration::from_secs(2400))),
        spki_hash: [number; 32],
        certificate: Arc::from([0x30, 0x00]),
    }
}

fn fold(state: &mut State, index: u64, decision: &Decision) {
    for append in &decision.appends {
        append.fold_into(state, Position { index, ordinal: 0 }, NOW, "system");
    }
}

/// Decides a command and holds the decision against all that must be so of any.
///
/// # Panics
/// When it is not.
pub(crate) fn decided(command: &Command) {
    let mut state = state();
    let Some(decision) = verdict::accepted(decide(&state, &actor(), command, &context())) else { return };
    for guard in &decision.guards {
        assert_eq!(state.revision(&guard.stream), guard.revision, "guard on {}", guard.stream);
    }
    for append in &decision.appends {
        assert!(!append.events.is_empty());
        assert!(append.expected.is_none_or(|expected| state.revision(&append.stream) == expected), "{append:?}");
    }
    stored(&decision);
    let index = state.applied.index + 1;
    fold(&mut state, index, &decision);
    kept(&state);
    verdict::took();
}

/// The log takes the transaction and gives it back.
fn stored(decision: &Decision) {
    let transaction = Transaction {
        request_id: RequestId([1; 16]),
        request_digest: [2; 16],
        actor: Arc::from("administrator/ada"),
        trace: Trace::default(),
        guards: decision.guards.clone(),
        appends: decision.appends.clone(),
    };
    let mut entry = EntryBuilder::new();
    entry.push(&encode_transaction::<State>(&DomainCodec, &transaction));
    assert!(entry.octets() <= ENTRY_OCTETS_MAX, "an entry of {} octets", entry.octets());
    let read = decode_entry::<State>(&DomainCodec, entry.finish(NOW)).expect("what was written is read");
    assert_eq!(read.transactions, [transaction]);
    told(&read.transactions[0]);
}

/// Watchers are told of it.
pub(crate) fn told(transaction: &Transaction<Event>) {
    let events: usize = transaction.appends.iter().map(|append| append.events.len()).sum();
    let told = api::event::events_of(Position { index: 99, ordinal: 1 }, NOW, transaction);
    assert_eq!(told.len(), events);
}

/// A snapshot of the state gives the state.
pub(crate) fn kept(state: &State) {
    let cut = state.cut();
    let mut chunks = Vec::new();
    DomainCodec.encode_cut(&cut, &mut |chunk| chunks.push(chunk.to_vec()));
    let read = DomainCodec.decode_cut(&mut chunks.clone().into_iter()).expect("what was written is read");
    assert_eq!(read.cut(), cut);
    let mut once_more = Vec::new();
    DomainCodec.encode_cut(&read.cut(), &mut |chunk| once_more.push(chunk.to_vec()));
    assert_eq!(once_more, chunks);
}

/// The estate as the chunks of its snapshot.
pub(crate) fn chunks() -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    DomainCodec.encode_cut(&ESTATE, &mut |chunk| chunks.push(chunk.to_vec()));
    chunks
}

/// Entries that the first commands amount to.
pub(crate) fn entries() -> Vec<Bytes> {
    let mut state = State::default();
    let mut entries = Vec::new();
    for (command, index) in commands().iter().zip(1..) {
        let decision = decide(&state, &actor(), command, &context()).expect("it was decided before");
        fold(&mut state, index, &decision);
        let transaction = Transaction {
            request_id: RequestId([index as u8; 16]),
            request_digest: [2; 16],
            actor: Arc::from("system"),
            trace: Trace::default(),
            guards: decision.guards,
            appends: decision.appends,
        };
        let mut entry = EntryBuilder::new();
        entry.push(&encode_transaction::<State>(&DomainCodec, &transaction));
        entries.push(entry.finish(NOW));
    }
    entries
}

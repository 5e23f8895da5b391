//! Commands: what somebody wants to happen, imperative.
//!
//! It refuses closures and transport: a command is data, forwarded as data, decided on the leader.

use std::sync::Arc;
use std::time::Duration;

use crate::event::{
    Delivered, EpochOpened, HistoryTrimmed, Identity, Issued, NodeRecord, SealedKey, SignedCheckpoint, TokenGrant,
    Trigger,
};
use crate::format::Format;
use crate::ids::{
    AdministratorName, AgentName, AuthorityName, CertificateName, ClusterId, Generation, InstanceId, IssuerName,
    NodeId, Serial, TokenId,
};
use crate::log::{Guard, Revision};
use crate::spec::{AuthoritySpec, CertificateSpec, IssuerSpec, Labels};
use crate::time::Timestamp;

/// An object's version as callers hold it: `{uid}.{revision}`; empty means "whatever it is now".
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Etag(pub String);

/// One wish. Commands that need a signature come in after it was made: `Record*` carries what was signed and the guards
/// under which it was composed, so that nothing composed under an older policy is ever appended.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the variant is the verb; fields are their types")]
pub enum Command {
    // Certificates
    CreateCertificate {
        name: CertificateName,
        spec: Arc<CertificateSpec>,
    },
    UpdateCertificate {
        name: CertificateName,
        etag: Etag,
        spec: Arc<CertificateSpec>,
    },
    DeleteCertificate {
        name: CertificateName,
        etag: Etag,
    },
    /// Open a new generation of every instance now.
    RenewCertificate {
        name: CertificateName,
    },

    // Issuers and authorities
    CreateIssuer {
        name: IssuerName,
        spec: IssuerSpec,
    },
    UpdateIssuer {
        name: IssuerName,
        etag: Etag,
        spec: IssuerSpec,
    },
    DeleteIssuer {
        name: IssuerName,
        etag: Etag,
    },
    /// Step 1 of 3: the sealed key and its public half.
    DeclareAuthority {
        name: AuthorityName,
        spec: AuthoritySpec,
        public_key: Vec<u8>,
        sealed_key: SealedKey,
    },
    /// The same private key, sealed under the data key in use.
    ResealAuthorityKey {
        name: AuthorityName,
        sealed_key: SealedKey,
    },
    /// Step 2 of 3: what will be signed, before it is signed.
    IntendAuthorityCertificate {
        name: AuthorityName,
        serial: Serial,
        tbs_hash: [u8; 32],
    },
    /// Step 3 of 3.
    RecordAuthorityCertificate {
        name: AuthorityName,
        serial: Serial,
        not_before: Timestamp,
        not_after: Timestamp,
        certificate: Arc<[u8]>,
    },

    // Tokens, agents, nodes, administrators
    CreateToken {
        id: TokenId,
        secret_hash: [u8; 32],
        grant: TokenGrant,
        expires_at: Timestamp,
    },
    RevokeToken {
        id: TokenId,
        etag: Etag,
    },
    /// Consumes the token, registers (or re-registers) the agent and records its first identity: one transaction.
    AdmitAgent {
        token: TokenId,
        secret_hash: [u8; 32],
        agent: AgentName,
        labels: Labels,
        identity: Identity,
    },
    /// The same for a server; `node.id` must be the next of the counter, or the id already bound to that key.
    AdmitNode {
        token: TokenId,
        secret_hash: [u8; 32],
        node: Box<NodeRecord>,
        identity: Identity,
        /// The newest format of the log that it knows.
        format: Format,
    },
    SetAgentLabels {
        agent: AgentName,
        etag: Etag,
        labels: Labels,
    },
    RecordAgentIdentity {
        agent: AgentName,
        /// SHA-256 of the key that the caller proved to hold: who has but the key before gets no other key in.
        proved: Option<[u8; 32]>,
        identity: Identity,
    },
    RecordNodeIdentity {
        node_id: NodeId,
        identity: Identity,
    },
    RecordAdministratorIdentity {
        name: AdministratorName,
        identity: Identity,
    },
    RemoveAgent {
        agent: AgentName,
        etag: Etag,
    },
    RemoveNode {
        node_id: NodeId,
    },
    /// Have a node only learn, or vote.
    SetNodeRole {
        node_id: NodeId,
        learner: bool,
    },
    /// Hold renewals back: log time went that much further than time passed.
    HoldRenewals {
        ahead_millis: u64,
    },
    /// Log time is right: begin renewals as they are due again.
    ReleaseRenewals,
    /// Log time is ahead of the voters' clocks: it goes back to what they agree on.
    RebaseTime {
        /// What they show.
        to: Timestamp,
    },
    /// Take a format of the log into use that those servers said they know.
    RaiseFormat {
        format: Format,
        known_by: Vec<NodeId>,
    },
    /// Keep history for so long, or for ever.
    SetRetention {
        keep: Option<Duration>,
    },
    /// Let go of what came before an entry.
    TrimHistory {
        trimmed: HistoryTrimmed,
    },
    WrapDataKey {
        node_id: NodeId,
        data_key_id: u64,
        wrapped: Vec<u8>,
    },
    ProveDataKey {
        node_id: NodeId,
        data_key_id: u64,
    },
    /// Put a new data key, wrapped to every node, in the place of the one that somebody who left could open.
    RotateDataKey {
        replaces: u64,
        data_key_id: u64,
        wrapped: Vec<(NodeId, Vec<u8>)>,
    },
    /// Forget a data key under which nothing is sealed any more.
    RetireDataKey {
        data_key_id: u64,
    },
    /// The key that will sign checkpoints, where there is none yet.
    RecordCheckpointKey {
        public_key: [u8; 32],
        sealed_key: SealedKey,
    },
    /// The same private key, sealed under the data key in use.
    ResealCheckpointKey {
        sealed_key: SealedKey,
    },
    /// How the log stood.
    RecordCheckpoint {
        signed: SignedCheckpoint,
    },
    /// The first transaction of a cluster: itself, its first node, its system authority's declaration comes next.
    BootstrapCluster {
        cluster_id: ClusterId,
        epoch: u64,
        node: Box<NodeRecord>,
        data_key_id: u64,
        wrapped: Vec<u8>,
    },

    /// The first transaction of an epoch: the server that goes on alone, with the data keys wrapped to it. Decided by
    /// whoever restores, before there is a leader.
    OpenEpoch {
        opened: EpochOpened,
        node: Box<NodeRecord>,
        /// The one in use, and those that it has not replaced everywhere yet.
        wrapped: Vec<(u64, Vec<u8>)>,
    },

    // Issuance, leader only
    OpenIssuance {
        certificate: CertificateName,
        instance: InstanceId,
        generation: Generation,
        trigger: Trigger,
    },
    /// Bring a certificate's instances in line with the agents that hold its targets.
    ReconcileCertificate {
        name: CertificateName,
    },
    FailIssuance {
        certificate: CertificateName,
        instance: InstanceId,
        generation: Generation,
        reason: String,
        message: String,
    },
    /// A stored certificate's next generation. Idempotent by (instance, generation, spki_hash).
    RecordIssued {
        certificate: CertificateName,
        issued: Box<Issued>,
        guards: Vec<Guard>,
    },
    /// A generation that an agent held when a backup was restored, proved to be of an authority of ours and to be what the
    /// specification of that revision asks for.
    AdoptHeld {
        certificate: CertificateName,
        issued: Box<Issued>,
        spec_revision: Revision,
    },
    /// An agent's identity of before a restore, proved to be of the system authority.
    ReadmitAgent {
        agent: AgentName,
        identity: Identity,
    },
    /// A direct issuance.
    RecordDirect {
        issued: Box<Issued>,
        guards: Vec<Guard>,
    },
    /// Acknowledgements, coalesced by the session.
    RecordDeliveries {
        agent: AgentName,
        deliveries: Vec<(CertificateName, Delivered)>,
    },
}

//! The facts that the log holds: past tense, immutable, one enum.
//!
//! It refuses commands, private keys in clear and anything that a replica would have to look up to understand.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::checkpoint::Checkpoint;
use crate::format::Format;
use crate::ids::{
    AdministratorName, AgentName, AuthorityName, CertificateName, ClusterId, Generation, InstanceId, IssuerName,
    NodeId, NodeName, Serial, TargetName, TokenId,
};
use crate::log::Position;
use crate::spec::{AuthoritySpec, CertificateSpec, IssuerSpec, Labels};
use crate::time::Timestamp;

/// One fact. Boxed where it is large, so that the enum stays small.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the variant says what happened; fields are documented where they are not their type")]
pub enum Event {
    // --- stream `cluster`
    ClusterBootstrapped {
        cluster_id: ClusterId,
        epoch: u64,
    },
    /// The log goes on from a backup, or from what one survivor had. What the cluster did after that is lost; everybody
    /// who was a member is no longer one.
    EpochOpened(Box<EpochOpened>),
    NodeJoined(Box<NodeRecord>),
    /// A data key wrapped to one node's HPKE public key.
    DataKeyWrapped {
        node_id: NodeId,
        data_key_id: u64,
        wrapped: Vec<u8>,
    },
    /// The node proved that it can open the data key; from here on it may vote.
    DataKeyProved {
        node_id: NodeId,
        data_key_id: u64,
    },
    NodeRemoved {
        node_id: NodeId,
    },
    /// The node is to stay a learner, or is to vote once it has proved that it can open the data key. Nodes that joined
    /// are to vote unless their token said otherwise.
    NodeRoleSet {
        node_id: NodeId,
        learner: bool,
    },
    /// Log time went that much further than time passed: renewals are held back until somebody says that it is right.
    RenewalsHeld {
        ahead_millis: u64,
    },
    /// Renewals are begun as they are due again.
    RenewalsReleased,
    /// Clocks had been wrong together and took log time along: behind the entry of this event it is `to`, which is earlier.
    TimeRebased {
        from: Timestamp,
        to: Timestamp,
    },
    /// Every server knows that format of the log: from here on the cluster writes it.
    FormatRaised {
        format: Format,
    },
    /// From here on history that is older than that goes, once every certificate issued in it has ended.
    RetentionSet {
        /// 0 to keep all.
        keep_seconds: u64,
    },
    /// History begins later from here on; every server deletes what came before for itself.
    HistoryTrimmed(Box<HistoryTrimmed>),
    /// A new data key takes the place of the one in use, wrapped to every node that stays. From here on CA keys are
    /// sealed under it, and those that exist are sealed again.
    DataKeyRotated {
        data_key_id: u64,
        wrapped: Vec<(NodeId, Vec<u8>)>,
    },
    /// Nothing is sealed under that data key any more: who could open it is forgotten.
    DataKeyRetired {
        data_key_id: u64,
    },
    NodeIdentityIssued {
        node_id: NodeId,
        identity: Identity,
    },
    AdministratorIdentityIssued {
        name: AdministratorName,
        identity: Identity,
    },

    // --- stream `checkpoints`
    /// The key that signs checkpoints and nothing else.
    CheckpointKeyMade {
        /// Ed25519.
        public_key: [u8; 32],
        sealed_key: SealedKey,
    },
    /// The same private key under another data key.
    CheckpointKeyResealed {
        sealed_key: SealedKey,
    },
    CheckpointSigned(Box<SignedCheckpoint>),

    // --- stream `tokens/{id}`
    TokenCreated {
        id: TokenId,
        secret_hash: [u8; 32],
        grant: TokenGrant,
        expires_at: Timestamp,
    },
    /// Bound to the joiner's key: the same key may repeat a lost reply.
    TokenConsumed {
        spki_hash: [u8; 32],
    },
    TokenRevoked,

    // --- stream `agents/{name}`
    AgentRegistered {
        name: AgentName,
        labels: Labels,
        spki_hash: [u8; 32],
    },
    AgentLabelsChanged {
        labels: Labels,
    },
    AgentIdentityIssued {
        identity: Identity,
        /// Let in again after a restore: keys that were known before are the agent's no more.
        readmitted: bool,
    },
    AgentRemoved,

    // --- stream `authorities/{name}`
    AuthorityDeclared {
        name: AuthorityName,
        spec: AuthoritySpec,
        public_key: Vec<u8>,
        sealed_key: SealedKey,
    },
    /// The same private key under another data key.
    AuthorityKeyResealed {
        sealed_key: SealedKey,
    },
    /// Committed before the signature (RFC 5280 CA certificates cannot be taken back).
    AuthorityCertificateIntended {
        serial: Serial,
        tbs_hash: [u8; 32],
    },
    AuthorityCertified {
        serial: Serial,
        not_before: Timestamp,
        not_after: Timestamp,
        certificate: Arc<[u8]>,
    },

    // --- stream `issuers/{name}`
    IssuerDeclared {
        name: IssuerName,
        spec: IssuerSpec,
    },
    IssuerUpdated {
        spec: IssuerSpec,
    },
    IssuerDeleted,

    // --- stream `namespaces/{ns}/certificates/{name}`
    CertificateDeclared {
        name: CertificateName,
        spec: Arc<CertificateSpec>,
    },
    CertificateUpdated {
        spec: Arc<CertificateSpec>,
    },
    CertificateDeleted,
    /// An agent came to hold a target. In the transaction that declares the certificate the instance's uid is zero and
    /// stands for the position of that transaction; see [`Event::instance`] and [`Event::resolved`].
    InstanceAdded {
        instance: InstanceId,
        agent: AgentName,
    },
    /// It no longer does; management stops, nothing is deleted there.
    InstanceRemoved {
        instance: InstanceId,
    },
    IssuanceOpened {
        instance: InstanceId,
        generation: Generation,
        trigger: Trigger,
    },
    IssuanceFailed {
        instance: InstanceId,
        generation: Generation,
        reason: String,
        message: String,
        retry_at: Timestamp,
    },
    IssuanceAbandoned {
        instance: InstanceId,
        generation: Generation,
        reason: String,
    },
    CertificateDelivered(Delivered),

    // --- both `namespaces/...` and once streams `direct/{serial}`
    CertificateIssued(Box<Issued>),
}

impl Event {
    /// The instance that the event is about, given the position of its transaction: a certificate that is declared
    /// together with its instances does not know its own uid before it is appended.
    pub fn instance(&self, position: Position) -> Option<InstanceId> {
        let id = match self {
            Self::InstanceAdded { instance, .. }
            | Self::InstanceRemoved { instance }
            | Self::IssuanceOpened { instance, .. }
            | Self::IssuanceFailed { instance, .. }
            | Self::IssuanceAbandoned { instance, .. } => *instance,
            Self::CertificateDelivered(delivered) => delivered.instance,
            Self::CertificateIssued(issued) => issued.instance?,
            _ => return None,
        };
        Some(id.resolved(position))
    }

    /// The event as it reads from its position: an instance declared with its certificate has the certificate's uid.
    pub fn resolved(&self, position: Position) -> Cow<'_, Self> {
        match self {
            Self::InstanceAdded { instance, agent } if instance.resolved(position) != *instance => {
                let (instance, agent) = (instance.resolved(position), agent.clone());
                Cow::Owned(Self::InstanceAdded { instance, agent })
            }
            _ => Cow::Borrowed(self),
        }
    }

    /// When what the event brings into the world begins to be valid.
    pub const fn begins(&self) -> Option<Timestamp> {
        match self {
            Self::CertificateIssued(issued) => Some(issued.not_before),
            Self::AuthorityCertified { not_before, .. } => Some(*not_before),
            Self::NodeIdentityIssued { identity, .. }
            | Self::AdministratorIdentityIssued { identity, .. }
            | Self::AgentIdentityIssued { identity, .. } => Some(identity.not_before),
            _ => None,
        }
    }

    /// The event's kind as `events -o json` prints it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::ClusterBootstrapped { .. } => "ClusterBootstrapped",
            Self::EpochOpened(_) => "EpochOpened",
            Self::NodeJoined(_) => "NodeJoined",
            Self::DataKeyWrapped { .. } => "DataKeyWrapped",
            Self::DataKeyProved { .. } => "DataKeyProved",
            Self::NodeRemoved { .. } => "NodeRemoved",
            Self::NodeRoleSet { .. } => "NodeRoleSet",
            Self::RenewalsHeld { .. } => "RenewalsHeld",
            Self::RenewalsReleased => "RenewalsReleased",
            Self::TimeRebased { .. } => "TimeRebased",
            Self::FormatRaised { .. } => "FormatRaised",
            Self::RetentionSet { .. } => "RetentionSet",
            Self::HistoryTrimmed(_) => "HistoryTrimmed",
            Self::DataKeyRotated { .. } => "DataKeyRotated",
            Self::DataKeyRetired { .. } => "DataKeyRetired",
            Self::NodeIdentityIssued { .. } => "NodeIdentityIssued",
            Self::AdministratorIdentityIssued { .. } => "AdministratorIdentityIssued",
            Self::CheckpointKeyMade { .. } => "CheckpointKeyMade",
            Self::CheckpointKeyResealed { .. } => "CheckpointKeyResealed",
            Self::CheckpointSigned(_) => "CheckpointSigned",
            Self::TokenCreated { .. } => "TokenCreated",
            Self::TokenConsumed { .. } => "TokenConsumed",
            Self::TokenRevoked => "TokenRevoked",
            Self::AgentRegistered { .. } => "AgentRegistered",
            Self::AgentLabelsChanged { .. } => "AgentLabelsChanged",
            Self::AgentIdentityIssued { .. } => "AgentIdentityIssued",
            Self::AgentRemoved => "AgentRemoved",
            Self::AuthorityDeclared { .. } => "AuthorityDeclared",
            Self::AuthorityKeyResealed { .. } => "AuthorityKeyResealed",
            Self::AuthorityCertificateIntended { .. } => "AuthorityCertificateIntended",
            Self::AuthorityCertified { .. } => "AuthorityCertified",
            Self::IssuerDeclared { .. } => "IssuerDeclared",
            Self::IssuerUpdated { .. } => "IssuerUpdated",
            Self::IssuerDeleted => "IssuerDeleted",
            Self::CertificateDeclared { .. } => "CertificateDeclared",
            Self::CertificateUpdated { .. } => "CertificateUpdated",
            Self::CertificateDeleted => "CertificateDeleted",
            Self::InstanceAdded { .. } => "InstanceAdded",
            Self::InstanceRemoved { .. } => "InstanceRemoved",
            Self::IssuanceOpened { .. } => "IssuanceOpened",
            Self::IssuanceFailed { .. } => "IssuanceFailed",
            Self::IssuanceAbandoned { .. } => "IssuanceAbandoned",
            Self::CertificateDelivered(_) => "CertificateDelivered",
            Self::CertificateIssued(_) => "CertificateIssued",
        }
    }
}

/// Where the kept history begins, and what whoever lets go of the rest is to find there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HistoryTrimmed {
    /// The first entry that is kept.
    pub first_index: u64,
    /// The log's hash chain before it.
    pub chain: [u8; 32],
    /// SHA-256 of all that a snapshot of the state before it holds.
    pub digest: [u8; 32],
    /// In which form that is hashed.
    pub digest_version: u32,
    /// The newest log time of what goes, and of what went before.
    pub last_at: Timestamp,
    /// When the last certificate ended that was issued in what goes, or went before; the epoch when there was none.
    pub last_not_after: Timestamp,
}

/// A new epoch of a cluster: its number, why, and where the log went on from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochOpened {
    /// The new epoch; later than the one before.
    pub epoch: u64,
    /// Why.
    pub cause: EpochCause,
    /// The last entry of the epoch before.
    pub after_index: u64,
    /// The log's hash chain after that entry.
    pub after_chain: [u8; 32],
    /// Log time after that entry: what was made later than this, in the epoch before, is not in the log.
    pub after: Timestamp,
    /// Log time at which the new epoch began: what was made later than this is.
    pub at: Timestamp,
}

/// Why an epoch was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EpochCause {
    /// A backup was restored.
    Restored,
    /// Too few servers were left to agree on anything, and one of them went on alone.
    QuorumLost,
}

impl EpochCause {
    /// Lower-case name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Restored => "restored",
            Self::QuorumLost => "quorum_lost",
        }
    }
}

/// A server of the cluster as its members know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeRecord {
    /// Drawn from the committed counter.
    pub id: NodeId,
    /// For people.
    pub name: NodeName,
    /// Where peers connect, `host:port`.
    pub raft_address: String,
    /// Where clients and agents connect.
    pub api_address: String,
    /// Where probes and scrapers connect.
    pub http_address: String,
    /// SHA-256 of the node's SubjectPublicKeyInfo: what peers verify.
    pub spki_hash: [u8; 32],
    /// HPKE public key to which the data key is wrapped.
    pub hpke_public: Vec<u8>,
}

/// A certificate of a node, agent or administrator, signed by the system authority.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Its serial.
    pub serial: Serial,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub spki_hash: [u8; 32],
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// DER.
    pub certificate: Arc<[u8]>,
}

/// How the log stood, signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignedCheckpoint {
    /// Epoch of the cluster.
    pub epoch: u64,
    /// The last entry that it covers.
    pub index: u64,
    /// The log's hash chain after that entry.
    pub chain: [u8; 32],
    /// Log time after that entry.
    pub at: Timestamp,
    /// Ed25519, by the key of [`Event::CheckpointKeyMade`].
    pub signature: [u8; 64],
}

impl SignedCheckpoint {
    /// What was signed, if it was that cluster's.
    pub fn of(&self, cluster_id: ClusterId) -> Checkpoint {
        let Self { epoch, index, chain, at, .. } = *self;
        Checkpoint { cluster_id, epoch, index, chain, at }
    }
}

/// What a join token admits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TokenGrant {
    /// One server.
    Node,
    /// One server that is to stay a learner.
    Learner,
    /// One agent.
    Agent {
        /// Only under this name, when given.
        name: Option<AgentName>,
        /// Labels that it will carry whatever it says itself.
        labels: Labels,
    },
}

/// A private key under authenticated encryption by a cluster data key.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedKey {
    /// Which data key.
    pub data_key_id: u64,
    /// Nonce and ciphertext, as `custody` laid them out.
    pub sealed: Vec<u8>,
}

impl std::fmt::Debug for SealedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealedKey(data key {})", self.data_key_id)
    }
}

/// Why an issuance was opened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Trigger {
    /// The instance has no certificate yet.
    First,
    /// Renewal time came.
    Due,
    /// Somebody asked.
    Requested,
    /// The specification changed what the certificate must say.
    SpecChanged,
    /// A caller's CSR, without stored intent.
    Direct,
    /// After a restore: the agent holds a generation that the log does not know and that could not be taken back.
    Restored,
}

impl Trigger {
    /// Lower-case name for metrics and `history`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Due => "due",
            Self::Requested => "requested",
            Self::SpecChanged => "spec_changed",
            Self::Direct => "direct",
            Self::Restored => "restored",
        }
    }
}

/// A certificate came to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Issued {
    /// Its instance; `None` for a direct issuance.
    pub instance: Option<InstanceId>,
    /// Its generation; 1 for a direct issuance.
    pub generation: Generation,
    /// Its serial.
    pub serial: Serial,
    /// The issuer it was asked of.
    pub issuer: IssuerName,
    /// The authority that signed.
    pub authority: AuthorityName,
    /// Serial of the authority's own certificate at that time: which chain belongs to it.
    pub authority_serial: Serial,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// When to renew; fixed here and never recomputed. `None` for a direct issuance.
    pub renew_at: Option<Timestamp>,
    /// SHA-256 of the certified SubjectPublicKeyInfo.
    pub spki_hash: [u8; 32],
    /// The certificate, DER.
    pub certificate: Arc<[u8]>,
}

/// What an agent has proved about one target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivered {
    /// The instance delivered.
    pub instance: InstanceId,
    /// The generation delivered.
    pub generation: Generation,
    /// The target; `None` for stages before any target (received, verified).
    pub target: Option<TargetName>,
    /// How far it got.
    pub stage: Stage,
    /// Why it got no further, when it failed: a reason code and a sentence.
    pub failure: Option<(String, String)>,
    /// How long after the agent had received it, by the agent's monotonic clock.
    pub elapsed: Duration,
}

/// Stages of a delivery, in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stage {
    /// The agent has it.
    Received,
    /// Key, chain, dates and generation are right.
    Verified,
    /// It is on the target and durable, and the consumer was told.
    Written,
    /// A handshake showed its serial.
    Served,
}

impl Stage {
    /// Lower-case name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Verified => "verified",
            Self::Written => "written",
            Self::Served => "served",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fixtures::{agent, instance};

    #[test]
    fn an_instance_reads_with_the_uid_of_the_certificate_declared_with_it() {
        let position = Position { index: 12, ordinal: 0 };
        let added = |index| Event::InstanceAdded { instance: instance(index, 3), agent: agent("a1") };
        assert_eq!(*added(0).resolved(position), added(12));
        assert_eq!(*added(7).resolved(position), added(7));
        assert_eq!(added(0).instance(position), Some(instance(12, 3)));
        assert_eq!(Event::IssuerDeleted.instance(position), None);
    }
}

//! Live state: what exists now, folded from events, with the secondary indexes that queries and failover need.
//!
//! It refuses history: what was issued, by serial, is a projection on disk, and DER is read from the log.

mod agents;
mod apply;
mod certificates;
mod etags;
mod hold;
mod indexes;
mod parts;
mod retention;
mod settle;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::event::{Delivered, EpochOpened, NodeRecord, SealedKey, SignedCheckpoint, Stage, TokenGrant, Trigger};
use crate::format::Format;
use crate::ids::{
    AdministratorName, AgentName, AuthorityName, CertificateName, ClusterId, Generation, InstanceId, IssuerName,
    NodeId, Serial, TargetName, TokenId, Uid,
};
use crate::log::{Position, Revision};
use crate::shard::{Keyed, Sharded};
use crate::spec::{AuthoritySpec, CertificateSpec, IssuerSpec, Labels, PackedSpec};
use crate::time::Timestamp;

pub use agents::{ScopeChange, ScopeCursor, ScopePage};
pub use apply::Stream;
pub use certificates::Due;
pub use hold::RenewalHold;
pub use indexes::{Counts, Indexes};
pub use parts::Cut;
pub use retention::{Retention, Setting, StillKept};

/// Everything that exists. Maps are copy-on-write; indexes are derived and rebuilt on snapshot install.
#[derive(Default)]
pub struct State {
    /// The cluster itself.
    pub cluster: Cluster,
    /// Certificates by name.
    pub certificates: Sharded<CertificateName, Certificate>,
    /// Agents by name.
    pub agents: Sharded<AgentName, Agent>,
    /// Issuers by name.
    pub issuers: Sharded<IssuerName, Issuer>,
    /// Authorities by name.
    pub authorities: Sharded<AuthorityName, Authority>,
    /// Join tokens by id.
    pub tokens: Sharded<TokenId, Token>,
    /// Position of the newest transaction folded.
    pub applied: Position,
    /// By due time, agent, issuer, agent label, change.
    pub indexes: Indexes,
}

/// The cluster aggregate.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cluster {
    /// Events so far.
    pub revision: Revision,
    /// `None` before bootstrap.
    pub id: Option<ClusterId>,
    /// Grows when a backup is restored.
    pub epoch: u64,
    /// How every epoch but the first began, oldest first.
    pub epochs: Vec<EpochOpened>,
    /// The newest node id given out.
    pub last_node_id: NodeId,
    /// Servers, removed ones too (tombstones).
    pub nodes: BTreeMap<NodeId, Node>,
    /// The data key in use.
    pub data_key_id: u64,
    /// Administrators and their newest identity.
    pub administrators: BTreeMap<AdministratorName, IdentityState>,
    /// Present while renewals are held back.
    pub hold: Option<RenewalHold>,
    /// When the last hold ended: log time was right until then.
    pub released_at: Option<Timestamp>,
    /// Of the log itself; a stream of its own.
    pub checkpoints: Checkpoints,
    /// Up to which format its log is written.
    pub format: Format,
    /// When log time was set back, oldest first; at most [`REBASES_MAX`](crate::limits::REBASES_MAX) of them.
    pub rebases: Vec<Rebase>,
    /// How much of its history is kept.
    pub retention: Retention,
}

/// Log time was set back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rebase {
    /// By the entry at this index.
    pub index: u64,
    /// What it had been.
    pub from: Timestamp,
    /// What it was then.
    pub to: Timestamp,
}

impl Rebase {
    /// When an entry was written, by the time that holds after these; see [`Cluster::corrected`].
    pub fn corrected(rebases: &[Self], index: u64, at: Timestamp) -> Timestamp {
        let later = rebases.iter().filter(|rebase| rebase.index >= index);
        later.map(|rebase| rebase.to).fold(at, Ord::min)
    }
}

impl Cluster {
    /// How this epoch began; `None` in the first one.
    pub fn opened(&self) -> Option<&EpochOpened> {
        self.epochs.last()
    }

    /// When an entry was written, by the time that holds now: what was stamped before log time was set back counts as written
    /// then at the latest. So these moments never fall from one entry to the next.
    pub fn corrected(&self, index: u64, at: Timestamp) -> Timestamp {
        Rebase::corrected(&self.rebases, index, at)
    }

    /// Whether what stands at that index was decided in an epoch before this one.
    pub fn is_before_epoch(&self, index: u64) -> bool {
        self.opened().is_some_and(|opened| index <= opened.after_index)
    }

    /// The epoch in which the entry at that index was appended.
    pub fn epoch_of(&self, index: u64) -> u64 {
        self.epochs.iter().rev().find(|opened| index > opened.after_index).map_or(1, |opened| opened.epoch)
    }
}

/// The log's checkpoints: the key that signs them, and the newest one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Checkpoints {
    /// Events about the key so far.
    pub revision: Revision,
    /// `None` before the first leader made one.
    pub key: Option<CheckpointKey>,
    /// The newest one, and where it is in the log.
    pub last: Option<(SignedCheckpoint, Position)>,
}

/// The key that signs checkpoints and nothing else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckpointKey {
    /// Ed25519.
    pub public_key: [u8; 32],
    /// The private key, sealed.
    pub sealed_key: SealedKey,
}

/// A server of the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// What it said of itself when it joined.
    pub record: NodeRecord,
    /// The data keys wrapped to it, by data key id; empty once it was removed, when only the ids matter.
    pub wrapped: BTreeMap<u64, Vec<u8>>,
    /// The data key that it has proved to open.
    pub proved: Option<u64>,
    /// Its newest identity.
    pub identity: Option<IdentityState>,
    /// Removed nodes stay as tombstones: their id never recurs.
    pub removed: bool,
    /// It is to receive and serve, and never to vote.
    pub learner: bool,
}

impl Node {
    /// Whether it may lead where that data key is in use: it is to vote, holds the key, and has proved that it can open one. When the
    /// key has just been replaced nobody has proved anything of the new one yet.
    pub fn may_lead(&self, data_key_id: u64) -> bool {
        !self.removed && !self.learner && self.proved.is_some() && self.wrapped.contains_key(&data_key_id)
    }
}

/// What state remembers of an identity certificate; the DER is in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdentityState {
    /// Its serial.
    pub serial: Serial,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub spki_hash: [u8; 32],
    /// End of validity.
    pub not_after: Timestamp,
    /// Where its DER is.
    pub position: Position,
}

/// A join token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    /// Where it was created.
    pub uid: Uid,
    /// Events so far.
    pub revision: Revision,
    /// Its id.
    pub id: TokenId,
    /// SHA-256 of the secret half.
    pub secret_hash: [u8; 32],
    /// What it admits.
    pub grant: TokenGrant,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it lapses.
    pub expires_at: Timestamp,
    /// The key that consumed it.
    pub consumed_by: Option<[u8; 32]>,
    /// Revoked by an administrator.
    pub revoked: bool,
}

/// An agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Agent {
    /// Where it was registered.
    pub uid: Uid,
    /// Events so far.
    pub revision: Revision,
    /// Its name.
    pub name: AgentName,
    /// Its labels.
    pub labels: Labels,
    /// When it was registered.
    pub registered_at: Timestamp,
    /// SHA-256 of the SubjectPublicKeyInfo it may use.
    pub spki_hash: [u8; 32],
    /// The same of the identity before, which it still has when the answer with the newest was lost.
    pub previous_spki_hash: Option<[u8; 32]>,
    /// Its newest identity.
    pub identity: Option<IdentityState>,
}

/// An issuer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Issuer {
    /// Where it was created.
    pub uid: Uid,
    /// Events so far.
    pub revision: Revision,
    /// Its name.
    pub name: IssuerName,
    /// Its specification.
    pub spec: IssuerSpec,
    /// When it was created.
    pub created_at: Timestamp,
}

/// A CA key pair with its certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authority {
    /// Where it was declared.
    pub uid: Uid,
    /// Events so far.
    pub revision: Revision,
    /// Its name.
    pub name: AuthorityName,
    /// Its specification.
    pub spec: AuthoritySpec,
    /// SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
    /// The private key, sealed.
    pub sealed_key: SealedKey,
    /// An intent whose certificate is not there yet: serial and to-be-signed hash.
    pub intended: Option<(Serial, [u8; 32])>,
    /// Its certificate; small in number, so the DER is kept.
    pub certified: Option<Certified>,
}

/// An authority's certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certified {
    /// Its serial.
    pub serial: Serial,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// DER.
    pub certificate: Arc<[u8]>,
}

/// A certificate: its intent, its instances, their generations and deliveries. At most 1 KiB resident for one instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// Where it was created.
    pub uid: Uid,
    /// Events so far.
    pub revision: Revision,
    /// Its name.
    pub name: CertificateName,
    /// The intent; see [`Certificate::spec`].
    pub spec: PackedSpec,
    /// Revision at which the intent last changed: what an issued generation must be newer than.
    pub spec_revision: Revision,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its intent last changed.
    pub updated_at: Timestamp,
    /// Number that the next instance gets.
    pub next_instance: u32,
    /// Instances, one for each agent that holds a target.
    pub instances: Vec<Instance>,
}

impl Certificate {
    /// The intent, unpacked.
    pub fn spec(&self) -> CertificateSpec {
        self.spec.unpack()
    }
}

/// One key pair's line of certificates.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// Who holds its key.
    pub agent: AgentName,
    /// Where it last changed: what its agent resumes from.
    pub changed: Position,
    /// The newest certificate.
    pub current: Option<Generated>,
    /// The issuance under way.
    pub open: Option<Open>,
    /// Failures since the last success.
    pub failures: u32,
    /// The last failure: reason, message and when.
    pub last_failure: Option<Box<(String, String, Timestamp)>>,
    /// Not before this moment again after a failure.
    pub retry_at: Option<Timestamp>,
    /// Newest report of each target, newest generation only; and of none (received, verified) until a target is written.
    pub deliveries: Vec<Delivery>,
}

/// What state remembers of an issued generation; the DER is in the log at `position`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Generated {
    /// Its generation.
    pub generation: Generation,
    /// Its serial.
    pub serial: Serial,
    /// SHA-256 of the certified SubjectPublicKeyInfo.
    pub spki_hash: [u8; 32],
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// When to renew: as it was issued, unless it begins later than log time went back to; then at once.
    pub renew_at: Timestamp,
    /// Revision of the intent it was issued under.
    pub spec_revision: Revision,
    /// Where its DER is.
    pub position: Position,
}

/// An issuance under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Open {
    /// The generation being made.
    pub generation: Generation,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// Why.
    pub trigger: Trigger,
}

/// The newest report about one target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// The target; `None` for the agent as a whole.
    pub target: Option<TargetName>,
    /// The generation reported.
    pub generation: Generation,
    /// How far it got.
    pub stage: Stage,
    /// Why no further.
    pub failure: Option<Box<(String, String)>>,
    /// Log time of the report.
    pub at: Timestamp,
}

impl Delivery {
    /// Whether it says as much as every report before targets (received, verified) of its generation or older.
    pub(crate) fn supersedes_all_before_targets(&self) -> bool {
        self.target.is_some() && self.stage >= Stage::Written
    }

    /// The delivery that a report amounts to.
    pub fn of(report: &Delivered, at: Timestamp) -> Self {
        Self {
            target: report.target.clone(),
            generation: report.generation,
            stage: report.stage,
            failure: report.failure.clone().map(Box::new),
            at,
        }
    }
}

macro_rules! keyed {
    ($($value:ty => $key:ty),*) => {
        $(
            impl Keyed for $value {
                type Key = $key;

                fn key(&self) -> &$key {
                    &self.name
                }
            }
        )*
    };
}

keyed!(Certificate => CertificateName, Agent => AgentName, Issuer => IssuerName, Authority => AuthorityName);

impl Keyed for Token {
    type Key = TokenId;

    fn key(&self) -> &TokenId {
        &self.id
    }
}

#[cfg(test)]
mod tests;

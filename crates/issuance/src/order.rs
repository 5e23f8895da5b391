//! What doors ask of the leader and what they are answered.
//!
//! It refuses wire formats; secrets in it are compared by their hash and never printed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use certwright_core::Format;
use certwright_core::event::{Issued, NodeRecord};
use certwright_core::ids::{
    Actor, AgentName, CertificateName, ClusterId, Generation, InstanceId, IssuerName, NodeId, NodeName, TokenId,
};
use certwright_core::log::{Position, RequestId, Trace};
use certwright_core::spec::{Labels, Usage};
use certwright_core::time::Timestamp;
use zeroize::Zeroizing;

/// Who asks, under which request id, in which trace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// The caller as TLS proved it.
    pub actor: Actor,
    /// SHA-256 of the SubjectPublicKeyInfo that the caller proved to hold: an agent acts under its current key alone.
    pub key: Option<[u8; 32]>,
    /// A repeat with the same id is the same request; drawn here when absent.
    pub request_id: Option<RequestId>,
    /// The trace that the request belongs to.
    pub trace: Trace,
    /// Decide and say what would happen, append nothing.
    pub validate_only: bool,
}

impl Call {
    /// A call without key, request id or trace.
    pub fn by(actor: Actor) -> Self {
        Self { actor, key: None, request_id: None, trace: Trace::default(), validate_only: false }
    }
}

/// Where a command took effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Position of its transaction; of the newest applied one when nothing had to be appended.
    pub position: Position,
    /// Log time there.
    pub at: Timestamp,
    /// It was so already: nothing was appended, and with `validate_only` nothing would be.
    pub unchanged: bool,
}

/// What setting log time back came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rebased {
    /// Where it took effect.
    pub outcome: Outcome,
    /// What log time had been, and what it is; `None` when it was not ahead.
    pub change: Option<(Timestamp, Timestamp)>,
}

/// A direct issuance: sign this request, store no intent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IssueOrder {
    /// Who issues.
    pub issuer: IssuerName,
    /// PKCS #10, PEM or DER.
    pub csr: Vec<u8>,
    /// Lifetime; the issuer's maximum or 90 days, whichever is less, when absent.
    pub duration: Option<Duration>,
    /// Usages; the defaults of a certificate specification when empty.
    pub usages: Vec<Usage>,
}

/// A certificate that is in the log of a majority.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IssuedAnswer {
    /// What was issued.
    pub issued: Issued,
    /// DER of the authorities that signed it, intermediates then root.
    pub chain: Vec<Arc<[u8]>>,
    /// Where it stands in the log.
    pub position: Position,
}

/// A direct issuance that would be granted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ValidatedAnswer {
    /// Begin of validity, were it issued now.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// DER of the authorities that would sign it, intermediates then root.
    pub chain: Vec<Arc<[u8]>>,
    /// The state it was validated against.
    pub position: Position,
}

/// An agent's request for the generation that was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CsrSubmission {
    /// The certificate.
    pub certificate: CertificateName,
    /// The instance whose key signs the request.
    pub instance: InstanceId,
    /// The generation that is open.
    pub generation: Generation,
    /// PKCS #10, PEM or DER; only its key is read.
    pub csr: Vec<u8>,
}

/// A certificate that an agent holds and the log may not know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    /// The certificate.
    pub certificate: CertificateName,
    /// The instance whose generation it is.
    pub instance: InstanceId,
    /// The generation.
    pub generation: Generation,
    /// DER.
    pub der: Vec<u8>,
}

/// An agent that joins with a token.
pub struct AgentJoin {
    /// The token's public half.
    pub token: TokenId,
    /// The token's secret half.
    pub secret: Zeroizing<Vec<u8>>,
    /// The name it asks for.
    pub agent: AgentName,
    /// The labels it asks for; none but the token's are granted.
    pub labels: Labels,
    /// PKCS #10 with the agent's identity key.
    pub csr: Vec<u8>,
}

/// A server that joins with a token.
pub struct NodeJoin {
    /// The token's public half.
    pub token: TokenId,
    /// The token's secret half.
    pub secret: Zeroizing<Vec<u8>>,
    /// For people.
    pub name: NodeName,
    /// Where peers will connect, `host:port`.
    pub raft_address: String,
    /// Where clients and agents will connect.
    pub api_address: String,
    /// Where probes and scrapers will connect.
    pub http_address: String,
    /// PKCS #10 with the server's identity key.
    pub csr: Vec<u8>,
    /// HPKE public key to which the data key will be wrapped.
    pub hpke_public: Vec<u8>,
    /// The newest format of the log that it knows.
    pub format: Format,
}

/// An identity certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdentityAnswer {
    /// DER.
    pub certificate: Arc<[u8]>,
    /// DER of the system authority.
    pub chain: Vec<Arc<[u8]>>,
    /// End of validity.
    pub not_after: Timestamp,
    /// Whom it names, as `Actor` prints it.
    pub name: String,
    /// Where it was appended.
    pub position: Position,
}

/// What a joining server needs to start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeAnswer {
    /// The id it got.
    pub node_id: NodeId,
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The cluster's epoch.
    pub epoch: u64,
    /// Its identity certificate, DER.
    pub certificate: Arc<[u8]>,
    /// DER of the system authority.
    pub chain: Vec<Arc<[u8]>>,
    /// Every server of the cluster, itself included.
    pub peers: Vec<NodeRecord>,
}

/// The birth of a cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bootstrap {
    /// Drawn by the caller, kept in its data directory.
    pub cluster_id: ClusterId,
    /// 1 for a new cluster.
    pub epoch: u64,
    /// The first server; its id is 1.
    pub node: NodeRecord,
    /// SubjectPublicKeyInfo of the first server, DER; its SHA-256 is `node.spki_hash`.
    pub node_spki: Vec<u8>,
    /// PKCS #10 of the first administrator, `admin`.
    pub administrator_csr: Vec<u8>,
}

/// What the first server and the first administrator need.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BootstrapAnswer {
    /// The administrator's identity.
    pub administrator: IdentityAnswer,
    /// The server's identity.
    pub node: IdentityAnswer,
}

/// A join token, once: its secret is not kept.
pub struct NewToken {
    /// The public half.
    pub id: TokenId,
    /// The secret half, 32 octets.
    pub secret: Zeroizing<Vec<u8>>,
    /// When it lapses.
    pub expires_at: Timestamp,
    /// Where it was created.
    pub outcome: Outcome,
}

impl fmt::Debug for AgentJoin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AgentJoin({} with token {})", self.agent, self.token)
    }
}

impl fmt::Debug for NodeJoin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeJoin({} with token {})", self.name, self.token)
    }
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewToken({})", self.id)
    }
}

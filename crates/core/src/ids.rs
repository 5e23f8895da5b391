//! The names of things, parsed once and valid from then on.
//!
//! It refuses any name that could not be a path segment, a file name or a Kubernetes object name.

use std::fmt;
use std::sync::Arc;

use crate::log::{Position, StreamId};
use crate::rejection::{Reason, Rejection};
use crate::shard::{Fnv, ShardKey};

/// Longest name of an object, in octets (RFC 1123 subdomain, as in Kubernetes).
pub const NAME_OCTETS_MAX: usize = 253;

/// Checks an RFC 1123 subdomain: lower-case letters, digits, `-` and `.`, starting and ending alphanumeric.
fn check_name(kind: &str, name: &str) -> Result<(), Rejection> {
    let edge = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label = |l: &str| {
        let bytes = l.as_bytes();
        matches!((bytes.first(), bytes.last()), (Some(&a), Some(&z)) if edge(a) && edge(z))
            && bytes.iter().all(|&c| edge(c) || c == b'-')
    };
    if name.len() <= NAME_OCTETS_MAX && name.split('.').all(label) {
        return Ok(());
    }
    Err(Rejection::new(
        Reason::InvalidName,
        format!("{kind} {name:?} is not a lower-case RFC 1123 name of at most {NAME_OCTETS_MAX} characters"),
    ))
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Parses the name; rejects with `INVALID_NAME`.
            pub fn parse(name: &str) -> Result<Self, Rejection> {
                check_name($kind, name)?;
                Ok(Self(name.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl ShardKey for $type {
            fn feed(&self, hash: &mut Fnv) {
                hash.write(self.0.as_bytes());
            }
        }
    };
}

name!(/// The unit of tenancy.
    Namespace, "namespace");
name!(/// The name of a certificate inside its namespace.
    ObjectName, "name");
name!(/// An agent of the estate.
    AgentName, "agent");
name!(/// An issuer of the estate.
    IssuerName, "issuer");
name!(/// A CA key pair with its certificates.
    AuthorityName, "authority");
name!(/// A server of the cluster, for people; machines use [`NodeId`].
    NodeName, "node");
name!(/// An administrator.
    AdministratorName, "administrator");
name!(/// The public half of a join token.
    TokenId, "token");
name!(/// A target of a certificate, unique inside it.
    TargetName, "target");

/// Names one certificate of the estate. One pointer wide, so that every index may hold it; the two halves are fields of
/// [`CertificatePath`], to which it dereferences.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertificateName(Arc<CertificatePath>);

/// The halves of a certificate's name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CertificatePath {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name there.
    pub name: ObjectName,
}

impl std::ops::Deref for CertificateName {
    type Target = CertificatePath;

    fn deref(&self) -> &CertificatePath {
        &self.0
    }
}

impl fmt::Debug for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl CertificateName {
    /// Joins the two halves.
    pub fn new(namespace: Namespace, name: ObjectName) -> Self {
        Self(Arc::new(CertificatePath { namespace, name }))
    }

    /// Parses both halves.
    pub fn parse(namespace: &str, name: &str) -> Result<Self, Rejection> {
        Ok(Self::new(Namespace::parse(namespace)?, ObjectName::parse(name)?))
    }

    /// Its stream: `namespaces/{ns}/certificates/{name}`.
    pub fn stream(&self) -> StreamId {
        StreamId::new(format!("namespaces/{}/certificates/{}", self.namespace, self.name))
    }
}

impl ShardKey for CertificateName {
    fn feed(&self, hash: &mut Fnv) {
        hash.write(self.namespace.as_str().as_bytes());
        hash.write(b"/");
        hash.write(self.name.as_str().as_bytes());
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl IssuerName {
    /// Its stream: `issuers/{name}`.
    pub fn stream(&self) -> StreamId {
        StreamId::new(format!("issuers/{self}"))
    }
}

impl AuthorityName {
    /// Its stream: `authorities/{name}`.
    pub fn stream(&self) -> StreamId {
        StreamId::new(format!("authorities/{self}"))
    }
}

impl AgentName {
    /// Its stream: `agents/{name}`.
    pub fn stream(&self) -> StreamId {
        StreamId::new(format!("agents/{self}"))
    }
}

impl TokenId {
    /// Its stream: `tokens/{id}`.
    pub fn stream(&self) -> StreamId {
        StreamId::new(format!("tokens/{self}"))
    }
}

/// The stream of the cluster itself: nodes, wrapped data keys, administrators.
pub fn cluster_stream() -> StreamId {
    StreamId::new("cluster")
}

/// The stream of the log's own checkpoints.
pub fn checkpoints_stream() -> StreamId {
    StreamId::new("checkpoints")
}

/// The once stream of one direct issuance: `direct/{serial}`.
pub fn direct_stream(serial: &Serial) -> StreamId {
    StreamId::new(format!("direct/{serial}"))
}

/// Whether a stream is one direct issuance's: written once and named by the serial, under which it is found.
pub fn is_direct_stream(stream: &StreamId) -> bool {
    stream.as_str().starts_with("direct/")
}

/// Where an aggregate was created; never recurs, so a recreated name is a different aggregate. Positions do recur after a
/// restore: the upper bits of the ordinal say how many epochs came before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Uid(pub Position);

/// Bits of a uid's ordinal that are the transaction's: an entry of 256 KiB has fewer than 2^18.
const UID_ORDINAL_BITS: u32 = 20;

impl Uid {
    /// The uid of what is created at that position in that epoch.
    pub fn new(position: Position, epoch: u64) -> Self {
        Self(Position { ordinal: position.ordinal | Self::here(epoch).0.ordinal, ..position })
    }

    /// Stands for the position at which the transaction will be appended; see [`InstanceId::resolved`].
    pub fn here(epoch: u64) -> Self {
        let before = u32::try_from(epoch.saturating_sub(1)).unwrap_or(u32::MAX);
        Self(Position { index: 0, ordinal: before.wrapping_shl(UID_ORDINAL_BITS) })
    }

    fn is_here(self) -> bool {
        self.0.index == 0
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.index, self.0.ordinal)
    }
}

/// One key pair's line of certificates; unique in the estate for ever. Prints as `{index}-{ordinal}-{number}`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct InstanceId {
    /// Where the certificate that it belongs to was created.
    pub certificate: Uid,
    /// Its number in that certificate, from 1, never reused.
    pub number: u32,
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.certificate, self.number)
    }
}

impl InstanceId {
    /// The same id, its uid filled in where it is zero: the certificate is declared at `position`.
    #[must_use]
    pub fn resolved(self, position: Position) -> Self {
        if !self.certificate.is_here() {
            return self;
        }
        let ordinal = position.ordinal | self.certificate.0.ordinal;
        Self { certificate: Uid(Position { ordinal, ..position }), ..self }
    }

    /// Parses what `Display` prints, and no other spelling of it.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let index = parts.next()?.parse().ok()?;
        let ordinal = parts.next()?.parse().ok()?;
        let number = parts.next()?.parse().ok()?;
        let id = Self { certificate: Uid(Position { index, ordinal }), number };
        (id.to_string() == text).then_some(id)
    }
}

/// The n-th certificate of one instance, from 1; only ever grows.
pub type Generation = u64;

/// A raft node; drawn from a committed counter from 1, never reused.
pub type NodeId = u64;

/// Identity of a cluster: 16 random octets drawn at bootstrap, printed as lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A certificate serial number: 20 octets, top bit clear, first octet not zero (RFC 5280 section 4.1.2.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial([u8; 20]);

impl Serial {
    /// Shapes 20 random octets into a serial: top bit cleared, first octet made non-zero.
    pub fn from_random(mut octets: [u8; 20]) -> Self {
        octets[0] &= 0x7f;
        if octets[0] == 0 {
            octets[0] = 0x40;
        }
        Self(octets)
    }

    /// Takes 20 octets that already have the shape of a serial.
    pub fn from_octets(octets: [u8; 20]) -> Option<Self> {
        (1..0x80).contains(&octets[0]).then_some(Self(octets))
    }

    /// Parses what `Display` prints.
    pub fn parse(text: &str) -> Option<Self> {
        let mut octets = [0; 20];
        if text.len() != 40 || !text.bytes().all(|octet| octet.is_ascii_hexdigit()) {
            return None;
        }
        for (i, octet) in octets.iter_mut().enumerate() {
            *octet = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
        }
        Self::from_octets(octets)
    }

    /// The octets, big-endian.
    pub fn octets(&self) -> &[u8; 20] {
        &self.0
    }
}

impl fmt::Display for Serial {
    /// Upper-case hex without colons, everywhere.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02X}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Who acts, verified by TLS or by being the leader itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Actor {
    /// A person or program with an administrator's certificate.
    Administrator(AdministratorName),
    /// An agent, limited to its own session.
    Agent(AgentName),
    /// A server of the cluster.
    Node(NodeId),
    /// The leader's own scheduler.
    System,
    /// Somebody without a client certificate: may only join with a token.
    Anonymous,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Administrator(name) => write!(f, "administrator/{name}"),
            Self::Agent(name) => write!(f, "agent/{name}"),
            Self::Node(id) => write!(f, "node/{id}"),
            Self::System => f.write_str("system"),
            Self::Anonymous => f.write_str("anonymous"),
        }
    }
}

impl Actor {
    /// Parses what `Display` prints.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once('/') {
            Some(("administrator", name)) => AdministratorName::parse(name).ok().map(Self::Administrator),
            Some(("agent", name)) => AgentName::parse(name).ok().map(Self::Agent),
            Some(("node", id)) => id.parse().ok().map(Self::Node),
            None if text == "system" => Some(Self::System),
            None if text == "anonymous" => Some(Self::Anonymous),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;

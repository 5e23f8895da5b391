//! Specifications: what people wish for, in cert-manager's field names.
//!
//! It refuses defaults that depend on who asks; `validate` says what is wrong with a wish and never repairs it.

mod compare;
mod packed;
mod validate;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::ids::{AgentName, AuthorityName, IssuerName, TargetName};

pub use packed::{PackedSpec, References};
pub use validate::{STANDARD_FILES, validate_labels};

/// Labels: small strings by which targets select agents and people select objects.
pub type Labels = BTreeMap<String, String>;

/// The standing wish for a certificate (cert-manager's `CertificateSpec`, plus targets).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateSpec {
    /// Which rules of defaults and minima apply.
    pub dialect: Dialect,
    /// Subject common name; also added to the DNS names when it is one of them already, never silently.
    pub common_name: Option<String>,
    /// DNS names, wildcards of one label allowed.
    pub dns_names: Vec<String>,
    /// IP addresses.
    pub ip_addresses: Vec<IpAddr>,
    /// URIs.
    pub uris: Vec<String>,
    /// E-mail addresses.
    pub email_addresses: Vec<String>,
    /// The other subject attributes.
    pub subject: Subject,
    /// Requested lifetime; 90 days when absent.
    pub duration: Option<Duration>,
    /// Renew this long before expiry.
    pub renew_before: Option<Duration>,
    /// Or: renew when this share of the lifetime is left, 1..=99 percent.
    pub renew_before_percentage: Option<u8>,
    /// Key usages and extended key usages; digital signature and key encipherment when empty, as in cert-manager.
    pub usages: Vec<Usage>,
    /// Whether a CA certificate is wanted.
    pub is_ca: bool,
    /// The private key's shape and rotation.
    pub private_key: PrivateKeySpec,
    /// How many generations of history `describe` shows; the log itself is not cut by it.
    pub revision_history_limit: Option<u32>,
    /// Who issues.
    pub issuer: IssuerName,
    /// Where it is materialised.
    pub targets: Vec<Target>,
    /// Labels of the certificate itself.
    pub labels: Labels,
    /// cert-manager's Secret, kept for its documents; the Kubernetes agent materialises it.
    pub secret_name: Option<String>,
}

/// Whose documents' rules apply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// `certwright.dev/v1`: durations from 10 s, renewal jitter.
    Certwright,
    /// `cert-manager.io/v1`: its minima (1 h, renew before at least 5 min) and no jitter.
    CertManager,
}

/// Subject attributes besides the common name (RFC 5280 section 4.1.2.6).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Subject {
    /// O
    pub organizations: Vec<String>,
    /// OU
    pub organizational_units: Vec<String>,
    /// C
    pub countries: Vec<String>,
    /// L
    pub localities: Vec<String>,
    /// ST
    pub provinces: Vec<String>,
    /// street
    pub street_addresses: Vec<String>,
    /// postalCode
    pub postal_codes: Vec<String>,
    /// serialNumber
    pub serial_number: Option<String>,
}

macro_rules! usages {
    ($($variant:ident = $name:literal,)*) => {
        /// cert-manager's key usages and extended key usages by their names.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[allow(missing_docs, reason = "each variant is the RFC 5280 usage of that name")]
        pub enum Usage { $($variant,)* }

        impl Usage {
            /// Every usage.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// cert-manager's name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

usages! {
    Signing = "signing",
    DigitalSignature = "digital signature",
    ContentCommitment = "content commitment",
    KeyEncipherment = "key encipherment",
    KeyAgreement = "key agreement",
    DataEncipherment = "data encipherment",
    CertSign = "cert sign",
    CrlSign = "crl sign",
    EncipherOnly = "encipher only",
    DecipherOnly = "decipher only",
    Any = "any",
    ServerAuth = "server auth",
    ClientAuth = "client auth",
    CodeSigning = "code signing",
    EmailProtection = "email protection",
    SMime = "s/mime",
    IpsecEndSystem = "ipsec end system",
    IpsecTunnel = "ipsec tunnel",
    IpsecUser = "ipsec user",
    Timestamping = "timestamping",
    OcspSigning = "ocsp signing",
    MicrosoftSgc = "microsoft sgc",
    NetscapeSgc = "netscape sgc",
}

/// cert-manager's `privateKey`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PrivateKeySpec {
    /// Algorithm and size.
    pub algorithm: KeyAlgorithm,
    /// Encoding of the key file.
    pub encoding: KeyEncoding,
    /// Whether each generation has a new key.
    pub rotation_policy: RotationPolicy,
}

impl Default for PrivateKeySpec {
    /// cert-manager's defaults: RSA 2048, PKCS#1 there; `Always` as of 1.18. Ours: ECDSA P-256 in PKCS#8.
    fn default() -> Self {
        Self {
            algorithm: KeyAlgorithm::EcdsaP256,
            encoding: KeyEncoding::Pkcs8,
            rotation_policy: RotationPolicy::Always,
        }
    }
}

/// Key algorithm with its size.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum KeyAlgorithm {
    /// RSA with 2048-bit modulus.
    Rsa2048,
    /// RSA with 3072-bit modulus.
    Rsa3072,
    /// RSA with 4096-bit modulus.
    Rsa4096,
    /// ECDSA on P-256.
    EcdsaP256,
    /// ECDSA on P-384.
    EcdsaP384,
    /// Ed25519.
    Ed25519,
}

/// Encoding of the private key file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyEncoding {
    /// PKCS#1 (RSA) or SEC 1 (EC).
    Pkcs1,
    /// PKCS#8.
    Pkcs8,
}

/// When the private key changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RotationPolicy {
    /// A new key for each generation.
    Always,
    /// One key for the instance's life.
    Never,
}

/// A place on an agent where a generation is materialised.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// Unique inside the certificate.
    pub name: TargetName,
    /// Which agents hold it.
    pub holder: Holder,
    /// What is written there.
    pub sink: Sink,
    /// What makes the consumer read it again.
    pub reload: Option<Reload>,
    /// What proves that it is served.
    pub served_check: Option<ServedCheck>,
}

/// Which agents hold a target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Holder {
    /// Exactly this agent.
    Agent(AgentName),
    /// Every agent that carries all these labels.
    Selector(Labels),
}

/// What a target writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sink {
    /// A directory of files.
    Files(FilesSink),
    /// A Kubernetes Secret; refused with NOT_YET_SUPPORTED.
    Secret {
        /// Kubernetes namespace.
        namespace: String,
        /// Name of the Secret.
        name: String,
    },
}

/// A directory of files that switches as a whole.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FilesSink {
    /// Absolute path of the directory.
    pub directory: String,
    /// Other names for the standard files (`cert.pem`, `key.pem`, ...), by standard name.
    pub names: BTreeMap<String, String>,
    /// Owner by name or number; the agent's own when absent.
    pub owner: Option<String>,
    /// Group by name or number.
    pub group: Option<String>,
    /// Permission bits of the private key files, 0600 when absent; certificates get the same plus read for all.
    pub mode: Option<u32>,
}

/// What makes the consumer read its files again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reload {
    /// How.
    pub action: ReloadAction,
    /// A command that must succeed on the new files before `action` runs; no shell.
    pub test_exec: Vec<String>,
    /// Seconds each of the two may take, 1..=300; 30 when absent.
    pub timeout_seconds: u32,
}

/// How a consumer is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReloadAction {
    /// A command, argv without a shell.
    Exec(Vec<String>),
    /// A signal to the process whose id the file holds.
    Signal {
        /// `HUP`, `USR1`, `USR2`, `TERM` or `INT`.
        signal: String,
        /// Absolute path of the pid file.
        pid_file: String,
    },
}

/// A TLS handshake that shows which certificate is served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServedCheck {
    /// `host:port` to connect to.
    pub address: String,
    /// Server name to send (SNI).
    pub server_name: String,
}

/// Where certificates come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IssuerSpec {
    /// Its kind and configuration.
    pub kind: IssuerKind,
    /// Longest lifetime it grants; 397 days when absent.
    pub max_duration: Option<Duration>,
    /// DNS suffixes it may issue for; empty allows all.
    pub allowed_dns_suffixes: Vec<String>,
}

/// Kinds of issuers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IssuerKind {
    /// An authority of this cluster.
    Ca {
        /// The signing authority.
        authority: AuthorityName,
    },
    /// Kinds that the schema knows and later work fills; refused with NOT_YET_SUPPORTED. Holds the kind's name.
    Reserved(String),
}

/// The wish for a CA key pair.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuthoritySpec {
    /// Common name of its subject.
    pub common_name: String,
    /// P-256, P-384 or RSA-2048.
    pub key_algorithm: KeyAlgorithm,
    /// Who signs it; itself when absent (a root).
    pub parent: Option<AuthorityName>,
    /// Lifetime of its certificate.
    pub duration: Duration,
    /// Path length constraint (RFC 5280 section 4.2.1.9).
    pub path_len: Option<u8>,
    /// What it is for.
    pub purpose: AuthorityPurpose,
}

/// What an authority may sign; the system authority never signs an estate's certificates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuthorityPurpose {
    /// Identities of nodes, agents and administrators.
    System,
    /// Certificates of the estate.
    Issuing,
}

//! Why a command is refused: a stable reason code, the cause and the way out.
//!
//! It refuses transport vocabulary; each boundary maps `Reason` once, exhaustively.

use std::fmt;

use crate::limits;

macro_rules! reasons {
    ($(#[doc = $cause:literal] $variant:ident = $code:literal, $class:ident, $fix:literal;)*) => {
        /// A stable reason code; never renamed, only added.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Reason { $(#[doc = $cause] $variant,)* }

        impl Reason {
            /// Every reason, in the order of docs/errors.md.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as printed and sent.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The class that decides gRPC status and exit code.
            pub const fn class(self) -> Class {
                match self { $(Self::$variant => Class::$class,)* }
            }

            /// What it means, one sentence.
            pub const fn cause(self) -> &'static str {
                match self { $(Self::$variant => $cause.trim_ascii(),)* }
            }

            /// The usual way out, one sentence.
            pub const fn fix(self) -> &'static str {
                match self { $(Self::$variant => $fix,)* }
            }

            /// The reason with this code.
            pub fn from_code(code: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| reason.code() == code)
            }
        }
    };
}

/// What kind of refusal it is; each class maps to one gRPC status code and one exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// The request itself is wrong and will stay wrong.
    Invalid,
    /// It names something that does not exist.
    NotFound,
    /// It would create what exists.
    Exists,
    /// The state is not (or no longer) what the request assumes.
    Precondition,
    /// The state moved while the request was under way; read again and repeat.
    Conflict,
    /// Nobody proved who is asking.
    Unauthenticated,
    /// The caller may not do this.
    Denied,
    /// A bound was reached; later it may work.
    Exhausted,
    /// Known, planned, not there yet.
    Unimplemented,
    /// No leader, or not ready; repeat soon.
    Unavailable,
    /// Whether it took effect is not known; repeat with the same request id.
    Unknown,
    /// A fault of ours.
    Internal,
}

reasons! {
    /// A name is not an RFC 1123 subdomain.
    InvalidName = "INVALID_NAME", Invalid, "use lower-case letters, digits, '-' and '.', at most 253 characters";
    /// A field of a specification is missing or out of bounds.
    InvalidSpec = "INVALID_SPEC", Invalid, "correct the field that is named and send it again";
    /// A document could not be parsed.
    InvalidManifest = "INVALID_MANIFEST", Invalid, "correct the document at the place that is named";
    /// A certificate signing request could not be parsed.
    InvalidCsr = "INVALID_CSR", Invalid, "send a PKCS #10 request in PEM or DER (RFC 2986)";
    /// The request's signature does not prove possession of its key.
    CsrSignatureInvalid = "CSR_SIGNATURE_INVALID", Invalid, "sign the request with the private key it contains the public half of";
    /// The request asks for something that policy never grants, for instance CA:TRUE.
    CsrNotAllowed = "CSR_NOT_ALLOWED", Invalid, "remove the extension that is named from the request";
    /// A key type or size that no policy allows.
    KeyNotAllowed = "KEY_NOT_ALLOWED", Invalid, "use ECDSA P-256 or P-384, Ed25519, or RSA of 2048, 3072 or 4096 bits";
    /// Something is larger than its bound.
    TooLarge = "TOO_LARGE", Invalid, "send less; the bound is in the message";
    /// A page or resume token that this cluster did not write.
    InvalidToken = "INVALID_TOKEN", Invalid, "use a token from an answer of this cluster";
    /// A resume token, or a moment, of before the history that the server holds.
    TokenTooOld = "TOKEN_TOO_OLD", Precondition, "read the state afresh and watch from the token that comes with it; an older backup may hold what came before";
    /// What is shown is of before the cluster was restored from a backup.
    OldEpoch = "OLD_EPOCH", Precondition, "read what is there now and start afresh: a new request id, no token";
    /// This server has not yet applied what the token asks for.
    Behind = "BEHIND", Unavailable, "repeat shortly, or ask another server";
    /// Named, planned, refused for now.
    NotYetSupported = "NOT_YET_SUPPORTED", Unimplemented, "leave the field out";
    /// No such object.
    NotFound = "NOT_FOUND", NotFound, "check the name and the namespace";
    /// The name is taken.
    AlreadyExists = "ALREADY_EXISTS", Exists, "update the object, or choose another name";
    /// The request made a token before, and its secret is shown once.
    SecretShownOnce = "SECRET_SHOWN_ONCE", Exists, "create another token under a new request id; revoke the one that is named if its secret was lost";
    /// The etag is not the object's.
    EtagMismatch = "ETAG_MISMATCH", Conflict, "read the object again and repeat with its etag";
    /// The object is referred to by others.
    InUse = "IN_USE", Precondition, "remove the references that are named first";
    /// A reference names nothing, or nothing that is ready.
    IssuerNotFound = "ISSUER_NOT_FOUND", Precondition, "create the issuer that is named first";
    /// The issuer's authority has no certificate or key yet.
    IssuerNotReady = "ISSUER_NOT_READY", Precondition, "wait until the authority is certified";
    /// The authority begins in the future: it was made while clocks were ahead.
    AuthorityNotYetValid = "AUTHORITY_NOT_YET_VALID", Precondition, "have the issuer use an authority made by the right time; where it is the system authority, make a new cluster";
    /// The issuer would be outlived by what it signs.
    IssuerExpiresFirst = "ISSUER_EXPIRES_FIRST", Precondition, "ask for a shorter duration, or renew the authority";
    /// A generation was already issued for another key.
    GenerationConflict = "GENERATION_CONFLICT", Conflict, "take the newest generation from the session and start from there";
    /// What the command was composed under has changed since.
    Moved = "MOVED", Conflict, "repeat the command; it is composed afresh from what is there now";
    /// No issuance is open for that generation.
    IssuanceNotOpen = "ISSUANCE_NOT_OPEN", Precondition, "wait for the server to open the generation";
    /// Policy denied the final certificate.
    PolicyDenied = "POLICY_DENIED", Denied, "ask for names, usages and lifetimes that the issuer allows";
    /// The composed certificate failed a lint.
    LintFailed = "LINT_FAILED", Invalid, "correct what the lint names";
    /// The request id was used before with other content.
    RequestIdReused = "REQUEST_ID_REUSED", Invalid, "draw a new request id for a new request";
    /// No client certificate, or one that does not verify.
    Unauthenticated = "UNAUTHENTICATED", Unauthenticated, "use the context file that bootstrap or a join wrote";
    /// The caller's role does not allow this.
    PermissionDenied = "PERMISSION_DENIED", Denied, "use an administrator's context";
    /// The join token is unknown to this cluster.
    TokenUnknown = "TOKEN_UNKNOWN", Unauthenticated, "create a token on this cluster with 'certwright token create'";
    /// The join token was consumed by another key.
    TokenUsed = "TOKEN_USED", Unauthenticated, "create a new token; each admits one joiner";
    /// The join token is too old.
    TokenExpired = "TOKEN_EXPIRED", Unauthenticated, "create a new token and use it within its life";
    /// The join token was revoked.
    TokenRevoked = "TOKEN_REVOKED", Unauthenticated, "create a new token";
    /// The join token was made before the cluster was restored from a backup.
    TokenOldEpoch = "TOKEN_OLD_EPOCH", Unauthenticated, "create a new token; those of before a restore admit nobody";
    /// The join token was made by another cluster, or for another role.
    TokenForeign = "TOKEN_FOREIGN", Unauthenticated, "create a token on this cluster, for this role";
    /// A queue or session bound was reached.
    Overloaded = "OVERLOADED", Exhausted, "repeat after the delay that is given";
    /// There is no leader just now.
    NoLeader = "NO_LEADER", Unavailable, "repeat shortly with the same request id";
    /// This server is not the leader and was asked to act as one.
    NotLeader = "NOT_LEADER", Unavailable, "repeat; any server finds the leader";
    /// The server is starting or stopping.
    NotReady = "NOT_READY", Unavailable, "repeat shortly, or ask another server";
    /// The outcome could not be learned in time.
    OutcomeUnknown = "OUTCOME_UNKNOWN", Unknown, "repeat with the same request id; it takes effect at most once";
    /// The data directory belongs to another server or cluster, or holds something else.
    ForeignData = "FOREIGN_DATA", Precondition, "use this server's own data directory, or an empty one";
    /// A restore of this data directory began and did not end.
    RestoreUnfinished = "RESTORE_UNFINISHED", Precondition, "remove the directory and restore the backup again";
    /// A backup is not whole, or was altered.
    BackupDamaged = "BACKUP_DAMAGED", Invalid, "use another copy of the backup, or an older one";
    /// The key is not the one that the backup was made for, or the backup's beginning was altered.
    BackupKeyWrong = "BACKUP_KEY_WRONG", Invalid, "name the private key that belongs to the recipient of the backup";
    /// Another process has the data directory open.
    DataInUse = "DATA_IN_USE", Precondition, "stop the other process that uses the directory";
    /// An address to listen on is taken.
    PortInUse = "PORT_IN_USE", Precondition, "choose another address, or stop the process that listens there";
    /// The data directory holds no server yet.
    NotInitialized = "NOT_INITIALIZED", Precondition, "start the server once with --bootstrap, or with --join and a token";
    /// No server of the context answers.
    Unreachable = "UNREACHABLE", Unavailable, "check the addresses in the context and that a server runs";
    /// The server that answered is not one of the context's cluster.
    UntrustedServer = "UNTRUSTED_SERVER", Unauthenticated, "use the context of the cluster you mean; this server belongs to another one";
    /// The context file is missing, malformed or belongs to another cluster.
    InvalidContext = "INVALID_CONTEXT", Invalid, "name the context file that bootstrap, dev or a join wrote with --context";
    /// What was waited for did not happen in time.
    WaitTimedOut = "WAIT_TIMED_OUT", Unavailable, "wait longer with --timeout, or ask 'certwright why'";
    /// The command line is wrong.
    Usage = "USAGE", Invalid, "see 'certwright help'";
    /// A file on this machine could not be read or written.
    FileFailed = "FILE_FAILED", Precondition, "check the path, its permissions and the free space";
    /// What was checked is not as it should be.
    VerificationFailed = "VERIFICATION_FAILED", Precondition, "see what is named above; 'certwright why' says what the cluster knows";
    /// The cluster has a leader, and less than it should have: a server is away, or cannot open the data key.
    ClusterDegraded = "CLUSTER_DEGRADED", Precondition, "start the servers that are named again, or take them out with 'certwright operator raft remove'";
    /// The server that shall lead does not vote.
    NotAVoter = "NOT_A_VOTER", Precondition, "name a server that votes, or let this one with 'certwright operator raft promote'";
    /// The server that shall lead leads already.
    AlreadyLeader = "ALREADY_LEADER", Exists, "name another server, or none: then the one that is furthest takes over";
    /// The server that is named does not answer the leader.
    ServerUnreachable = "SERVER_UNREACHABLE", Precondition, "start it, or name another server";
    /// This build cannot read what the cluster writes, that a server wants to join, or wrote, of which this is a backup.
    BuildTooOld = "BUILD_TOO_OLD", Precondition, "install what the servers of that cluster run, or ran; a join token is still good";
    /// It would write what a server of an older build could not read.
    UpgradePending = "UPGRADE_PENDING", Precondition, "upgrade the servers that 'certwright check' names in cluster/format, or take them out";
    /// The servers' clocks, or the caller's, do not show the same time.
    ClocksDisagree = "CLOCKS_DISAGREE", Precondition, "set right the clock that is named; if it is yours, say it on a machine whose clock is right";
    /// Of the servers that would be left to vote too few answer.
    QuorumAtRisk = "QUORUM_AT_RISK", Precondition, "start the servers that do not answer, or take those out first";
    /// The disk refuses writes.
    StorageFailed = "STORAGE_FAILED", Unavailable, "free space or replace the disk of the server that is named";
    /// A fault of ours.
    Internal = "INTERNAL", Internal, "report it with the server's log";
}

/// A refused command.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct Rejection {
    /// The stable code.
    pub reason: Reason,
    /// The cause, for people; names the offending value, never a secret.
    pub message: String,
    /// The field concerned, as a path (`spec.dnsNames[3]`), when there is one.
    pub field: Option<String>,
    /// The name of the object concerned (`tokens/0123456789abcdef`), where the way out needs it.
    pub object: Option<String>,
}

impl Rejection {
    /// A rejection with its cause.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: told(message.into(), limits::REFUSAL_OCTETS_MAX), field: None, object: None }
    }

    /// The same, about one field.
    pub fn field(reason: Reason, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: Some(told(field.into(), limits::REFUSAL_PATH_OCTETS_MAX)), ..Self::new(reason, message) }
    }

    /// The same, about one object.
    pub fn object(reason: Reason, object: impl Into<String>, message: impl Into<String>) -> Self {
        Self { object: Some(told(object.into(), limits::REFUSAL_PATH_OCTETS_MAX)), ..Self::new(reason, message) }
    }
}

/// A text of somebody else's as it may be told: cut between characters where it is too long (a refusal is sent in the
/// headers of an answer), and without characters that would steer a reader's terminal.
pub fn told(mut text: String, octets_max: usize) -> String {
    if text.len() > octets_max {
        text.truncate(text.floor_char_boundary(octets_max));
        text.push_str("...");
    }
    if text.contains(char::is_control) { text.replace(char::is_control, " ") } else { text }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "{field}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

#[cfg(test)]
mod tests;

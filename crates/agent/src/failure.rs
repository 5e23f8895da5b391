//! Why a delivery got no further: stable reason codes with the cause, as reported to the servers.
//!
//! It refuses secrets: a message names paths, serials and dates, never a key.

use std::fmt;
use std::io;
use std::path::Path;

use certwright_core::limits::MESSAGE_OCTETS_MAX;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $fix:literal;)*) => {
        /// A stable reason code of a failed delivery; never renamed, only added.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum FailureReason { $($(#[$doc])* $variant,)* }

        impl FailureReason {
            /// Every reason, in the order of docs/agent.md.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as reported.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
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

reasons! {
    /// The agent does not have the private key of the generation.
    KeyMissing = "KEY_MISSING", "renew the certificate: the agent makes a new key";
    /// The certificate is for another key than the agent made.
    KeyMismatch = "KEY_MISMATCH", "renew the certificate; if it recurs, report it with the agent's log";
    /// The certificate does not chain to its root.
    ChainBroken = "CHAIN_BROKEN", "check the issuer's authorities with 'certwright ca tree'";
    /// The certificate chains to a root that is not in the agent's trust bundle.
    UntrustedRoot = "UNTRUSTED_ROOT", "check the issuer's authorities with 'certwright ca tree', and the agent's --trust-bundle";
    /// By the agent's clock the certificate is not valid yet.
    NotYetValid = "NOT_YET_VALID", "correct the clock of the agent's host; the agent tries again by itself";
    /// By the agent's clock the certificate has expired.
    Expired = "EXPIRED", "correct the clock of the agent's host, or renew the certificate";
    /// The generation is older than the one installed.
    OlderGeneration = "OLDER_GENERATION", "nothing to do; the newer one stays";
    /// The certificate does not carry the names that were asked for.
    NamesMismatch = "NAMES_MISMATCH", "renew the certificate; if it recurs, report it with the agent's log";
    /// Another certificate holds the same directory.
    TargetConflict = "TARGET_CONFLICT", "give each target a directory of its own";
    /// The target may not be written.
    TargetReadOnly = "TARGET_READ_ONLY", "make the directory writable for the agent";
    /// There is no space left at the target.
    TargetFull = "TARGET_FULL", "free space at the target; the agent tries again by itself";
    /// Somebody removed files of the target; they are being written again.
    TargetLost = "TARGET_LOST", "nothing to do, the agent writes them again; find out who removes them";
    /// Writing the target failed otherwise, or its specification does not fit this host.
    TargetFailed = "TARGET_FAILED", "correct what the message names";
    /// The pre-test or the reload command failed; the previous files, where there were any, are back in place.
    HookFailed = "HOOK_FAILED", "run the command by hand and correct what it complains of";
    /// The pre-test or the reload command took longer than its timeout; the previous files, where there were any, are
    /// back in place.
    HookTimeout = "HOOK_TIMEOUT", "make the command faster or raise timeoutSeconds";
    /// The pre-test or the reload command failed, and the previous files could not be put back.
    RollBackFailed = "ROLL_BACK_FAILED", "correct what the message names; the agent tries the newest files again by itself";
    /// A handshake showed another certificate than the one written.
    ServedMismatch = "SERVED_MISMATCH", "make the consumer load the files again, or check servedCheck.address";
    /// No handshake could be made.
    ServedUnreachable = "SERVED_UNREACHABLE", "start the consumer, or check servedCheck.address";
    /// The agent's own state directory cannot be written.
    StateFailed = "STATE_FAILED", "make the agent's state directory writable and free space there";
    /// The target's kind is not supported by this agent.
    NotSupported = "NOT_SUPPORTED", "use a files target, or an agent that runs in Kubernetes";
}

/// A failed delivery.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The stable code.
    pub reason: FailureReason,
    /// The cause, for people; at most `MESSAGE_OCTETS_MAX` octets.
    pub message: String,
}

impl Failure {
    /// A failure with its cause, cut to what the servers keep.
    pub fn new(reason: FailureReason, message: impl fmt::Display) -> Self {
        Self { reason, message: cut(message.to_string()) }
    }

    /// What an error of the file system at a target amounts to.
    pub fn target(path: &Path, error: &io::Error) -> Self {
        let reason = match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => FailureReason::TargetReadOnly,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FailureReason::TargetFull,
            _ => FailureReason::TargetFailed,
        };
        Self::new(reason, format_args!("{}: {error}", path.display()))
    }

    /// What an error of the file system in the agent's own state amounts to.
    pub fn state(path: &Path, error: &io::Error) -> Self {
        Self::new(FailureReason::StateFailed, format_args!("{}: {error}", path.display()))
    }
}

/// Cuts at a character boundary.
fn cut(mut text: String) -> String {
    if text.len() > MESSAGE_OCTETS_MAX {
        let end = (0..=MESSAGE_OCTETS_MAX).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_parse_back() {
        for &reason in FailureReason::ALL {
            assert_eq!(FailureReason::from_code(reason.code()), Some(reason));
            assert!(!reason.fix().is_empty());
        }
    }

    #[test]
    fn a_message_longer_than_the_bound_is_cut_at_a_character() {
        let failure = Failure::new(FailureReason::HookFailed, "é".repeat(MESSAGE_OCTETS_MAX));
        assert!(failure.message.len() <= MESSAGE_OCTETS_MAX);
        assert!(failure.message.ends_with('é'));
    }
}

//! Every bound of the domain, named once with its reason. Bounds of the log are in `raft`, of the doors in `api`.
//!
//! It refuses numbers without a reason.

use std::time::Duration;

/// A signing request: RSA-4096 with 100 names needs about 8 KiB; eight times that leaves room and bounds parsing.
pub const CSR_OCTETS_MAX: usize = 64 * 1024;
/// Names of all kinds on one certificate: what public CAs grant.
pub const NAMES_MAX: usize = 100;
/// Octets of a DNS name (RFC 1035 section 2.3.4).
pub const DNS_NAME_OCTETS_MAX: usize = 253;
/// Octets of a URI or e-mail name.
pub const URI_OCTETS_MAX: usize = 2048;
/// Octets of a common name (RFC 5280 appendix A.1, ub-common-name).
pub const COMMON_NAME_OCTETS_MAX: usize = 64;
/// A packed specification: a hundred long names and every hook still fit, and an entry holds it four times.
pub const SPEC_OCTETS_MAX: usize = 64 * 1024;
/// Values of one subject attribute, and DNS suffixes of one issuer.
pub const VALUES_MAX: usize = 100;
/// Octets of one file name (Linux NAME_MAX).
pub const FILE_NAME_OCTETS_MAX: usize = 255;
/// Longest life of anything: half a century keeps every date in four-digit years.
pub const DURATION_MAX: Duration = Duration::from_secs(50 * 365 * 24 * 3600);
/// Longest time that a hook may take.
pub const HOOK_SECONDS_MAX: u32 = 300;
/// Targets of one certificate; each is a line in state.
pub const TARGETS_MAX: usize = 16;
/// Labels of one object.
pub const LABELS_MAX: usize = 32;
/// Octets of a label's key or value (Kubernetes: 63 each, keys with prefix 317).
pub const LABEL_OCTETS_MAX: usize = 317;
/// Arguments of a hook.
pub const ARGV_MAX: usize = 64;
/// Octets of one argument or path (Linux PATH_MAX).
pub const PATH_OCTETS_MAX: usize = 4096;
/// Octets of a failure message kept in state.
pub const MESSAGE_OCTETS_MAX: usize = 512;
/// Instances of one certificate: agents that a selector may fan out to.
pub const INSTANCES_MAX: usize = 1024;
/// Shortest certificate of ours: shorter ones are over before a served check has run twice.
pub const DURATION_MIN: Duration = Duration::from_secs(10);
/// Shortest certificate of a cert-manager.io document.
pub const CERT_MANAGER_DURATION_MIN: Duration = Duration::from_secs(3600);
/// Shortest `renewBefore` of a cert-manager.io document.
pub const CERT_MANAGER_RENEW_BEFORE_MIN: Duration = Duration::from_secs(300);
/// Lifetime when none is asked for (cert-manager's default).
pub const DURATION_DEFAULT: Duration = Duration::from_secs(90 * 24 * 3600);
/// Longest lifetime an issuer grants when it does not say (the public web's 397 days plus nothing).
pub const ISSUER_DURATION_DEFAULT_MAX: Duration = Duration::from_secs(397 * 24 * 3600);
/// Back-dating of notBefore against clock skew, at most; a tenth of short lives.
pub const BACKDATE_MAX: Duration = Duration::from_secs(30);
/// First wait after a failed issuance; doubles up to the maximum.
pub const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest wait between attempts (cert-manager's 32 h is too long for lives of hours).
pub const RETRY_MAX: Duration = Duration::from_secs(3600);
/// Life of an agent's or administrator's identity; agents renew at half of it.
pub const IDENTITY_DURATION: Duration = Duration::from_secs(24 * 3600);
/// Longest life of any identity: a node's, whose dates its peers do not consult.
pub const IDENTITY_DURATION_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
/// Life of a join token when none is asked for.
pub const TOKEN_DURATION_DEFAULT: Duration = Duration::from_secs(900);
/// Longest life of a join token.
pub const TOKEN_DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
/// Changes an agent's scope remembers as gone; older resumes get the complete scope.
pub const TOMBSTONES_MAX: usize = 1024;
/// Resident octets of one certificate with one instance and one target in state, indexes included.
pub const CERTIFICATE_RESIDENT_OCTETS_MAX: usize = 1024;
/// Agents and certificates that one decision pairs or parts: keeps its transaction far below an entry of 256 KiB even
/// with the longest names; the scheduler's reconciliation does the rest.
pub const RECONCILE_MAX: usize = 128;
/// Octets of a reason code that an agent reports.
pub const REASON_OCTETS_MAX: usize = 64;
/// A certificate that was never issued is as urgent as one that expires this long after it became due: behind what is
/// about to go dark, before what has hours left.
pub const FIRST_ISSUANCE_PATIENCE: Duration = Duration::from_secs(60);
/// Octets of what a refusal says: it is sent twice in the headers of an answer, of which clients take 16 KiB together.
pub const REFUSAL_OCTETS_MAX: usize = 1024;
/// Octets of the path of the field, or of the name of the object, that a refusal is about.
pub const REFUSAL_PATH_OCTETS_MAX: usize = 256;
/// How long a spent or lapsed join token is remembered, so that its late user is told why.
pub const TOKEN_REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3600);
/// Shortest time for which history is kept: yesterday can always be looked up.
pub const RETENTION_MIN: Duration = Duration::from_secs(24 * 3600);
/// Longest such time; whoever wants more keeps all.
pub const RETENTION_MAX: Duration = Duration::from_secs(100 * 366 * 24 * 3600);
/// How long after a shorter time was set nothing goes: a day in which somebody may notice, and set another one.
pub const RETENTION_GRACE: Duration = Duration::from_secs(24 * 3600);
/// How much longer than asked for, and than every certificate in it lasts, history stays. Clocks that are wrong together by less
/// are not noticed when servers start: a cluster that was away for a week is as likely.
pub const RETENTION_MARGIN: Duration = Duration::from_secs(7 * 24 * 3600);
/// The last epoch of a cluster: each restore opens a later one. Keeps the epoch within what a uid has room for.
pub const EPOCHS_MAX: u64 = 1 << 12;
/// Generations of one instance that may have been issued in an epoch whose end is lost: a century of hourly ones.
pub const LOST_GENERATIONS_MAX: u64 = 1_000_000;
/// How much earlier than the end of a backup's log something may begin that was issued after it: back-dating, rounding to
/// seconds, and clocks that differ.
pub const LOST_SLACK: Duration = Duration::from_secs(60);
/// How far log time is to be ahead of the clocks before it is set back: what is less it makes up for by itself.
pub const REBASE_MIN: Duration = Duration::from_secs(10);
/// Times that log time was set back which state remembers, 24 octets each: a thousand accidents. The oldest goes, and entries
/// of before it count as of the oldest that is left.
pub const REBASES_MAX: usize = 1024;
/// How much later than now a certificate may begin that is appended: clocks that differ, and more than any back-dating.
pub const BEGINS_AHEAD_MAX: Duration = Duration::from_secs(60);
/// Instances that became due at once, while nothing was written, are counted up to here when somebody asks how many are due.
pub const DUE_COUNTED_MAX: usize = 10_000;

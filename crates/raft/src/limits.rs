//! Every bound of the log, named once with its reason.
//!
//! It refuses numbers without a reason.

use std::time::Duration;

/// Octets of one entry's payload: what one fdatasync and one round trip carry without hurting the next one's latency.
pub const ENTRY_OCTETS_MAX: usize = 256 * 1024;
/// Octets of one frame between peers; an entry, its envelope and room to spare.
pub const FRAME_OCTETS_MAX: usize = 4 * 1024 * 1024;
/// Octets of the entries in one append between peers, unless a single entry is larger.
pub const APPEND_BATCH_OCTETS_MAX: usize = 1024 * 1024;
/// How long entries may wait for a peer's fdatasync before they are sent again.
pub const APPEND_TIMEOUT: Duration = Duration::from_secs(1);
/// Octets of a snapshot chunk, on disk and between peers.
pub const SNAPSHOT_CHUNK_OCTETS_MAX: usize = 1024 * 1024;
/// Octets of a snapshot file: far above what state may hold, below what would fill a disk unnoticed.
pub const SNAPSHOT_OCTETS_MAX: u64 = 64 * 1024 * 1024 * 1024;
/// Entries proposed and not yet applied: enough to cover a round trip and an fdatasync at full rate.
pub const ENTRIES_IN_FLIGHT_MAX: usize = 32;
/// Transactions waiting to be packed; beyond it callers wait.
pub const PROPOSALS_QUEUED_MAX: usize = 4096;
/// How long a proposal waits for its own apply before its outcome is said to be unknown.
pub const PROPOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a write rejected only because the new leader has no quorum acknowledgement yet is tried again.
pub const LEASE_RETRY_EVERY: Duration = Duration::from_millis(10);
/// How long a linearizable read waits for a quorum.
pub const READ_INDEX_TIMEOUT: Duration = Duration::from_secs(5);
/// Rows of the deduplication table: two minutes at two thousand commands a second.
pub const DEDUP_ROWS_MAX: usize = 1 << 18;
/// Log time that the deduplication table covers: longer than any caller's retries.
pub const DEDUP_AGE_MAX: Duration = Duration::from_secs(120);
/// Octets of payload of recent entries kept decoded for watchers and the projection.
pub const RECENT_OCTETS_MAX: usize = 16 * 1024 * 1024;
/// Entries kept decoded for watchers and the projection.
pub const RECENT_ENTRIES_MAX: usize = 4096;
/// Entries read from disk that are kept as they lie there, for repeated look-ups.
pub const ENTRY_CACHE_MAX: usize = 64;
/// Octets read from disk at a time for a slow watcher.
pub const READ_OCTETS_MAX: usize = 1024 * 1024;
/// Entries in one batch of the projection.
pub const PROJECTION_BATCH_ENTRIES_MAX: usize = 256;
/// State digests remembered.
pub const DIGESTS_MAX: usize = 8;
/// Snapshots kept: the newest and the one before it.
pub const SNAPSHOTS_KEPT: usize = 2;
/// From connection to verified peer.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes under way at once on the internal port; further connections wait in the kernel's backlog.
pub const HANDSHAKES_MAX: usize = 128;
/// Those of one address once more than half of all are taken: more than one server needs for every kind of traffic. Nine
/// servers on one machine that connect at once stay below the half. An address that takes more and stays silent leaves
/// the rest to the others.
pub const HANDSHAKES_PER_ADDRESS_MAX: usize = HANDSHAKES_MAX / 8;
/// Between HTTP/2 pings to a peer: a machine that vanished is noticed within this and the timeout below.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// How long such a ping may stay unanswered.
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// HTTP/2 flow control window between peers: an append batch in flight and the next one behind it.
pub const WINDOW_OCTETS: u32 = 4 * 1024 * 1024;
/// Requests under way on one connection of the internal port.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 1024;
/// Sending one chunk of a snapshot, or installing it at the end.
pub const INSTALL_SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(60);
/// A change of membership: two entries, and a learner's first contact.
pub const MEMBERSHIP_TIMEOUT: Duration = Duration::from_secs(15);
/// Handing leadership over to a server that was named.
pub const TRANSFER_TIMEOUT: Duration = Duration::from_secs(3);
/// How long one voter may take to take over before the next one is asked: an fdatasync and two round trips, many times.
pub const HAND_OVER_ATTEMPT: Duration = Duration::from_secs(2);
/// How long the last connections of a leader whose process died may take to end after the first.
pub const LINKS_END: Duration = Duration::from_millis(100);
/// How often a leader that may have died is dialled while it answers with broken connections.
pub const PROBES_MAX: usize = 10;
/// Between two of those.
pub const PROBE_PAUSE: Duration = Duration::from_millis(10);
/// How long one of them may take: a handshake over the longest distance between two regions.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long survivors may take to say what they have seen of the leader's death.
pub const TESTIMONY_TIMEOUT: Duration = Duration::from_secs(1);
/// How often survivors are asked: whoever has not noticed yet does within a moment.
pub const TESTIMONIES_MAX: usize = 10;
/// Between two rounds of questions.
pub const TESTIMONY_PAUSE: Duration = Duration::from_millis(50);
/// How long a stopping server waits for requests under way on the internal port.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Octets of entries that are fetched from a member and held in memory before they become one segment of the archive.
pub const BACKFILL_PORTION_OCTETS_MAX: usize = if cfg!(test) { 64 * 1024 } else { 16 * 1024 * 1024 };
/// Between two portions: what nobody waits for leaves the network and the disk to those who do.
pub const BACKFILL_PAUSE: Duration = Duration::from_millis(50);
/// How long a member may take for the next entry of a portion.
pub const BACKFILL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the snapshot that history begins with may take from one member: that of a large estate, 2 GiB, at 1 MiB a second.
/// Who is slower keeps nobody from asking the next.
pub const BASE_TIMEOUT: Duration = Duration::from_secs(40 * 60);
/// Octets that the snapshot which history begins with leaves free: a few segments of the log, without which a server stops.
pub const BASE_RESERVE_OCTETS: u64 = 256 * 1024 * 1024;
/// Octets of the list of gaps: many thousands of them.
pub const GAPS_OCTETS_MAX: u64 = 1024 * 1024;

/// Octets of one frame's payload in the write-ahead log: one entry of an append between peers always fits.
pub const WAL_FRAME_OCTETS_MAX: usize = FRAME_OCTETS_MAX;
/// Octets written before one fdatasync: more does not make the sync cheaper per octet, only the first caller slower.
pub const WAL_BATCH_OCTETS_MAX: usize = 1024 * 1024;
/// Octets queued in front of the log's writer; beyond it appends wait.
pub const WAL_QUEUE_OCTETS_MAX: usize = 16 * 1024 * 1024;
/// Octets of the newest entries kept in memory for replication and apply.
pub const WAL_CACHE_OCTETS_MAX: usize = 64 * 1024 * 1024;
/// Octets of a vote: an encoded term, node id and flag with room to grow.
pub const WAL_VOTE_OCTETS_MAX: usize = 4 * 1024;
/// Least size of a segment: its header, opening frames and a frame of useful size.
pub const WAL_SEGMENT_OCTETS_MIN: u64 = 64 * 1024;
/// Greatest size of a segment: offsets are 32 bits and recovery reads a segment into memory.
pub const WAL_SEGMENT_OCTETS_MAX: u64 = 1024 * 1024 * 1024;
/// Octets of a segment that are not for frames: header, opening frames, seal.
pub const WAL_SEGMENT_RESERVE_OCTETS: u64 = 16 * 1024;
/// Entries of archived segments whose place is kept in memory, some 16 octets each; a segment of the largest entries has a
/// thousand. Tests have smaller segments.
pub const WAL_INDEX_ENTRIES_KEPT: usize = if cfg!(test) { 16 * 15 } else { 1 << 20 };

/// How far log time may be ahead of what a majority of the voters' clocks have reached, and how far a leader's own clock may
/// be off before it gives way: many times what machines that are kept in time differ by.
pub const CLOCK_AHEAD_MAX: Duration = Duration::from_secs(5);
/// Members that joined while a server was away and that it speaks with before its record names them: more than join in any
/// outage.
pub const INTRODUCED_MAX: usize = 16;
/// Longest address of one of them: a host name and a port.
pub const ADDRESS_OCTETS_MAX: usize = 264;
/// How long no leader must have been heard before others are asked about a stranger at the door.
pub const INTRODUCTION_AFTER: Duration = Duration::from_secs(1);
/// Pause between two such rounds.
pub const INTRODUCTION_EVERY: Duration = Duration::from_millis(500);
/// How long an answer may take.
pub const INTRODUCTION_TIMEOUT: Duration = Duration::from_secs(1);
/// How often voters ask each other what their clocks show.
pub const CLOCK_EVERY: Duration = Duration::from_secs(1);
/// The same while a node knows too few clocks to stamp anything.
pub const CLOCK_HASTE: Duration = Duration::from_millis(100);
/// How long an answer may take: half of that is how wrong it can be.
pub const CLOCK_ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a new leader that knows no majority's clocks holds back what it would stamp: two rounds of asking in haste, and
/// what their answers may take.
pub const CLOCK_AWAITED: Duration = Duration::from_millis(1200);
/// How long an answer counts: several rounds may be lost.
pub const CLOCK_FRESH: Duration = Duration::from_secs(10);

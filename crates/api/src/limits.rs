//! Every bound of the doors, named once with its reason.
//!
//! It refuses numbers without a reason; bounds of the domain are in `core`, of the log in `raft`.

use std::time::Duration;

/// Largest message on any door.
pub use certwright_proto::MESSAGE_OCTETS_MAX;
/// Requests of one `IssueStream` and submissions of one session that are under way; more wait in the caller's socket.
pub const STREAM_IN_FLIGHT_MAX: usize = 256;
/// Messages queued towards one slow reader before its session stops reading state.
pub const OUTBOUND_QUEUE_MAX: usize = 256;
/// A TLS handshake takes two round trips; five seconds cover the slowest honest peer.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes under way at once: what strangers may cost in CPU and memory.
pub const HANDSHAKES_MAX: usize = 256;
/// Those of one address once more than half of all are taken: behind one address may be all agents of a site, which then
/// have half of the places; silent connections from there leave the rest to the others. What is over it is closed, and
/// whoever meant it connects again.
pub const HANDSHAKES_PER_ADDRESS_MAX: usize = HANDSHAKES_MAX / 8;
/// Open connections of known callers: agents of a large estate plus people and programs.
pub const CONNECTIONS_MAX: usize = 16_384;
/// Open connections of strangers, who can do nothing but join: many more than join at once.
pub const STRANGERS_MAX: usize = 128;
/// Those of one address once more than half of all are taken: machines that join from behind one address at once, while
/// whoever stays from there leaves the rest to the others.
pub const STRANGERS_PER_ADDRESS_MAX: usize = STRANGERS_MAX / 8;
/// Life of a stranger's connection, idle or not: a join that waits for a leader and is forwarded still ends within it.
pub const STRANGER_AGE_MAX: Duration = Duration::from_secs(20);
/// Concurrent streams of a stranger's connection: a joiner needs one.
pub const STRANGER_STREAMS_MAX: u32 = 4;
/// Largest message of a stranger: the largest signing request and its token, twice over.
pub const STRANGER_MESSAGE_OCTETS_MAX: usize = 128 * 1024;
/// Octets in flight from a stranger, all its streams together: what one connection may hold in memory.
pub const STRANGER_WINDOW_OCTETS: u32 = 128 * 1024;
/// Octets of a stranger's headers.
pub const STRANGER_HEADER_OCTETS_MAX: u32 = 8 * 1024;
/// Open connections of the read-only HTTP port; more wait in the kernel's queue.
pub const HTTP_CONNECTIONS_MAX: usize = 256;
/// How long a caller of the HTTP port may take to send its request's header: it fits one packet.
pub const HTTP_HEADER_TIMEOUT: Duration = Duration::from_secs(2);
/// Life of a connection to the HTTP port, one request and its answer: a page of metrics over a slow line.
pub const HTTP_CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Octets of the HTTP port's read and write buffers (hyper's smallest is 8 KiB); a request's header must fit.
pub const HTTP_BUFFER_OCTETS_MAX: usize = 16 * 1024;
/// Concurrent streams of one connection.
pub const CONNECTION_STREAMS_MAX: u32 = 1024;
/// Items of a page when the caller does not say.
pub const PAGE_SIZE_DEFAULT: usize = 100;
/// Most items of a page: 1000 certificates stay well below the message bound.
pub const PAGE_SIZE_MAX: usize = 1000;
/// Most items looked at for one page, so that a filter that matches little cannot hold the state for long.
pub const PAGE_SCAN_MAX: usize = 10_000;
/// Octets of a filter expression.
pub const FILTER_OCTETS_MAX: usize = 4096;
/// How long a command waits for a leader: an election takes about that long.
pub const LEADER_WAIT: Duration = Duration::from_secs(1);
/// What a caller is told to wait when there is no leader.
pub const RETRY_DELAY: Duration = Duration::from_millis(50);
/// How long a command may take once it is under way; past it the outcome is unknown.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a read waits for the state its token asks for, and a forwarded command until the leader has applied what the server
/// that forwards it has.
pub const BEHIND_WAIT: Duration = Duration::from_secs(2);
/// How long the answer to a forwarded command waits until its effect is seen on the server that forwarded it: several heartbeats.
pub const READ_OWN_WAIT: Duration = Duration::from_millis(500);
/// Commands forwarded to this server and under way at once.
pub const FORWARDED_MAX: usize = 4096;
/// How long a peer may take to say how it is.
pub const PEER_STATUS_TIMEOUT: Duration = Duration::from_millis(500);
/// How long digests of all servers are collected.
pub const DIGEST_WAIT: Duration = Duration::from_secs(3);
/// Reports are coalesced for this long into one transaction.
pub const REPORT_LINGER: Duration = Duration::from_millis(50);
/// Reports of one transaction.
pub const REPORT_BATCH_MAX: usize = 64;
/// Sessions of this server; one agent has one.
pub const SESSIONS_MAX: usize = 10_000;
/// Agents with a certificate that are unknown here and wait for the leader's word: those that joined just now, elsewhere.
pub const ADMISSIONS_MAX: usize = 64;
/// An agent says hello at once after connecting.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between two looks for agents that have something to be told, so that a busy log is not looked at per entry. What
/// comes alone waits for nothing.
pub const NEWS_PAUSE: Duration = Duration::from_millis(25);
/// How long a server that hears of no leader keeps agents and watchers, which would wait there for news that never comes:
/// several elections.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How often the server pings an idle connection.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How long it waits for the answer.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long streams may take to end when the server stops.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// Bookmarks of a quiet watch.
pub const BOOKMARK_INTERVAL: Duration = Duration::from_secs(5);
/// Between two checkpoints that one session is told: an agent makes each of them durable.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(30);
/// Servers of which is remembered that agents refused their log.
pub const REFUSED_LOGS_MAX: usize = 16;
/// How long a greeting waits for its turn to have the log read.
pub const RECALL_WAIT: Duration = Duration::from_secs(2);
/// Values of the log's chain that are kept for agents whose checkpoints end there.
pub const RECALLED_CHAINS_MAX: usize = 16;
/// Octets of what an agent says about a server that it refuses, in the log.
pub const REFUSAL_OCTETS_MAX: usize = 512;
/// How long a joiner waits for each answer.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Octets of node.json and of PEM files in the data directory.
pub const DATA_FILE_OCTETS_MAX: u64 = 1024 * 1024;

/// How long after the end of a log that is restored this machine's clock may say it is, unless the operator says so, too:
/// backups are kept for weeks.
pub const CLOCK_AFTER_MAX: Duration = Duration::from_secs(90 * 24 * 3600);
/// The same for before it: what machines that are kept in time differ by, and more.
pub const CLOCK_BEFORE_MAX: Duration = Duration::from_secs(60);
/// Attempts to have the leader look at a certificate that an agent holds, before the agent has to show it again.
pub const HELD_ATTEMPTS_MAX: u32 = 10;

/// Bounds of a server that may be given lower ones than the usual, where there is less to serve or to serve with.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Open connections of known callers; [`CONNECTIONS_MAX`].
    pub connections: usize,
    /// Sessions of agents; [`SESSIONS_MAX`].
    pub sessions: usize,
    /// Items looked at for one page; [`PAGE_SCAN_MAX`].
    pub page_scan: usize,
    /// Commands forwarded to this server and under way; [`FORWARDED_MAX`].
    pub forwarded: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: CONNECTIONS_MAX,
            sessions: SESSIONS_MAX,
            page_scan: PAGE_SCAN_MAX,
            forwarded: FORWARDED_MAX,
        }
    }
}

//! Arguments of `operator` and `bench`: what those use who run the servers.
//!
//! It refuses what callers of the API need every day; that is next door.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `operator`
#[derive(Subcommand)]
pub enum OperatorVerb {
    /// Consensus
    #[command(subcommand)]
    Raft(RaftVerb),
    /// Compare the state digest of every server
    Digest,
    /// What log time and the servers' clocks show
    #[command(after_help = "OFFSET is how far a clock is ahead of that of the server that answers.\n\n\
                      Examples:\n  certwright operator clock\n  certwright operator clock -o json\n  certwright operator clock rebase --yes-clocks-are-right")]
    Clock {
        /// Without one, it is shown
        #[command(subcommand)]
        verb: Option<ClockVerb>,
    },
    /// Renewals that are held back
    #[command(subcommand)]
    Renewals(RenewalsVerb),
    /// For how long history is kept
    #[command(subcommand)]
    Retention(RetentionVerb),
    /// Backups: written, read, and the keys that open them
    #[command(subcommand)]
    Backup(BackupVerb),
    /// Restore a cluster from a backup, offline, as one new server in a new epoch
    #[command(
        after_help = "The directory must not exist or be empty. What happened after the backup is lost; agents keep certificates that are\n\
                      newer and show them to the restored servers. Start the server afterwards with certwright server --data DIR and let\n\
                      others join it. The administrator's context is DIR/administrator.context.\n\nRefused: BACKUP_KEY_WRONG, BACKUP_DAMAGED, FOREIGN_DATA, RESTORE_UNFINISHED.\n\n\
                      Examples:\n  certwright operator restore estate.backup --key backup.key --data /var/lib/certwright"
    )]
    Restore(RestoreArgs),
    /// Restore a backup into a scratch directory, verify everything, report, and leave nothing behind
    #[command(
        after_help = "With -o json the last line is {\"ok\":true,...}. Exit codes: 0 it can be restored, 1 it cannot.\n\n\
                      Examples:\n  certwright operator restore-drill estate.backup --key backup.key -o json"
    )]
    RestoreDrill {
        /// The backup
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// File with the private key that it was made for
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Where the scratch directory is made; it holds what a server's data directory holds
        #[arg(long, value_name = "DIR")]
        scratch: Option<PathBuf>,
    },
}

/// `operator clock`
#[derive(Subcommand)]
pub enum ClockVerb {
    /// Set log time back to the servers' clocks, which had been ahead together and are right now
    #[command(
        after_help = "Log time goes to the median of the clocks of all voters that answer, a majority of them at least, if none is more than 5 s from it and this machine's not more than a minute. Set them right first, and compare with a clock that is none of theirs: if the servers' clocks are slow and log time is right, do not run this. What was issued by the time that is taken back is renewed, and renewals are held back until certwright operator renewals release. Direct issuances and authorities of that time are to be made anew.\n\nRefused: CLOCKS_DISAGREE, NOT_READY, UPGRADE_PENDING, AUTHORITY_NOT_YET_VALID.\n\n\
                      Examples:\n  certwright operator clock\n  certwright operator clock rebase --yes-clocks-are-right"
    )]
    Rebase {
        /// Yes: the servers' clocks show the right time, and log time is ahead of it
        #[arg(long)]
        yes_clocks_are_right: bool,
    },
}

/// `operator renewals`
#[derive(Subcommand)]
pub enum RenewalsVerb {
    /// Say that log time is right: what is due is renewed at once again
    #[command(
        after_help = "When the clocks of most servers jump ahead while they run, or the whole cluster was away for more than a week,\n\
                      certificates are due that may not be. Then only --renewal-brake per cent of them are renewed an hour,\n\
                      least life left first, until this is said. `certwright check` shows it as cluster/renewals.\n\nExamples:\n  certwright operator renewals release"
    )]
    Release,
}

/// `operator retention`
#[derive(Subcommand)]
pub enum RetentionVerb {
    /// Show for how long history is kept, and where it begins
    #[command(after_help = "Examples:\n  certwright operator retention show -o json")]
    Show,
    /// Keep history for so long; what is older goes, for good, once every certificate issued in it has ended
    #[command(
        after_help = "24h at least. What exists is never forgotten, only how it came to be: `get --as-of`, `history` and `events` begin later\n\
                      then, and answer TOKEN_TOO_OLD for what was before; so do backups. History goes a segment of the log at a time, on every\n\
                      server, and does not come back when more is kept later. Refused: INVALID_SPEC, UPGRADE_PENDING.\n\
                      Nothing goes within 24h of a shorter time being set: until then `set forever` loses nothing.\n\
                      After that an entry goes a week later than it might: clocks may have been wrong unnoticed.\n\n\
                      Examples:\n  certwright operator retention set 2160h\n  certwright operator retention set forever"
    )]
    Set {
        /// A duration, such as 2160h, or forever
        keep: String,
    },
}

/// `operator backup`
#[derive(Subcommand)]
pub enum BackupVerb {
    /// Make a key pair; the private key goes into a file, the public one is printed
    #[command(
        after_help = "Whoever has the private key reads everything in a backup and signs with every CA in it: keep it offline.\n\nExamples:\n  certwright operator backup keygen backup.key"
    )]
    Keygen {
        /// File for the private key; must not exist
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Write a backup of the whole estate: state, log, and CA keys, sealed
    #[command(
        after_help = "Everything is encrypted to the public key by the server itself.\n\nExamples:\n  certwright operator backup create estate.backup --to cwbackup1-..."
    )]
    Create {
        /// The file; must not exist
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Public key, as keygen printed it
        #[arg(long, value_name = "KEY")]
        to: String,
    },
    /// Read and verify a backup, and say what it is
    Inspect {
        /// The backup
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// File with the private key that it was made for
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Print the whole estate as it was, folded from the log in a backup
    #[command(
        after_help = "Examples:\n  certwright operator backup export estate.backup --key backup.key > now.yaml\n  certwright operator backup export estate.backup --key backup.key --as-of 2026-11-01T00:00:00Z -o json\n  certwright operator backup export estate.backup --key backup.key --as-of 1234"
    )]
    Export {
        /// The backup
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// File with the private key that it was made for
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// After this entry, or at this moment (RFC 3339); the end when absent
        #[arg(long, value_name = "INDEX|TIME")]
        as_of: Option<String>,
    },
}

/// Who the new server is.
#[derive(Args)]
pub struct NewServer {
    /// Data directory; must not exist or be empty
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Name of the new server
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Where clients and agents will connect; 127.0.0.1:7443 when absent
    #[arg(long, value_name = "IP:PORT")]
    pub grpc: Option<SocketAddr>,
    /// Where other servers will connect; 127.0.0.1:7444 when absent
    #[arg(long, value_name = "IP:PORT")]
    pub raft: Option<SocketAddr>,
    /// Where probes and scrapers will connect; 127.0.0.1:7480 when absent
    #[arg(long, value_name = "IP:PORT")]
    pub http: Option<SocketAddr>,
    /// Host to tell others, when it is not the address listened on
    #[arg(long, value_name = "HOST")]
    pub advertise: Option<String>,
    /// Number of the new epoch; one more than the one before when absent. Agents remember the newest: whoever restores the
    /// same backup again needs a later one than the first time
    #[arg(long, value_name = "N")]
    pub epoch: Option<u64>,
    /// This machine's clock is right, although it is far from the end of the log
    #[arg(long)]
    pub clock_is_right: bool,
}

/// `operator restore`
#[derive(Args)]
pub struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// File with the private key that it was made for
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Who the new server is
    #[command(flatten)]
    pub server: NewServer,
}

/// `operator raft`
#[derive(Subcommand)]
pub enum RaftVerb {
    /// Servers, their roles and how far they are
    Peers,
    /// Take a server out of the cluster; its id never recurs
    #[command(
        after_help = "Its data key is replaced and every CA key sealed again. Refused with QUORUM_AT_RISK when too few of the\n\
                      servers left to vote answer.\n\nExamples:\n  certwright operator raft remove server-3\n  certwright operator raft remove server-3 --wait --timeout 60s"
    )]
    Remove {
        /// Its name
        name: String,
        /// Wait until every server that is left refuses it
        #[arg(long)]
        wait: bool,
    },
    /// Have another server lead, at once and without an election's wait
    #[command(
        after_help = "Refused: NOT_FOUND, NOT_A_VOTER, ALREADY_LEADER, SERVER_UNREACHABLE.\n\nExamples:\n  certwright operator raft transfer                  whoever is furthest\n  certwright operator raft transfer --to server-2\n  certwright operator raft transfer --to server-2 -o json"
    )]
    Transfer {
        /// The server that shall lead
        #[arg(long, value_name = "NAME")]
        to: Option<String>,
    },
    /// Let a server vote that only learns
    #[command(
        after_help = "It gets the data key and votes once it has caught up and proved that it can open it.\n\nExamples:\n  certwright operator raft promote server-4 --wait"
    )]
    Promote {
        /// Its name
        name: String,
        /// Wait until it votes
        #[arg(long)]
        wait: bool,
    },
    /// Have a server that votes only learn: it serves reads, watches and agents still
    #[command(
        after_help = "Refused with QUORUM_AT_RISK when too few of the servers left to vote answer.\n\nExamples:\n  certwright operator raft demote server-4 --wait"
    )]
    Demote {
        /// Its name
        name: String,
        /// Wait until it votes no more
        #[arg(long)]
        wait: bool,
    },
    /// Go on alone from the data of one server when the others are lost for good, offline, in a new epoch
    #[command(
        after_help = "For when no quorum will ever come back: stop what is left, choose the server whose log is longest (certwright log\n\
                      verify DIR says how long), and never start the others again. Its directory is left as it is; the new one holds a\n\
                      copy. What only the lost servers had is lost, acknowledged or not; what is in this log and was not yet committed is\n\
                      kept. If a backup is newer, restore that.\n\nExamples:\n  certwright operator raft force-new-cluster --from /var/lib/certwright --data /var/lib/certwright-2 --yes-others-are-lost"
    )]
    ForceNewCluster {
        /// Data directory of the server that is left; nothing may run on it
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
        /// Yes: the other servers are lost and will never be started again
        #[arg(long)]
        yes_others_are_lost: bool,
        /// Who the new server is
        #[command(flatten)]
        server: NewServer,
    },
}

/// `bench`
#[derive(Subcommand)]
pub enum BenchVerb {
    /// Certificates per second, stored and replicated; starts and stops its own servers
    Issue {
        /// Servers
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
        servers: u8,
        /// Callers at once
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
        callers: u16,
        /// How long to measure
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
        seconds: u32,
        /// Over bidirectional streams instead of one call each
        #[arg(long)]
        stream: bool,
    },
    /// From the kill of the leader's process to the next certificate; starts, kills and stops its own servers
    Failover {
        /// Servers
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=9))]
        servers: u8,
        /// Callers at once
        #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=4096))]
        callers: u16,
        /// How many leaders to kill
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
        kills: u16,
    },
    /// From connecting to a live session, and from a renewal that is asked for to the agent that hears of it and has its
    /// certificate; what a session costs in memory. Starts and stops its own servers
    #[command(
        after_help = "Each session is a connection at both ends: raise the limit of open files first (ulimit -n)."
    )]
    Agents {
        /// Servers
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
        servers: u8,
        /// Agents, each with a session and a certificate
        #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u16).range(1..=16_000))]
        agents: u16,
    },
    /// How soon many certificates that are all due within a minute are renewed, and in which order, their keys with many
    /// agents; starts and stops its own servers
    #[command(
        after_help = "Each session is a connection at both ends: raise the limit of open files first (ulimit -n)."
    )]
    Drain {
        /// Certificates
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1000..=10_000_000))]
        intents: u32,
        /// Agents, each with a session
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=16_000))]
        agents: u16,
        /// Servers
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
        servers: u8,
    },
    /// What a server with many certificates on record takes: memory, snapshots, restart, failover; its own three servers
    Size {
        /// Certificates declared, issued and delivered beforehand
        #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1000..=10_000_000))]
        intents: u32,
        /// How many leaders to kill at the end; with none, there is one server
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(0..=1000))]
        kills: u16,
    },
}

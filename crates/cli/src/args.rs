//! The command line's shape: global flags, verbs and their arguments.
//!
//! It refuses to read files or the environment beyond what clap does for it.

mod operator;
mod read;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

pub use operator::{
    BackupVerb, BenchVerb, ClockVerb, NewServer, OperatorVerb, RaftVerb, RenewalsVerb, RestoreArgs, RetentionVerb,
};
pub use read::{DescribeArgs, EventsArgs, GetArgs, HistoryArgs};

/// Keeps every TLS certificate of an estate alive.
#[derive(Parser)]
#[command(
    name = "certwright",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "Examples:\n  certwright dev                         try it: a cluster, a CA, an agent, a certificate\n  \
                  certwright apply -f web.yaml           declare what should exist\n  \
                  certwright get certificates -A         see what does\n  \
                  certwright why web                     see what it waits for\n\n\
                  Exit codes: 0 success, 1 failed or a negative finding, 2 usage, 4 authentication or authorisation, \
                  8 pending, 124 a wait timed out."
)]
pub struct Cli {
    /// Flags of every verb.
    #[command(flatten)]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Flags of every verb.
#[derive(Args, Clone)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Context file: which cluster, and who you are there
    #[arg(long, global = true, env = "CERTWRIGHT_CONTEXT", value_name = "FILE")]
    pub context: Option<PathBuf>,
    /// Ask this server instead of the context's
    #[arg(long, global = true, env = "CERTWRIGHT_SERVER", value_name = "HOST:PORT", value_parser = host_port)]
    pub server: Option<String>,
    /// How long the command may take, waits included: 30s, 5m, 1h
    #[arg(long, global = true, env = "CERTWRIGHT_TIMEOUT", value_name = "DURATION", value_parser = duration, default_value = "60s")]
    pub timeout: Duration,
    /// Namespace
    #[arg(
        short,
        long,
        global = true,
        env = "CERTWRIGHT_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = "default"
    )]
    pub namespace: String,
    /// Output format
    #[arg(short, long, global = true, env = "CERTWRIGHT_OUTPUT", value_enum, default_value = "table")]
    pub output: Format,
}

/// The whole command line, for whoever describes it: `agent` has the options that certwright-agent reads.
pub fn command() -> clap::Command {
    Cli::command().mut_subcommand("agent", |verb| {
        let about = verb.get_about().cloned().unwrap_or_default();
        // Where it is listed: second, as it is declared.
        certwright_agent::AgentArgs::command().name("agent").about(about).display_order(1)
    })
}

/// Output formats.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Format {
    /// Columns for people
    Table,
    /// More columns
    Wide,
    /// JSON
    Json,
    /// YAML manifests
    Yaml,
    /// KIND/NAME, a line each
    Name,
    /// JUnit's XML (check only)
    Junit,
}

/// Verbs.
#[derive(Subcommand)]
pub enum Verb {
    /// Run a server of the control plane
    Server(ServerArgs),
    /// Run an agent (the same as certwright-agent)
    Agent(AgentArgs),
    /// Try certwright: cluster, CA, agent and a short-lived certificate on this machine
    Dev(DevArgs),
    /// Show the cluster's health and what is due
    #[command(
        after_help = "Health:\n  healthy      one server leads, all others answer, each could lead in its place\n  \
                      degraded     it serves, but a server is away or cannot open the data key: CLUSTER_DEGRADED names it\n  \
                      unavailable  no server leads; renewals and changes wait: NO_LEADER\n\n\
                      Exit codes: 0 healthy, 1 degraded, unavailable, or nobody answers."
    )]
    Status(StatusArgs),
    /// Check servers, identities, authorities, agents and certificates, one named check after the other
    #[command(
        after_help = "Checks:\n  cluster/leader, servers, quorum, replication, data-key, clocks, disks, timers, renewals, logs\n  \
                      identities/administrator, servers, agents\n  authorities/expiry, agents/connected\n  \
                      certificates/ready, deliveries, renewals\n\n\
                      √ as it should be, ‼ works and wants a look (warn), × does not work or soon will not (error)\n\n\
                      Examples:\n  certwright check\n  certwright check --wait --timeout 5m      after an upgrade, until all is well\n  \
                      certwright check --fail-on warn -o json\n  certwright check -o junit > check.xml\n\n\
                      Exit codes: 0 no finding at or above --fail-on, 1 some, or nobody answers, 124 some still with --wait."
    )]
    Check(CheckArgs),
    /// Declare what should exist
    #[command(
        after_help = "Examples:\n  certwright apply -f web.yaml\n  certwright apply -f manifests/ --wait\n  cat web.yaml | certwright apply -f -"
    )]
    Apply(ApplyArgs),
    /// List or get certificates, issuers, authorities, agents, servers, tokens
    #[command(
        after_help = "Examples:\n  certwright get certificates\n  certwright get certificates -A -o wide\n  certwright get certificate web -o yaml\n  certwright get certificate web --as-of 2026-11-01T08:00:00Z -o yaml\n  certwright get agents --output json"
    )]
    Get(GetArgs),
    /// Show everything about one object, with its newest events
    #[command(
        after_help = "Examples:\n  certwright describe certificate web -n shop\n  certwright describe certificate web --as-of 1204\n  certwright describe agent edge-7\n  certwright describe server server-1"
    )]
    Describe(DescribeArgs),
    /// Delete an object
    Delete(DeleteArgs),
    /// Sign one certificate without a stored intent
    #[command(
        after_help = "Examples:\n  certwright issue --dns db.internal --issuer demo --duration 24h --out ./db\n  certwright issue --csr db.csr --issuer demo --out ./db -o json"
    )]
    Issue(IssueArgs),
    /// Open a new generation now
    Renew(RenewArgs),
    /// Read the log: every fact, once, in order
    #[command(
        after_help = "Examples:\n  certwright events --from 1 -o json\n  certwright events -f --stream namespaces/web/\n  certwright events -f --cloudevents"
    )]
    Events(EventsArgs),
    /// Show every generation of a certificate, or how its specification changed
    #[command(after_help = "Examples:\n  certwright history web\n  certwright history web --diff 40 97")]
    History(HistoryArgs),
    /// Say what a certificate waits for, and what to do
    Why(NameArgs),
    /// Admit servers and agents
    #[command(subcommand)]
    Token(TokenVerb),
    /// Look at the certificate authorities
    #[command(subcommand)]
    Ca(CaVerb),
    /// Prove that a server's log is whole
    #[command(subcommand)]
    Log(LogVerb),
    /// Look after the cluster
    #[command(subcommand)]
    Operator(OperatorVerb),
    /// Show the context in use
    Context(ContextArgs),
    /// Explain a certificate file, or what HOST:PORT serves
    Inspect(InspectArgs),
    /// Verify delivered files, or a server's log offline
    #[command(
        after_help = "Examples:\n  certwright verify /etc/tls/web          key, chain and dates of delivered files\n  certwright verify /var/lib/certwright   the same as certwright log verify"
    )]
    Verify(VerifyArgs),
    /// Print a completion script
    Completion(CompletionArgs),
    /// Measure this machine
    #[command(subcommand)]
    Bench(BenchVerb),
}

/// `server`
#[derive(Args)]
#[command(
    after_help = "Examples:\n  certwright server --bootstrap --data /var/lib/certwright\n  certwright server --join 10.0.0.1:7443 --token @node.token --data /var/lib/certwright --name b\n  certwright server --data /var/lib/certwright"
)]
pub struct ServerArgs {
    /// Data directory
    #[arg(long, env = "CERTWRIGHT_DATA", value_name = "DIR")]
    pub data: PathBuf,
    /// Make a new cluster of which this is the first server; writes DIR/administrator.context
    #[arg(long, conflicts_with = "join")]
    pub bootstrap: bool,
    /// Join the cluster of this server
    #[arg(long, value_name = "HOST:PORT", requires = "token")]
    pub join: Option<String>,
    /// Join token: @FILE, or the token itself
    #[arg(long, env = "CERTWRIGHT_TOKEN", value_name = "@FILE", hide_env_values = true)]
    pub token: Option<String>,
    /// Name of this server; fixed at bootstrap or join
    #[arg(long, env = "CERTWRIGHT_NAME", value_name = "NAME")]
    pub name: Option<String>,
    /// Where clients and agents connect; 127.0.0.1:7443 at first, then as before
    #[arg(long, env = "CERTWRIGHT_GRPC", value_name = "IP:PORT")]
    pub grpc: Option<SocketAddr>,
    /// Where the other servers connect; 127.0.0.1:7444 at first, then as before
    #[arg(long, env = "CERTWRIGHT_RAFT", value_name = "IP:PORT")]
    pub raft: Option<SocketAddr>,
    /// Where probes and scrapers connect: /livez, /readyz, /metrics, read only; 127.0.0.1:7480 at first, then as before
    #[arg(long, env = "CERTWRIGHT_HTTP", value_name = "IP:PORT")]
    pub http: Option<SocketAddr>,
    /// Slowest round trip between two servers, the same for all of them; a leader is missed after five to ten times as long
    #[arg(long, env = "CERTWRIGHT_ROUND_TRIP", value_name = "DURATION", value_parser = duration, default_value = "100ms")]
    pub round_trip: Duration,
    /// While renewals are held back because clocks jumped, renew at most this share of all instances an hour, one at least; 100 never
    /// holds them back
    #[arg(long, env = "CERTWRIGHT_RENEWAL_BRAKE", value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100), default_value_t = 5)]
    pub renewal_brake: u8,
    /// Host to tell others, when it is not the address listened on
    #[arg(long, env = "CERTWRIGHT_ADVERTISE", value_name = "HOST")]
    pub advertise: Option<String>,
    /// Octets of one file of the log: small ones show in minutes what takes weeks
    #[arg(long, value_name = "N", hide = true)]
    pub segment_octets: Option<u64>,
    /// Octets of log between two snapshots
    #[arg(long, value_name = "N", hide = true)]
    pub snapshot_octets: Option<u64>,

    /// Write backups into this directory by itself
    #[arg(long, env = "CERTWRIGHT_BACKUP_DIR", value_name = "DIR", requires = "backup_recipient")]
    pub backup_dir: Option<PathBuf>,
    /// Public key that those backups are encrypted to; see operator backup keygen
    #[arg(long, env = "CERTWRIGHT_BACKUP_RECIPIENT", value_name = "KEY")]
    pub backup_recipient: Option<String>,
    /// Between two of those backups
    #[arg(long, env = "CERTWRIGHT_BACKUP_EVERY", value_name = "DURATION", value_parser = duration, default_value = "1h")]
    pub backup_every: Duration,
    /// How many of those backups to keep; the oldest go
    #[arg(long, env = "CERTWRIGHT_BACKUP_KEEP", value_name = "N", default_value_t = 48, value_parser = clap::value_parser!(u16).range(1..))]
    pub backup_keep: u16,
}

/// `agent`: passed on as they are.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct AgentArgs {
    /// Arguments of certwright-agent
    #[arg(last = true)]
    pub arguments: Vec<OsString>,
}

/// `dev`
#[derive(Args)]
#[command(
    after_help = "Examples:\n  certwright dev                        one process, stays up\n  certwright dev --once                 show it and leave\n  certwright dev --servers 3 --agents 2 --detach --dir /tmp/cw\n  certwright dev --stop --dir /tmp/cw"
)]
pub struct DevArgs {
    /// Where everything is kept; a new temporary directory when absent
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Leave after issue, delivery and the first renewal, with their proof
    #[arg(long, conflicts_with = "detach")]
    pub once: bool,
    /// Servers; more than one means separate processes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub servers: u8,
    /// Agents; more than one means separate processes
    #[arg(long, value_name = "M", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub agents: u8,
    /// Start separate processes, wait until the certificate is delivered, and leave them running
    #[arg(long)]
    pub detach: bool,
    /// Stop what --detach started in DIR
    #[arg(long, requires = "dir", conflicts_with_all = ["once", "detach"])]
    pub stop: bool,
}

/// `status`
#[derive(Args)]
pub struct StatusArgs {}

/// `check`
#[derive(Args)]
pub struct CheckArgs {
    /// Wait until no check finds anything at or above --fail-on, as long as --timeout says
    #[arg(long)]
    pub wait: bool,
    /// The least finding that fails
    #[arg(long, value_enum, default_value = "error")]
    pub fail_on: FailOn,
}

/// The least finding that fails a check.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum FailOn {
    /// Whatever wants a look
    Warn,
    /// What does not work, or soon will not
    Error,
}

/// `apply`
#[derive(Args)]
pub struct ApplyArgs {
    /// Manifest file, directory of them, or - for standard input
    #[arg(short, long, required = true, value_name = "FILE|DIR|-")]
    pub filename: Vec<PathBuf>,
    /// Check everything, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Wait until every certificate is delivered
    #[arg(long)]
    pub wait: bool,
}

/// Kinds of objects.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Kind {
    /// Certificates
    #[value(alias = "certificate", alias = "cert", alias = "certs")]
    Certificates,
    /// Issuers
    #[value(alias = "issuer")]
    Issuers,
    /// Authorities
    #[value(alias = "authority", alias = "ca")]
    Authorities,
    /// Agents
    #[value(alias = "agent")]
    Agents,
    /// Servers of the cluster
    #[value(alias = "server", alias = "nodes", alias = "node")]
    Servers,
    /// Join tokens
    #[value(alias = "token")]
    Tokens,
}

/// `delete`
#[derive(Args)]
pub struct DeleteArgs {
    /// Its kind
    #[arg(value_enum)]
    pub kind: Kind,
    /// Its name
    pub name: String,
    /// Only while it is still this version
    #[arg(long, value_name = "ETAG", default_value = "")]
    pub etag: String,
}

/// `issue`
#[derive(Args)]
pub struct IssueArgs {
    /// Sign this request (PEM or DER); only its key and names are read
    #[arg(long, value_name = "FILE", required_unless_present = "dns", conflicts_with = "dns")]
    pub csr: Option<PathBuf>,
    /// Make a key here and ask for this DNS name; may be repeated
    #[arg(long, value_name = "NAME")]
    pub dns: Vec<String>,
    /// Who signs
    #[arg(long, value_name = "NAME")]
    pub issuer: String,
    /// Lifetime
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Directory for the files; a set that an earlier issue left there is replaced, anybody else's files are not
    #[arg(long, value_name = "DIR", required_unless_present = "validate_only")]
    pub out: Option<PathBuf>,
    /// Replace whatever key is in the directory, unless an agent delivers there
    #[arg(long, requires = "dns", conflicts_with = "validate_only")]
    pub force: bool,
    /// Check everything, sign nothing, write nothing
    #[arg(long)]
    pub validate_only: bool,
}

/// `renew`
#[derive(Args)]
pub struct RenewArgs {
    /// The certificate
    pub name: String,
    /// Wait until the new generation is delivered everywhere; one line per stage
    #[arg(long)]
    pub wait: bool,
}

/// A certificate's name.
#[derive(Args)]
pub struct NameArgs {
    /// The certificate
    pub name: String,
}

/// `token`
#[derive(Subcommand)]
pub enum TokenVerb {
    /// Print a token that admits one server or one agent, once
    #[command(
        after_help = "Examples:\n  certwright token create --role node > node.token\n  certwright token create --role node --learner > region.token\n  certwright token create --role agent --agent edge-7 --label region=eu > agent.token"
    )]
    Create {
        /// Whom it admits
        #[arg(long, value_parser = ["node", "agent"])]
        role: String,
        /// Only under this name; without it the holder may become any agent that has not joined, and gets what targets
        /// name it for
        #[arg(long, value_name = "NAME", default_value = "")]
        agent: String,
        /// The server only learns: it serves reads, watches and agents in its region and never votes
        #[arg(long, conflicts_with = "agent")]
        learner: bool,
        /// Labels the agent will carry
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
        labels: Vec<(String, String)>,
        /// How long it may be used, at most 24h
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        duration: Option<Duration>,
    },
    /// List tokens; never their secrets
    List,
    /// Revoke one
    Revoke {
        /// Its id
        id: String,
    },
}

/// `ca`
#[derive(Subcommand)]
pub enum CaVerb {
    /// List authorities
    List,
    /// Print the roots that consumers should trust, PEM
    Bundle,
    /// Show who signed whom
    Tree,
}

/// `log`
#[derive(Subcommand)]
pub enum LogVerb {
    /// Verify the log in a data directory, offline: checksums, order, hash chain, signed checkpoints
    #[command(
        after_help = "Nothing is written, and no server is asked. The log's lock is held meanwhile, so that no server starts on it. \
                      If a server runs on it, what is sealed is verified, and the rest as far as it is sound.\n\n\
                      The last line is {\"events\":N,\"first_bad_index\":null}, or the index of the first entry that is not \
                      proved good; progress goes to standard error.\n\n\
                      Examples:\n  certwright log verify /var/lib/certwright\n\n\
                      Exit codes: 0 whole, 1 damaged, or it could not be read."
    )]
    Verify {
        /// Data directory of a server, or a copy of it
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

/// `context`
#[derive(Args)]
pub struct ContextArgs {
    /// Renew the context's own certificate in place
    #[arg(long)]
    pub renew: bool,
}

/// `inspect`
#[derive(Args)]
pub struct InspectArgs {
    /// A PEM or DER file, or HOST:PORT
    pub subject: String,
    /// Server name to send to HOST:PORT
    #[arg(long, value_name = "NAME", default_value = "")]
    pub server_name: String,
}

/// `verify`
#[derive(Args)]
pub struct VerifyArgs {
    /// Directory of delivered files, or data directory of a server
    pub directory: PathBuf,
}

/// `completion`
#[derive(Args)]
pub struct CompletionArgs {
    /// Which shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Parses a duration as Go writes them (`90s`, `1h30m`), which is also how cert-manager does.
pub fn duration(text: &str) -> Result<Duration, String> {
    certwright_proto::manifest::duration::parse(text)
}

/// An address to connect to: a host and a port.
fn host_port(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(1..)) => Ok(text.to_string()),
        _ => Err("not HOST:PORT".to_string()),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    Ok((key.to_string(), value.to_string()))
}

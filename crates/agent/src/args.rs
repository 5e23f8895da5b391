//! The command line of the agent, shared by `certwright-agent` and `certwright agent`.
//!
//! It refuses to print more than one `error:` line, and a token anywhere.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use certwright_core::Reason;
use certwright_core::ids::Actor;
use certwright_core::spec::Labels;
use certwright_core::time::Timestamp;
use certwright_core::x509::inspect::inspect;
use certwright_proto::join_token::FILE_OCTETS_MAX;
use certwright_proto::status::Exit;
use certwright_seams::Seams;
use certwright_seams::disk::Disk;
use certwright_seams::exec::ThreadExec;
use clap::Parser;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::agent::{Agent, AgentError, AgentOptions};
use crate::context::{Context, ContextError};
use crate::fault::{Fault, WriteStep};
use crate::join::{JoinError, join};
use crate::telemetry::Telemetry;

/// Threads of each pool: an agent waits for disks and shares its host with whom it serves.
const POOL_THREADS: usize = 2;

/// Keeps private keys where they are used and certificates where they are served.
#[derive(Parser, Debug)]
#[command(name = "certwright-agent", version)]
#[command(
    after_help = "Examples:\n  certwright-agent --join cp-1:7443 --token @agent.token --name edge-7 --label region=eu\n  \
                        certwright-agent --context /etc/certwright/agent.context --state /var/lib/certwright-agent"
)]
pub struct AgentArgs {
    /// Context file: who this agent is and where its servers are; a join writes it
    #[arg(long, value_name = "FILE", env = "CERTWRIGHT_CONTEXT", default_value = "/etc/certwright/agent.context")]
    pub context: PathBuf,
    /// State directory: what it was told, what it did, private keys on their way
    #[arg(long, value_name = "DIR", env = "CERTWRIGHT_STATE", default_value = "/var/lib/certwright-agent")]
    pub state: PathBuf,
    /// Label that targets select by; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", env = "CERTWRIGHT_LABELS", value_delimiter = ',')]
    pub labels: Vec<String>,
    /// PEM file of the only roots that certificates may chain to, whatever servers announce
    #[arg(long, value_name = "FILE", env = "CERTWRIGHT_TRUST_BUNDLE")]
    pub trust_bundle: Option<PathBuf>,
    /// Join the cluster through this server first, unless the context file is there already
    #[arg(long, value_name = "HOST:PORT", env = "CERTWRIGHT_JOIN", requires = "token")]
    pub join: Option<String>,
    /// Join token, or @FILE that holds it
    #[arg(long, value_name = "@FILE", env = "CERTWRIGHT_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Name to join under; the token may fix it
    #[arg(long, env = "CERTWRIGHT_NAME", default_value = "")]
    pub name: String,
    /// For tests: die as by kill -9 at this step of a delivery
    #[arg(long, env = "CERTWRIGHT_STOP_AT", hide = true, value_parser = parse_step)]
    pub stop_at: Option<WriteStep>,
}

fn parse_step(name: &str) -> Result<WriteStep, String> {
    WriteStep::from_name(name).ok_or_else(|| "no such step".to_string())
}

/// Why the agent ended other than by being told to.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error(transparent)]
    Context(#[from] ContextError),
    #[error(transparent)]
    Join(#[from] JoinError),
}

impl Failed {
    /// Exit code, reason code, way out.
    fn outcome(&self) -> (Exit, &'static str, &'static str) {
        match self {
            Self::Usage(_) => (Exit::Usage, Reason::Usage.code(), "see --help"),
            Self::Join(error) => (Exit::of(error.reason()), error.reason().code(), error.reason().fix()),
            Self::Context(_) | Self::Agent(AgentError::Context(_) | AgentError::Connect(_)) => (
                Exit::Denied,
                Reason::InvalidContext.code(),
                "join with --join HOST:PORT --token @FILE --name NAME, or name a context with --context",
            ),
            Self::Agent(AgentError::Trust(_)) => {
                (Exit::Usage, Reason::Usage.code(), "name a PEM file of root certificates with --trust-bundle")
            }
            Self::Agent(AgentError::Store(_)) => {
                (Exit::Failed, Reason::StorageFailed.code(), "name a writable directory of its own with --state")
            }
        }
    }
}

/// Runs the agent until SIGTERM or SIGINT; prints at most one `error:` line with cause and fix, then `reason CODE`.
pub async fn main_from<I>(arguments: I) -> ExitCode
where
    I: IntoIterator,
    I::Item: Into<OsString> + Clone,
{
    let args = match AgentArgs::try_parse_from(arguments) {
        Ok(args) => args,
        Err(error) if error.use_stderr() => {
            return report(&Failed::Usage(crate::usage::cause(&error)));
        }
        Err(help) => {
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
    };
    let exec = Arc::new(ThreadExec::with_threads(POOL_THREADS));
    let seams = Seams { exec: exec.clone(), ..Seams::system() };
    let telemetry = match Telemetry::start("certwright-agent", "info", &seams) {
        Ok(telemetry) => telemetry,
        Err(cause) => return report(&Failed::Usage(cause)),
    };
    let outcome = run(args, seams, stop_signal()).await;
    telemetry.stop(&*exec).await;
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => report(&failed),
    }
}

fn report(failed: &Failed) -> ExitCode {
    let (exit, code, fix) = failed.outcome();
    eprintln!("error: {}; {fix}", failed.to_string().replace('\n', " "));
    eprintln!("reason {code}");
    ExitCode::from(exit.code())
}

async fn run(args: AgentArgs, seams: Seams, shutdown: CancellationToken) -> Result<(), Failed> {
    let labels = parse_labels(&args.labels).map_err(Failed::Usage)?;
    let known = has_identity(&args, &seams)?;
    if let (Some(server), Some(token), false) = (&args.join, &args.token, known) {
        let token = read_token(&*seams.disk, token).map_err(Failed::Usage)?;
        let context = join(server, &token, &args.name, &labels, &seams).await?;
        context.save(&*seams.disk, &args.context)?;
        tracing::info!(name = %context.actor, context = %args.context.display(), "joined");
    }
    let mut options = AgentOptions::new(args.context, args.state, labels);
    options.trust_bundle = args.trust_bundle;
    options.fault = args.stop_at.map_or_else(Fault::none, Fault::kill_at);
    let agent = Agent::new(options, seams).await?;
    let name = agent.name();
    let mut ready = agent.ready();
    tokio::spawn(async move {
        if let Ok(server) = ready.wait_for(Option::is_some).await {
            println!("READY {name} {}", server.as_deref().unwrap_or_default());
        }
    });
    agent.run(shutdown).await?;
    Ok(())
}

/// Whether the context file holds an identity that has not ended; one that has may be replaced by joining again. An
/// administrator's is refused: it is nobody's to run an agent with, and a join would overwrite it.
fn has_identity(args: &AgentArgs, seams: &Seams) -> Result<bool, ContextError> {
    let context = match Context::load(&*seams.disk, &args.context) {
        Ok(context) => context,
        Err(ContextError::Missing(_)) => return Ok(false),
        Err(error) => return Err(error),
    };
    if !matches!(context.actor, Actor::Agent(_)) {
        return Err(ContextError::NotAgent { path: args.context.clone(), actor: context.actor });
    }
    let now = Timestamp::from_millis(seams.clock.wall_millis());
    let leaf = context.chain().ok().and_then(|chain| inspect(chain.first()?).ok());
    Ok(leaf.is_some_and(|leaf| now < leaf.not_after))
}

/// The token itself, or the contents of the file after `@`.
fn read_token(disk: &dyn Disk, token: &str) -> Result<Zeroizing<String>, String> {
    let Some(file) = token.strip_prefix('@') else { return Ok(Zeroizing::new(token.to_string())) };
    let octets = disk.read(std::path::Path::new(file), FILE_OCTETS_MAX).map(Zeroizing::new);
    let octets = octets.map_err(|error| format!("token file {file}: {error}"))?;
    let text = std::str::from_utf8(&octets).map_err(|_| format!("token file {file} holds no token"))?;
    Ok(Zeroizing::new(text.trim().to_string()))
}

fn parse_labels(labels: &[String]) -> Result<Labels, String> {
    let pair = |label: &String| {
        let (key, value) = label.split_once('=').ok_or_else(|| format!("label {label:?} is not KEY=VALUE"))?;
        Ok((key.to_string(), value.to_string()))
    };
    labels.iter().filter(|label| !label.is_empty()).map(pair).collect()
}

/// Cancelled at SIGTERM or SIGINT.
fn stop_signal() -> CancellationToken {
    use tokio::signal::unix::{SignalKind, signal};
    let token = CancellationToken::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let token = token.clone();
        match signal(kind) {
            Ok(mut signals) => drop(tokio::spawn(async move {
                signals.recv().await;
                token.cancel();
            })),
            Err(error) => tracing::warn!(%error, "signals cannot be handled"),
        }
    }
    token
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn labels_are_pairs() {
        let labels = parse_labels(&["region=eu".into(), String::new(), "a=b=c".into()]).unwrap();
        assert_eq!(labels, Labels::from([("region".into(), "eu".into()), ("a".into(), "b=c".into())]));
        assert!(parse_labels(&["region".into()]).is_err());
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        AgentArgs::command().debug_assert();
    }

    #[test]
    fn a_join_needs_a_token() {
        let parse = |words: &[&str]| AgentArgs::try_parse_from(std::iter::once("x").chain(words.iter().copied()));
        assert!(parse(&["--join", "a:1"]).is_err());
        let args =
            parse(&["--join", "a:1", "--token", "@t", "--name", "edge", "--label", "a=b", "--label", "c=d"]).unwrap();
        assert_eq!((args.name.as_str(), args.labels.len()), ("edge", 2));
        assert_eq!(parse(&["--stop-at", "switched"]).unwrap().stop_at, Some(WriteStep::Switched));
        assert!(parse(&["--stop-at", "never"]).is_err());
    }

    #[test]
    fn a_token_file_is_read_and_its_contents_are_not_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let disk = Seams::system().disk;
        disk.write_atomic(&path, b"  cw1.secret\n", 0o600).unwrap();
        assert_eq!(*read_token(&*disk, &format!("@{}", path.display())).unwrap(), "cw1.secret");
        assert_eq!(*read_token(&*disk, "cw1.other").unwrap(), "cw1.other");
        let missing = read_token(&*disk, "@/nowhere/token").unwrap_err();
        assert!(missing.contains("/nowhere/token"), "{missing}");
    }
}

//! The command line: server, agent, dev and the client verbs, one file a verb.
//!
//! It refuses logic that another program would need: that belongs in a room below, behind the API.

pub mod apply;
pub mod args;
pub mod bench;
pub mod ca;
mod check;
pub mod client;
pub mod completion;
pub mod context;
pub mod delete;
pub mod describe;
pub mod dev;
pub mod events;
pub mod failure;
pub mod get;
pub mod history;
pub mod inspect;
pub mod issue;
pub mod limits;
pub mod log;
pub mod operator;
pub mod output;
pub mod renew;
pub mod server;
mod signals;
pub mod stages;
pub mod status;
pub mod telemetry;
pub mod token;
pub mod verify;
pub mod why;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Verb};
use crate::failure::Failure;

/// Parses the command line, runs the verb, prints at most one `error:` line, answers with the exit code.
pub fn main() -> ExitCode {
    // Two providers in one process would be two sets of rules; this makes any second one an error.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let words: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(for_the_agent(words)) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return failure::usage(&error),
        Err(help) => {
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
    };
    match run(cli) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

/// The agent has a command line of its own, with its own help; ours would take its --context for itself.
fn for_the_agent(words: Vec<OsString>) -> Vec<OsString> {
    match &words[..] {
        [program, verb, rest @ ..] if verb == "agent" => [&[program.clone(), verb.clone(), "--".into()], rest].concat(),
        [program, help, verb] if help == "help" && verb == "agent" => {
            vec![program.clone(), verb.clone(), "--".into(), "--help".into()]
        }
        _ => words,
    }
}

/// Runs one parsed command line on a runtime of its own.
fn run(cli: Cli) -> Result<ExitCode, Failure> {
    // Servers and benchmarks use every core; a client's one request does not.
    let mut builder = match cli.verb {
        Verb::Server(_) | Verb::Dev(_) | Verb::Bench(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = builder.enable_all().build().map_err(|error| Failure::internal(format!("no runtime: {error}")))?;
    let outcome = runtime.block_on(dispatch(cli));
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    outcome
}

async fn dispatch(cli: Cli) -> Result<ExitCode, Failure> {
    let Cli { global, verb } = cli;
    if global.output == args::Format::Junit && !matches!(verb, Verb::Check(_)) {
        return Err(Failure::usage("-o junit is for check only", "use -o json"));
    }
    match verb {
        Verb::Server(args) => server::run(&global, args).await,
        Verb::Agent(args) => agent(args).await,
        Verb::Dev(args) => dev::run(&global, args).await,
        Verb::Status(args) => status::run(&global, args).await,
        Verb::Check(args) => check::run(&global, args).await,
        Verb::Apply(args) => apply::run(&global, args).await,
        Verb::Get(args) => get::run(&global, args).await,
        Verb::Describe(args) => describe::run(&global, args).await,
        Verb::Delete(args) => delete::run(&global, args).await,
        Verb::Issue(args) => issue::run(&global, args).await,
        Verb::Renew(args) => renew::run(&global, args).await,
        Verb::Events(args) => events::run(&global, args).await,
        Verb::History(args) => history::run(&global, args).await,
        Verb::Why(args) => why::run(&global, args).await,
        Verb::Token(args) => token::run(&global, args).await,
        Verb::Ca(args) => ca::run(&global, args).await,
        Verb::Log(args) => log::run(args).await,
        Verb::Operator(args) => operator::run(&global, args).await,
        Verb::Context(args) => context::run(&global, args).await,
        Verb::Inspect(args) => inspect::run(&global, args).await,
        Verb::Verify(args) => verify::run(&global, args).await,
        Verb::Completion(args) => completion::run(&args),
        Verb::Bench(args) => bench::run(&global, args).await,
    }
}

/// `certwright agent` is `certwright-agent`: the same arguments, the same code.
async fn agent(args: args::AgentArgs) -> Result<ExitCode, Failure> {
    let words = std::iter::once("certwright agent".into()).chain(args.arguments);
    Ok(certwright_agent::main_from(words).await)
}

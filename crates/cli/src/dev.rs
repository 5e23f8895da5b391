//! `dev`: a whole certwright on this machine, with a demo CA and a certificate that lives thirty seconds.
//!
//! It refuses shortcuts: what it shows is what a fleet does, the same code over the same sockets and files.

pub mod demo;
pub mod fleet;
pub mod local;
pub mod processes;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use certwright_seams::Seams;

use crate::args::{DevArgs, Global};
use crate::failure::Failure;
use crate::output::note;
use crate::signals::until_signal;
use demo::Demo;

/// How long the demo may take from the first command to the first renewal.
const DEMO_WITHIN: Duration = Duration::from_secs(120);

/// Runs the verb.
pub async fn run(global: &Global, args: DevArgs) -> Result<ExitCode, Failure> {
    let seams = Seams::system();
    let directory = directory(&args, &seams)?;
    if args.stop {
        let stopped = processes::stop(&directory, &*seams.disk).await?;
        note(&match stopped.as_slice() {
            [] => format!("nothing runs in {}", directory.display()),
            names => format!("stopped: {}", names.join(", ")),
        });
        return Ok(ExitCode::SUCCESS);
    }
    processes::refuse_running(&directory, &*seams.disk)?;
    processes::refuse_other_shape(&directory, args.servers, &*seams.disk)?;
    seams.disk.create_dir_all(&directory, 0o700).map_err(|error| Failure::file(directory.display(), error))?;
    note(&format!("everything is kept in {}", directory.display()));
    let separate = args.detach || args.servers > 1 || args.agents > 1;
    if separate {
        processes(global, &args, directory, seams).await
    } else {
        one_process(global, &args, directory, seams).await
    }
}

/// The directory asked for, or a new one.
fn directory(args: &DevArgs, seams: &Seams) -> Result<PathBuf, Failure> {
    let directory = match &args.dir {
        Some(directory) => std::path::absolute(directory).map_err(|error| Failure::file(directory.display(), error))?,
        None => {
            let mut name = [0; 6];
            seams.entropy.fill(&mut name);
            std::env::temp_dir().join(format!("certwright-dev-{}", hex::encode(name)))
        }
    };
    Ok(directory)
}

/// The embedded default: server and agent in this process.
async fn one_process(global: &Global, args: &DevArgs, directory: PathBuf, seams: Seams) -> Result<ExitCode, Failure> {
    let telemetry = crate::telemetry::quiet("certwright-dev", &seams)?;
    let mut local = local::Local::start(&directory, seams.clone()).await?;
    let demo = Demo::new(&directory, seams.clone(), DEMO_WITHIN)?;
    let outcome = async {
        demo.prepare().await?;
        local.start_agent(&demo).await?;
        demo.show(global.output).await?;
        if !args.once {
            note(&demo.try_next(&directory));
            local.until_signal().await;
        }
        Ok(ExitCode::SUCCESS)
    }
    .await;
    local.stop().await;
    telemetry.stop(&*seams.exec).await;
    outcome
}

/// Separate processes of this same binary.
async fn processes(global: &Global, args: &DevArgs, directory: PathBuf, seams: Seams) -> Result<ExitCode, Failure> {
    let mut fleet = fleet::Fleet::start(&directory, args.servers, seams.clone()).await?;
    let outcome = async {
        let demo = Demo::new(&directory, seams, DEMO_WITHIN)?;
        demo.prepare().await?;
        fleet.start_agents(&demo, args.agents).await?;
        if args.detach {
            demo.deliver().await?;
            note(&demo.try_next(&directory));
            return Ok(ExitCode::SUCCESS);
        }
        demo.show(global.output).await?;
        if !args.once {
            note(&demo.try_next(&directory));
            until_signal().await;
        }
        Ok(ExitCode::SUCCESS)
    }
    .await;
    if !(args.detach && outcome.is_ok()) {
        fleet.stop().await?;
    }
    outcome
}

//! `operator restore-drill`: whether a backup can be restored, found out by restoring it.
//!
//! It refuses to leave anything behind: what it made goes when it ends, well or not.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use certwright_api::log_check::verify_log;
use certwright_api::node::NodeConfig;
use certwright_api::restore::{Origin, Terms, restore};
use certwright_core::{Rejection, State};
use certwright_proto::storage::DomainCodec;
use certwright_raft::replay;
use certwright_seams::exec::compute;
use certwright_seams::{Disk, Seams};
use serde_json::{Value, json};

use super::backup::{key, print};
use super::restore::value;
use crate::args::Global;
use crate::failure::Failure;
use crate::signals::until_signal;

/// A directory that is removed when this is dropped.
struct Scratch {
    path: PathBuf,
    disk: Arc<dyn Disk>,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.disk.exists(&self.path).unwrap_or(true)
            && let Err(error) = self.disk.remove_dir_all(&self.path)
        {
            crate::output::note(&format!("remove {} yourself, it holds keys: {error}", self.path.display()));
        }
    }
}

/// Runs the verb.
pub(super) async fn run(
    global: &Global,
    file: &Path,
    key_file: &Path,
    scratch: Option<&Path>,
) -> Result<ExitCode, Failure> {
    let seams = Seams::system();
    let started = seams.clock.monotonic();
    let key = key(&*seams.disk, key_file)?;
    let mut drawn = [0; 8];
    seams.entropy.fill(&mut drawn);
    let parent = scratch.map_or_else(std::env::temp_dir, Path::to_path_buf);
    let path = parent.join(format!("certwright-drill-{}", hex::encode(drawn)));
    let scratch = Scratch { path, disk: seams.disk.clone() };
    let report = tokio::select! {
        biased;
        () = until_signal() => Err(Failure::finding("the drill was interrupted", "run it again")),
        report = rehearse(&seams, &scratch.path, Origin::Backup(file, &key)) => report,
    };
    drop(scratch);
    let mut report = report?;
    report["seconds"] = json!(seams.clock.monotonic().saturating_sub(started).as_secs_f64());
    let text = format!(
        "{} can be restored: {} events up to {}, in {:.1} s",
        file.display(),
        report["events"],
        report["after"].as_str().unwrap_or_default(),
        report["seconds"].as_f64().unwrap_or_default()
    );
    print(global, &text, &report)?;
    Ok(ExitCode::SUCCESS)
}

/// Restores, verifies what that gave, and says what it found.
async fn rehearse(seams: &Seams, path: &Path, origin: Origin<'_>) -> Result<Value, Failure> {
    let config = NodeConfig::new(path.to_path_buf());
    // Nobody will ever hear of the epoch.
    let terms = Terms { clock_is_right: true, ..Terms::default() };
    let restored = restore(&config, seams.clone(), origin, terms, |_| Ok(())).await?;
    // Elsewhere, so that a signal is heard meanwhile.
    let (disk, scratch) = (seams.disk.clone(), path.to_owned());
    let looked = compute(&*seams.exec, "drill", move || {
        let log = verify_log(&*disk, &scratch, &mut drop)?;
        Ok::<_, Rejection>((log, replay::<State>(disk, &scratch, &DomainCodec)))
    });
    let (log, replayed) = looked.await?;
    let hint = "use another copy of the backup, or an older one";
    if let Some(finding) = log.log.finding {
        return Err(Failure::finding(format!("the restored log is damaged: {}", finding.what), hint));
    }
    let replayed =
        replayed.map_err(|error| Failure::finding(format!("the restored log cannot be replayed: {error}"), hint))?;
    if !replayed.differing.is_empty() || !replayed.unreadable.is_empty() || replayed.compared == 0 {
        return Err(Failure::finding("the snapshot is not what the log folds to", hint));
    }
    let mut report = value(&restored);
    report["ok"] = json!(true);
    report["snapshotsCompared"] = json!(replayed.compared);
    Ok(report)
}

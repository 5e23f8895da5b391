//! `log`: a server's log is verified where it lies.
//!
//! It refuses to ask a server and to write: what it says rests on the files alone.

use std::path::Path;
use std::process::ExitCode;

use certwright_api::log_check::{LogReport, verify_log};
use certwright_seams::Seams;
use serde_json::json;

use crate::args::LogVerb;
use crate::failure::Failure;
use crate::output;

/// Runs the verb.
pub async fn run(verb: LogVerb) -> Result<ExitCode, Failure> {
    let LogVerb::Verify { directory } = verb;
    verify(&directory, &Seams::system())
}

/// Verifies the log in a data directory; the last line on standard output is the verdict, in every format.
pub fn verify(directory: &Path, seams: &Seams) -> Result<ExitCode, Failure> {
    let report = verify_log(&*seams.disk, directory, &mut |text| output::note(&text))?;
    describe(&report);
    let first_bad = report.log.finding.as_ref().map(|finding| finding.first_bad_index);
    output::line(&json!({"events": report.events, "first_bad_index": first_bad}).to_string())?;
    let Some(finding) = report.log.finding else { return Ok(ExitCode::SUCCESS) };
    let text = format!(
        "the log is damaged from index {} on: {} at offset {}: {}",
        finding.first_bad_index,
        finding.path.display(),
        finding.offset,
        finding.what
    );
    Err(Failure::finding(
        text,
        "keep the directory for inspection, wipe this server's data and let it join again; the others have the entries",
    ))
}

/// What people want to know besides the verdict.
fn describe(report: &LogReport) {
    let LogReport { events, checkpoints, checkpoints_unknown, beginning_unproved, log } = report;
    output::note(&format!(
        "{events} events in {} entries, {} files; {checkpoints} signed checkpoints",
        log.entries, log.segments
    ));
    if *checkpoints_unknown > 0 {
        output::note(&format!(
            "{checkpoints_unknown} checkpoints cover entries that are not here, or their key is not"
        ));
    }
    if *beginning_unproved {
        output::note(
            "where the history begins is not proved: the entry that says so is not here yet, or is being written",
        );
    }
    for (first, last) in &log.absent {
        output::note(&format!("entries {first} to {last} are not here: a snapshot jumped over them"));
    }
    if log.in_use && log.finding.is_none() {
        output::note(&format!(
            "a server writes to this log: verified up to entry {}; stop the server to verify its end",
            log.next_index.saturating_sub(1)
        ));
    }
}

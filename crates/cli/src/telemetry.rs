//! How much the verbs that serve log when nobody says.
//!
//! It refuses a second way to log and trace: that is the agent's.

use certwright_agent::telemetry::Telemetry;
use certwright_seams::Seams;

use crate::failure::Failure;

/// What consensus and its kin say on an ordinary day, or several times a second while a server is away, which `check` says.
const QUIET_ROOMS: &str =
    "openraft::replication=error,openraft::engine=error,openraft::core::heartbeat=error,h2=warn,hyper=warn,sled=warn";

/// For a server.
pub fn start(service: &'static str, seams: &Seams) -> Result<Telemetry, Failure> {
    begin(service, &format!("info,openraft=warn,{QUIET_ROOMS}"), seams)
}

/// Warnings only, for a demonstration whose own words matter.
pub fn quiet(service: &'static str, seams: &Seams) -> Result<Telemetry, Failure> {
    begin(service, &format!("warn,openraft=error,{QUIET_ROOMS}"), seams)
}

fn begin(service: &'static str, levels: &str, seams: &Seams) -> Result<Telemetry, Failure> {
    let fix = "correct the variable, or unset OTEL_EXPORTER_OTLP_ENDPOINT to go without traces";
    Telemetry::start(service, levels, seams).map_err(|cause| Failure::usage(cause, fix))
}

//! How much the verbs that serve log when nobody says.
//!
//! It refuses a second way to log and trace: that is the agent's.

use certwright_agent::telemetry::Telemetry;

/// What consensus and its kin say on an ordinary day.
const QUIET_ROOMS: &str = "openraft::replication=error,openraft::engine=error,h2=warn,hyper=warn,sled=warn";

/// For a server.
pub fn start(service: &'static str) -> Telemetry {
    Telemetry::start(service, &format!("info,openraft=warn,{QUIET_ROOMS}"))
}

/// Warnings only, for a demonstration whose own words matter.
pub fn quiet(service: &'static str) -> Telemetry {
    Telemetry::start(service, &format!("warn,openraft=error,{QUIET_ROOMS}"))
}

//! Whether an agent may open a session: it is registered with the key that it proved.
//!
//! It refuses to call anybody unknown on the word of a server that may be behind: first the leader says how far the log is.
//! It refuses to ask that for more than a few at once.

use std::sync::Arc;

use certwright_core::ids::{AgentName, Uid};
use certwright_core::log::Trace;
use certwright_core::{Reason, Rejection};
use tonic::Status;

use crate::doors::Doors;
use crate::limits::ADMISSIONS_MAX;
use crate::listener::Caller;
use crate::refuse;
use crate::services::cluster::up_to_date;

/// The registration of the agent that opens a session.
pub(super) async fn admit(doors: &Arc<Doors>, agent: &AgentName, caller: &Caller, trace: Trace) -> Result<Uid, Status> {
    if let Ok(uid) = registered(doors, agent, caller.spki_hash) {
        return Ok(uid);
    }
    let busy =
        || Rejection::new(Reason::Overloaded, format!("{ADMISSIONS_MAX} agents unknown here are looked up already"));
    let _admission = doors.admissions.try_acquire().map_err(|_| refuse::status(busy()))?;
    up_to_date(doors, caller, trace).await?;
    registered(doors, agent, caller.spki_hash).map_err(refuse::status)
}

/// The agent's registration as this server knows it; `UNAUTHENTICATED` when there is none with that key.
pub(super) fn registered(doors: &Doors, agent: &AgentName, key: Option<[u8; 32]>) -> Result<Uid, Rejection> {
    doors.log.read(|view| {
        let proved = view.state.agents.get(agent).filter(|known| key.is_some_and(|key| known.is_known_by(key)));
        proved.map(|known| known.uid).ok_or_else(|| removed(agent))
    })
}

pub(super) fn removed(agent: &AgentName) -> Rejection {
    Rejection::new(
        Reason::Unauthenticated,
        format!("no agent {agent} with this key is registered; it was removed, or joined again elsewhere"),
    )
}

//! Whether an agent may open a session: it is registered with the key that it proved.
//!
//! It refuses to call anybody unknown on the word of a server that may be behind: first the leader says how far the log is.
//! It refuses to ask that for more than a few at once.

use std::sync::Arc;

use certwright_core::ids::{Actor, AgentName, Uid};
use certwright_core::log::Trace;
use certwright_core::policy::{Action, Resource};
use certwright_core::{Reason, Rejection};
use certwright_issuance::order::Call;
use certwright_proto::internal::v1::ReadmitRequest;
use certwright_proto::v1;
use tonic::Status;

use crate::dispatch::{Method, execute};
use crate::doors::Doors;
use crate::limits::ADMISSIONS_MAX;
use crate::listener::Caller;
use crate::refuse;
use crate::services::cluster::up_to_date;
use crate::services::own_agent;

/// The registration of the agent that opens a session.
pub(super) async fn admit(doors: &Arc<Doors>, agent: &AgentName, caller: &Caller, trace: Trace) -> Result<Uid, Status> {
    if let Ok(uid) = registered(doors, agent, caller.spki_hash) {
        return Ok(uid);
    }
    let busy =
        || Rejection::new(Reason::Overloaded, format!("{ADMISSIONS_MAX} agents unknown here are looked up already"));
    let _admission = doors.admissions.try_acquire().map_err(|_| refuse::status(busy()))?;
    up_to_date(doors, caller, trace).await?;
    if let Some(certificate) = &caller.certificate
        && registered(doors, agent, caller.spki_hash).is_err()
        && doors.log.read(|view| view.state.cluster.opened().is_some() && view.state.agents.contains(agent))
    {
        let request = ReadmitRequest { certificate: certificate.to_vec().into() };
        let position = execute::<ReadmitAgent>(doors, caller, trace, request).await?;
        doors.catch_up(Some(&position)).await.map_err(refuse::status)?;
    }
    registered(doors, agent, caller.spki_hash).map_err(refuse::status)
}

/// `agent/readmit`: an identity that a restored log does not know.
pub(crate) struct ReadmitAgent;

impl Method for ReadmitAgent {
    const PATH: &'static str = "agent/readmit";
    type Request = ReadmitRequest;
    type Response = v1::Token;

    fn right(actor: &Actor) -> (Action, Resource) {
        own_agent(actor, Action::Session)
    }

    async fn run(doors: &Arc<Doors>, call: Call, request: ReadmitRequest) -> Result<v1::Token, Rejection> {
        doors.control.readmit(call, request.certificate.to_vec()).await?;
        Ok(doors.log.read(|view| doors.token(view.position)))
    }
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

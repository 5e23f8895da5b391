//! Where a command runs: here when this server leads, one hop away when another does, and after a short wait when
//! nobody does.
//!
//! It refuses a second hop: what arrives forwarded either runs here or is answered NOT_LEADER.

mod table;

use std::future::Future;
use std::sync::Arc;

use certwright_core::ids::Actor;
use certwright_core::log::{RequestId, Trace};
use certwright_core::mutant::{self, Mutant};
use certwright_core::policy::{Action, Resource};
use certwright_core::{Reason, Rejection};
use certwright_issuance::order::Call;
use certwright_proto::api::values;
use prost::Message;
use tonic::Status;
use tracing::Instrument;

use crate::doors::Doors;
use crate::forward::Unanswered;
use crate::limits::{COMMAND_TIMEOUT, LEADER_WAIT, RETRY_DELAY};
use crate::listener::Caller;
use crate::{refuse, trace};

#[cfg(test)]
pub(crate) use table::PATHS;
pub(crate) use table::run_encoded;

/// One command of the API: how it is told apart, and what the leader does with it.
pub(crate) trait Method: 'static {
    /// Full gRPC path, or an internal one such as `agent/csr`.
    const PATH: &'static str;
    /// What is asked.
    type Request: Message + Default + Clone + Send + Sync + 'static;
    /// What is answered.
    type Response: Message + Default + Send + 'static;

    /// The caller's name for this command; empty when it chose none.
    fn request_id(_request: &Self::Request) -> &str {
        ""
    }

    /// The right that it needs, asked for before anything is forwarded; the leader asks again.
    fn right(actor: &Actor) -> (Action, Resource);

    /// Runs on the leader.
    fn run(
        doors: &Arc<Doors>,
        call: Call,
        request: Self::Request,
    ) -> impl Future<Output = Result<Self::Response, Rejection>> + Send;
}

/// Why one attempt brought no answer.
enum Attempt {
    /// The leader said no.
    Refused(Status),
    /// Nobody took it: repeat.
    NotTaken,
    /// It was sent and no answer came: it may have taken effect.
    Lost,
}

/// Runs a command wherever the leader is. A command whose answer was lost is repeated under the same id, which takes
/// effect at most once.
pub(crate) async fn execute<M: Method>(
    doors: &Arc<Doors>,
    caller: &Caller,
    trace: Trace,
    request: M::Request,
) -> Result<M::Response, Status> {
    let span = tracing::info_span!("request", rpc.method = M::PATH);
    let trace = trace::adopt(&span, trace);
    attempt_all::<M>(doors, caller, trace, request).instrument(span).await
}

/// Attempts until somebody has answered, or nobody has led for too long.
async fn attempt_all<M: Method>(
    doors: &Arc<Doors>,
    caller: &Caller,
    trace: Trace,
    request: M::Request,
) -> Result<M::Response, Status> {
    let request_id = request_id(doors, M::request_id(&request)).map_err(refuse::status)?;
    let mut leadership = doors.log.leadership();
    let mut waiting_since = None;
    let mut lost = false;
    loop {
        let now = *leadership.borrow_and_update();
        let (actor, key) = (caller.actor.clone(), caller.spki_hash);
        let another = || self::request_id(doors, "").map_err(refuse::status);
        let request_id = if mutant::is(Mutant::IdPerAttempt) { another()? } else { request_id };
        let call = Call { actor, key, request_id: Some(request_id), trace, validate_only: false };
        let attempt = if now.is_self && now.ready {
            run_here::<M>(doors, call, request.clone()).await
        } else {
            match now.leader.filter(|_| !now.is_self) {
                Some(leader) => run_there::<M>(doors, leader, &call, &request).await,
                None => Err(Attempt::NotTaken),
            }
        };
        match attempt {
            Ok(response) => return Ok(response),
            Err(Attempt::Refused(status)) => return Err(status),
            Err(Attempt::NotTaken) => {}
            Err(Attempt::Lost) => lost = true,
        }
        let clock = doors.seams.clock.monotonic();
        if clock.saturating_sub(*waiting_since.get_or_insert(clock)) >= LEADER_WAIT {
            return Err(nobody(lost));
        }
        // Whatever comes first: a change of leadership, or a moment for the same leader to get ready.
        if let Ok(Err(_)) = tokio::time::timeout(RETRY_DELAY, leadership.changed()).await {
            // The log has ended: this server will never know of a leader again.
            return Err(nobody(lost));
        }
    }
}

fn nobody(lost: bool) -> Status {
    refuse::status(match lost {
        true => Rejection::new(Reason::OutcomeUnknown, "the leader went away before it answered"),
        false => Rejection::new(Reason::NoLeader, "the servers have no leader at the moment"),
    })
}

async fn run_here<M: Method>(doors: &Arc<Doors>, call: Call, request: M::Request) -> Result<M::Response, Attempt> {
    let run = tokio::time::timeout(COMMAND_TIMEOUT, M::run(doors, call, request)).await;
    let unknown = || Rejection::new(Reason::OutcomeUnknown, "the command was not committed in time");
    match run.unwrap_or_else(|_| Err(unknown())) {
        Ok(response) => Ok(response),
        Err(rejection) if rejection.reason == Reason::NotLeader => Err(Attempt::NotTaken),
        Err(rejection) => Err(Attempt::Refused(refuse::status(rejection))),
    }
}

async fn run_there<M: Method>(
    doors: &Arc<Doors>,
    leader: u64,
    call: &Call,
    request: &M::Request,
) -> Result<M::Response, Attempt> {
    match doors.forwarder.send(&doors.log, leader, M::PATH, call, request.encode_to_vec()).await {
        Ok(Ok(bytes)) => M::Response::decode(bytes).map_err(|error| {
            Attempt::Refused(refuse::status(Rejection::new(Reason::Internal, format!("the leader's answer: {error}"))))
        }),
        Ok(Err(status)) if refuse::reason(&status) == Reason::NotLeader => Err(Attempt::NotTaken),
        Ok(Err(status)) => Err(Attempt::Refused(status)),
        Err(Unanswered::NotSent) => Err(Attempt::NotTaken),
        Err(Unanswered::Lost) => Err(Attempt::Lost),
    }
}

/// Parses a request id (32 hex digits or a UUID), or draws one.
pub(crate) fn request_id(doors: &Doors, text: &str) -> Result<RequestId, Rejection> {
    if let Some(id) = values::request_id(text)? {
        return Ok(id);
    }
    let mut octets = [0; 16];
    doors.seams.entropy.fill(&mut octets);
    Ok(RequestId(octets))
}

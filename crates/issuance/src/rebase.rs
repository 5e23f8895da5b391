//! Log time set back to the servers' clocks, when an administrator says that they are right.
//!
//! It refuses to believe him alone: the voters' clocks must agree, and his with them. Which time is the right one nobody can
//! say who has but one clock.

use std::time::Duration;

use certwright_core::command::Command;
use certwright_core::limits::{BEGINS_AHEAD_MAX, REBASE_MIN};
use certwright_core::policy::{Action, Resource};
use certwright_core::time::Timestamp;
use certwright_core::{Reason, Rejection};
use certwright_proto::manifest::duration;
use certwright_raft::ClocksApart;

use crate::digest;
use crate::identities::system_authority;
use crate::order::{Call, Outcome, Rebased};
use crate::sequencer::{Check, Refusal};
use crate::session::{Ask, Session};
use crate::signing::ATTEMPTS_MAX;

/// How far the caller's clock may be from the servers': it comes over a network, and people's machines are kept less well.
const CALLER_OFF_MAX: Duration = Duration::from_secs(60);
/// How far the clocks may have gone on before it is decided: half of what log time must be ahead.
const GONE_ON_MAX: Duration = Duration::from_millis(REBASE_MIN.as_millis() as u64 / 2);

/// Sets log time back to what the voters' clocks show; `told` is what the caller's shows.
pub(crate) async fn rebase(session: &Session, call: Call, told: Timestamp) -> Result<Rebased, Rejection> {
    session.allow(&call, Action::Operate, &Resource::Cluster)?;
    // Without the time: a repeat brings another one.
    let digest = digest::of(&"RebaseTime");
    for _ in 0..ATTEMPTS_MAX {
        let to = match session.earlier(&call, digest)? {
            // The log answers a repeat and never looks at this. Should it have forgotten the request meanwhile, now changes nothing.
            Some(_) => session.tools.now_here(),
            None => agreed(session, told)?,
        };
        let ask =
            Ask::standing_for(call.clone(), digest, Command::RebaseTime { to }).while_holds(still_agreed(session, to));
        match session.submit(ask).await {
            Ok(settled) => return Ok(found(session, settled.outcome)),
            // It waited for too long: the clocks have gone on, or are no longer known.
            Err(Refusal::Moved) => {}
            Err(Refusal::Rejected(rejection)) => return Err(rejection),
        }
    }
    Err(Refusal::Moved.into_rejection())
}

/// When it is decided, the clocks show what they showed: it may have waited for a quorum.
fn still_agreed(session: &Session, to: Timestamp) -> Check {
    let log = session.tools.log.clone();
    Box::new(move |_| log.agreed_clock().is_ok_and(|clocks| distance(clocks, to) <= GONE_ON_MAX))
}

/// What became of it, as state remembers.
fn found(session: &Session, outcome: Outcome) -> Rebased {
    let index = outcome.position.index;
    let remembered = session.tools.log.read(|view| {
        let mut rebases = view.state.cluster.rebases.iter();
        rebases.find(|rebase| rebase.index == index).copied()
    });
    let change = remembered.filter(|_| !outcome.unchanged).map(|rebase| (rebase.from, rebase.to));
    Rebased { outcome, change }
}

fn distance(one: Timestamp, other: Timestamp) -> Duration {
    one.since(other).max(other.since(one))
}

/// What all clocks show, if nothing speaks against it.
fn agreed(session: &Session, told: Timestamp) -> Result<Timestamp, Rejection> {
    let clocks = session.tools.log.agreed_clock().map_err(|apart| refused(session, apart))?;
    if distance(clocks, told) > CALLER_OFF_MAX {
        let message = format!("the servers' clocks show {clocks}, and the caller's {told}");
        return Err(Rejection::new(Reason::ClocksDisagree, message));
    }
    let system = system_authority()?;
    let begins = session.tools.log.read(|view| {
        let certified = view.state.authorities.get(&system).and_then(|authority| authority.certified.as_ref());
        certified.map(|certified| certified.not_before)
    });
    match begins.filter(|begins| *begins > clocks.plus(BEGINS_AHEAD_MAX)) {
        None => Ok(clocks),
        Some(begins) => Err(Rejection::new(
            Reason::AuthorityNotYetValid,
            format!(
                "the cluster was made at {begins}, by clocks that were ahead: nobody could renew an identity until then"
            ),
        )),
    }
}

fn refused(session: &Session, apart: ClocksApart) -> Rejection {
    match apart {
        ClocksApart::Unknown { known, voters } => {
            let message = format!("of {voters} voters' clocks {known} are known so far: more than half must be");
            Rejection::new(Reason::NotReady, message)
        }
        ClocksApart::Apart { voter, ahead_millis } => {
            let node = session.tools.log.read(|view| {
                let node = view.state.cluster.nodes.get(&voter);
                node.map_or_else(|| format!("node {voter}"), |node| node.record.name.to_string())
            });
            let off = duration::format(Duration::from_secs(ahead_millis.unsigned_abs() / 1000));
            let side = if ahead_millis > 0 { "ahead of" } else { "behind" };
            let message = format!("the clock of {node} is {off} {side} the others'");
            Rejection::new(Reason::ClocksDisagree, message)
        }
    }
}

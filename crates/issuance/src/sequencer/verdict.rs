//! What becomes of one command under one look at state.
//!
//! It refuses to wait or to write: the sequencer acts on a verdict, or asks for another one later.

use std::sync::Arc;

use certwright_core::decide::Decision;
use certwright_core::log::{Fold, Guard, Position, Transaction};
use certwright_core::{Event, State, decide};
use certwright_raft::View;

use super::{Job, Refusal};
use crate::order::Outcome;
use crate::overlay::{Claim, Lane, Mode};
use crate::session::{Tools, prove, reused};

pub(super) enum Verdict {
    /// Refused, or composed under what is no longer so.
    Refused(Refusal),
    /// Carried out before, there.
    Repeated(Position),
    /// Would be appended, had the caller not asked for validation only.
    Valid(Outcome),
    /// It is so already.
    Unchanged(Outcome),
    /// To be appended, if nothing in flight touches it.
    Append(Transaction<Event>),
}

/// Who asks first, then repetition, then what the command was composed under, then the decision itself.
pub(super) fn judge(tools: &Tools, view: &View<'_, State>, job: &Job, actor: &Arc<str>) -> Verdict {
    if let Err(rejection) = prove(view.state, job.actor.actor(), job.key) {
        return Verdict::Refused(rejection.into());
    }
    if job.keyed
        && let Some((digest, position)) = view.repeated(actor, job.request)
    {
        return if digest == job.digest { Verdict::Repeated(position) } else { Verdict::Refused(reused().into()) };
    }
    if job.check.as_ref().is_some_and(|check| !check(view.state)) {
        return Verdict::Refused(Refusal::Moved);
    }
    let here = Outcome { position: view.position, at: view.at, unchanged: true };
    match decide(view.state, &job.actor, &job.command, &tools.context(view)) {
        Err(rejection) => Verdict::Refused(rejection.into()),
        Ok(decision) if decision.appends.is_empty() => Verdict::Unchanged(here),
        Ok(_) if job.validate_only => Verdict::Valid(Outcome { unchanged: false, ..here }),
        Ok(decision) if !takes_effect(view.state, &decision) => Verdict::Refused(Refusal::Moved),
        Ok(decision) => Verdict::Append(Transaction {
            request_id: job.request,
            request_digest: job.digest,
            actor: actor.clone(),
            trace: job.trace,
            guards: decision.guards,
            appends: decision.appends,
        }),
    }
}

fn hold(state: &State, guards: &[Guard]) -> bool {
    guards.iter().all(|guard| state.revision(&guard.stream) == guard.revision)
}

/// Whether replicas would let it take effect now.
fn takes_effect(state: &State, decision: &Decision) -> bool {
    let expected = |append: &certwright_core::log::Append<Event>| {
        append.expected.is_none_or(|revision| state.revision(&append.stream) == revision)
    };
    hold(state, &decision.guards) && decision.appends.iter().all(expected)
}

/// What a transaction touches: it writes where it expects a revision, and reads elsewhere.
pub(super) fn claim(transaction: &Transaction<Event>) -> Claim {
    let guards = transaction.guards.iter().map(|guard| (&guard.stream, Mode::Shared));
    let appends = transaction
        .appends
        .iter()
        .map(|append| (&append.stream, if append.expected.is_some() { Mode::Exclusive } else { Mode::Shared }));
    let mut claim = Claim::new();
    for (stream, mode) in guards.chain(appends) {
        let held = claim.entry(Lane::Stream(stream.clone())).or_insert(mode);
        *held = mode.max(*held);
    }
    claim
}

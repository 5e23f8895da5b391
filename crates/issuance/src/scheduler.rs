//! The scheduler: opens issuances when they are due, least life left first, at a bounded pace.
//!
//! It refuses to scan: it asks state's index for what is due, and sleeps until the next moment or the next change. It
//! refuses to renew the estate at once because log time jumped: then a few an hour, until somebody says that time is right.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use certwright_core::command::Command;
use certwright_core::event::Trigger;
use certwright_core::ids::{Actor, CertificateName, InstanceId};
use certwright_core::log::{Position, Trace};
use certwright_core::state::{Due, State};
use certwright_core::time::Timestamp;
use certwright_core::{Reason, Rejection};
use certwright_raft::ClockJump;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tracing::{Instrument, Span};

use crate::order::Call;
use crate::session::{Ask, Session};

/// Issuances being opened at once: what a round trip holds at the pace below.
const IN_FLIGHT_MAX: usize = 64;
/// Between two looks at what is due; with `IN_FLIGHT_MAX` it bounds the pace to 3,200 a second, above what agents answer.
const PACE: Duration = Duration::from_millis(20);
/// Longest sleep: the wall clock may have jumped meanwhile.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// Rest after a refusal, so that one certificate that cannot be opened does not keep the scheduler busy.
const REST: Duration = Duration::from_secs(2);
/// How far log time may be ahead of the clocks that a jump is measured by, when somebody releases renewals: what one clock can
/// have taken it along, twice over.
const RELEASE_SLACK: Duration = Duration::from_secs(10);

/// What is being done, so that it is not begun twice.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    Open(InstanceId),
    Reconcile(CertificateName),
    Hold,
}

type Pending = Pin<Box<dyn Future<Output = Work> + Send>>;

/// Runs until the term is over.
pub(crate) async fn run(session: Arc<Session>) {
    let mut applied = session.tools.log.applied();
    let mut under_way: FuturesUnordered<Pending> = FuturesUnordered::new();
    let mut begun = BTreeSet::new();
    loop {
        applied.mark_unchanged();
        let wait = begin(&session, &mut begun, &under_way);
        tokio::time::sleep(PACE).await;
        tokio::select! {
            biased;
            Some(done) = under_way.next(), if !under_way.is_empty() => {
                begun.remove(&done);
                while let Some(Some(done)) = futures_util::FutureExt::now_or_never(under_way.next()) {
                    begun.remove(&done);
                }
            }
            changed = applied.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Begins what is due and fits; answers how long nothing else can become due.
fn begin(session: &Arc<Session>, begun: &mut BTreeSet<Work>, under_way: &FuturesUnordered<Pending>) -> Duration {
    let room = IN_FLIGHT_MAX.saturating_sub(under_way.len());
    let limit = room + begun.len();
    let (now, since, (jump, renewals), unsettled, due, next) = session.tools.log.read(|view| {
        let (now, since) = (session.tools.now(view), held_since(view.state));
        // After the clock was read: reading it is what notices a jump.
        let (jump, renewals) = held(session, view.state, now);
        let unsettled = view.state.unsettled(limit);
        let due = view.state.due_held(now, limit, renewals).into_iter().filter_map(|due| open(view.state, due));
        (now, since, (jump, renewals), unsettled, due.collect::<Vec<_>>(), view.state.next_due())
    });
    session.tools.metrics.due.set(i64::try_from(due.len()).unwrap_or(i64::MAX));
    let hold = jump.map(|ahead_millis| (Work::Hold, Command::HoldRenewals { ahead_millis }));
    let reconcile =
        unsettled.into_iter().map(|name| (Work::Reconcile(name.clone()), Command::ReconcileCertificate { name }));
    for (work, command) in hold.into_iter().chain(reconcile).chain(due) {
        if under_way.len() >= IN_FLIGHT_MAX {
            return Duration::ZERO;
        }
        if begun.insert(work.clone()) {
            under_way.push(Box::pin(carry_out(session.clone(), work, command, since)));
        }
    }
    if renewals < usize::MAX {
        // What is held back is due all the time.
        return SLEEP_MAX;
    }
    next.map_or(SLEEP_MAX, |next| next.since(now)).min(SLEEP_MAX)
}

/// A jump of the clock that is to be put on record, and how many renewals may be begun, those included that are being
/// begun and not applied yet. The brake says how many, and nothing of the record: history stays while one stands there.
fn held(session: &Session, state: &State, now: Timestamp) -> (Option<u64>, usize) {
    let tools = &session.tools;
    let is_braked = tools.renewals_percent < 100;
    let cluster = &state.cluster;
    // A server that starts finds old jumps in its log again: what somebody released since it began is judged. Log time may be
    // ahead of the clocks that a jump is measured by.
    let begins = |jump: &ClockJump| jump.from.plus(RELEASE_SLACK);
    let is_new = |jump: &ClockJump| cluster.hold.is_none() && cluster.released_at.is_none_or(|at| begins(jump) >= at);
    let seen = tools.log.clock_jump();
    let jump = seen.filter(is_new);
    if let Some(known) = seen.filter(|_| jump.is_none()) {
        tools.log.forget_jump(known);
    }
    tools.metrics.held.set(i64::from(is_braked && (jump.is_some() || cluster.hold.is_some())));
    let renewals = match (jump, &cluster.hold) {
        _ if !is_braked => usize::MAX,
        (Some(_), _) => 0,
        (None, None) => usize::MAX,
        (None, Some(hold)) => {
            let an_hour = an_hour(state.counts().instances, tools.renewals_percent);
            usize::try_from(hold.left(an_hour, now)).unwrap_or(usize::MAX)
        }
    };
    (jump.map(|jump| jump.ahead_millis()), renewals)
}

/// How many of that many instances may be renewed in an hour.
fn an_hour(instances: usize, percent: u8) -> u64 {
    (instances as u64 * u64::from(percent) / 100).max(1)
}

/// The command that opens the next generation of a due instance.
fn open(state: &State, (_, certificate, instance, trigger): Due) -> Option<(Work, Command)> {
    let generation = state.certificates.get(&certificate)?.instance(instance)?.next_generation();
    Some((Work::Open(instance), Command::OpenIssuance { certificate, instance, generation, trigger }))
}

/// Since when renewals are held back.
fn held_since(state: &State) -> Option<Timestamp> {
    state.cluster.hold.map(|hold| hold.since)
}

/// A renewal is begun only under the hold that it was chosen under: many may be on their way when one begins.
async fn carry_out(session: Arc<Session>, work: Work, command: Command, since: Option<Timestamp>) -> Work {
    let span = tracing::info_span!("schedule", command = command_name(&command));
    let trace = place_in_trace(&session, &span, &command).await;
    let is_renewal = matches!(command, Command::OpenIssuance { trigger: Trigger::Due, .. });
    let mut ask = Ask::of(Call { trace, ..Call::by(Actor::System) }, command);
    if is_renewal {
        ask = ask.while_holds(Box::new(move |state: &State| held_since(state) == since));
    }
    if let Err(refusal) = session.submit(ask).instrument(span).await {
        report(&refusal.into_rejection());
        tokio::time::sleep(REST).await;
    }
    work
}

/// A first issuance continues the trace of the declaration; any other work begins one of its own, and that of a renewal
/// points back at the generation before.
async fn place_in_trace(session: &Session, span: &Span, command: &Command) -> Trace {
    let Command::OpenIssuance { certificate, instance, trigger, .. } = command else {
        return (session.tools.adopt)(span, Trace::default());
    };
    if *trigger == Trigger::First {
        return (session.tools.adopt)(span, trace_of(session, instance.certificate.0).await);
    }
    let trace = (session.tools.adopt)(span, Trace::default());
    // Without an exporter there is nothing to point from, and no reason to read the log.
    if trace != Trace::default() {
        let newest = session.tools.log.read(|view| {
            let instance = view.state.certificates.get(certificate)?.instance(*instance)?;
            Some(instance.current?.position)
        });
        let before = match newest {
            Some(position) => trace_of(session, position).await,
            None => Trace::default(),
        };
        (session.tools.link)(span, before);
    }
    trace
}

/// The trace that a transaction was part of.
async fn trace_of(session: &Session, position: Position) -> Trace {
    let known = session.tools.transaction(position).await.ok().flatten();
    known.map_or_else(Trace::default, |known| known.transaction.trace)
}

const fn command_name(command: &Command) -> &'static str {
    match command {
        Command::ReconcileCertificate { .. } => "reconcile",
        Command::HoldRenewals { .. } => "hold",
        _ => "open",
    }
}

fn report(rejection: &Rejection) {
    match rejection.reason {
        // Somebody was quicker, or the term ends.
        Reason::NotLeader | Reason::Moved | Reason::NotFound | Reason::GenerationConflict => {}
        reason => tracing::warn!(reason = reason.code(), "a due issuance was not opened: {rejection}"),
    }
}

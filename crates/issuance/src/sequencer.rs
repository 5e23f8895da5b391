//! The sequencer: one task that decides commands one after another and hands them to the log in that order.
//!
//! It refuses to append what replicas would refuse: a command that touches what is in flight waits and is decided again. One
//! that sets log time back is decided with nothing beside it.

mod verdict;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use certwright_core::command::Command;
use certwright_core::log::{Position, RequestId, Trace, Transaction};
use certwright_core::mutant::{self, Mutant};
use certwright_core::policy::AuthorizedActor;
use certwright_core::{Event, Reason, Rejection, State};
use certwright_raft::{Committed, ProposeError};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use crate::fault::{self, Point};
use crate::order::Outcome;
use crate::overlay::{Claim, Lane, Mode, Overlay, Ticket};
use crate::session::{Tools, child_span, not_leader, reused};
use verdict::{Verdict, judge};

/// Commands waiting for the sequencer or for its answer, beyond which callers are refused: two seconds of full rate.
pub(crate) const QUEUE_MAX: usize = 16 * 1024;
/// Transactions handed to the log and not yet applied: more than a round trip and an fdatasync hold at full rate.
const IN_FLIGHT_MAX: usize = 4096;
/// Commands decided under one look at state: bounds how long state stays locked.
const BATCH_MAX: usize = 32;

/// What must hold of state when a command is decided.
pub(crate) type Check = Box<dyn Fn(&State) -> bool + Send + Sync>;

/// Where a command took effect, and whether that was an earlier time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settled {
    pub(crate) outcome: Outcome,
    /// The request was carried out before: its transaction is not what was composed now.
    pub(crate) repeated: bool,
}

/// Why a command was not appended.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// What it was composed under is no longer so; compose it again.
    Moved,
    /// It was refused.
    Rejected(Rejection),
}

impl Refusal {
    /// For callers who cannot compose again.
    pub(crate) fn into_rejection(self) -> Rejection {
        match self {
            Self::Moved => Rejection::new(Reason::Moved, "what the request was composed under keeps changing"),
            Self::Rejected(rejection) => rejection,
        }
    }
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        match rejection.reason {
            Reason::Moved => Self::Moved,
            _ => Self::Rejected(rejection),
        }
    }
}

/// One command in the sequencer.
pub(crate) struct Job {
    pub(crate) request: RequestId,
    /// Whether the caller chose the request id: only then can it be repeated.
    pub(crate) keyed: bool,
    pub(crate) digest: [u8; 16],
    pub(crate) actor: AuthorizedActor,
    /// The key that the caller proved to hold.
    pub(crate) key: Option<[u8; 32]>,
    pub(crate) trace: Trace,
    pub(crate) command: Command,
    pub(crate) check: Option<Check>,
    pub(crate) validate_only: bool,
    /// What the command belongs to, for those who trace.
    pub(crate) span: Span,
    pub(crate) answer: oneshot::Sender<Result<Settled, Refusal>>,
    pub(crate) _permit: OwnedSemaphorePermit,
}

impl Job {
    fn lane(&self, actor: &Arc<str>) -> Option<Lane> {
        self.keyed.then(|| Lane::Request(actor.clone(), self.request))
    }

    fn answer(self, result: Result<Settled, Refusal>) {
        // A caller who went away needs no answer; what was appended stays appended.
        let _ = self.answer.send(result);
    }
}

struct Arrived {
    ticket: Ticket,
    actor: Arc<str>,
    job: Job,
}

struct Finished {
    job: Job,
    claim: Claim,
    /// How the log knows its transaction.
    key: (Arc<str>, RequestId),
    result: Result<Committed, ProposeError>,
}

type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The sequencer of one term.
pub(crate) struct Sequencer {
    tools: Arc<Tools>,
    over: CancellationToken,
    overlay: Overlay,
    parked: BTreeMap<Ticket, Arrived>,
    next_ticket: Ticket,
    in_flight: FuturesUnordered<Pending<Finished>>,
    /// Claims of transactions whose outcome nobody knows yet.
    uncertain: FuturesUnordered<Pending<Claim>>,
    /// Answers that need a word from a quorum or a look into the log, but no place in it.
    settling: FuturesUnordered<Pending<()>>,
}

impl Sequencer {
    pub(crate) fn new(tools: Arc<Tools>, over: CancellationToken) -> Self {
        Self {
            tools,
            over,
            overlay: Overlay::default(),
            parked: BTreeMap::new(),
            next_ticket: 0,
            in_flight: FuturesUnordered::new(),
            uncertain: FuturesUnordered::new(),
            settling: FuturesUnordered::new(),
        }
    }

    /// Runs until the term is over; then refuses what waits and stays only for what is in flight.
    pub(crate) async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Job>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            self.gauge(queue.len());
            tokio::select! {
                biased;
                () = self.over.cancelled() => break,
                Some(finished) = self.in_flight.next(), if !self.in_flight.is_empty() => self.finish(finished).await,
                Some(claim) = self.uncertain.next(), if !self.uncertain.is_empty() => self.release(claim).await,
                Some(()) = self.settling.next(), if !self.settling.is_empty() => {}
                taken = queue.recv_many(&mut batch, BATCH_MAX), if self.in_flight.len() < IN_FLIGHT_MAX => {
                    if taken == 0 {
                        break;
                    }
                    let arrived = batch.drain(..).filter(|job| !job.answer.is_closed()).collect();
                    self.arrive(arrived).await;
                }
            }
        }
        self.wind_down(queue).await;
    }

    async fn wind_down(mut self, mut queue: mpsc::UnboundedReceiver<Job>) {
        queue.close();
        for (_, arrived) in std::mem::take(&mut self.parked) {
            arrived.job.answer(Err(not_leader().into()));
        }
        while let Ok(job) = queue.try_recv() {
            job.answer(Err(not_leader().into()));
        }
        while let Some(finished) = self.in_flight.next().await {
            self.settle(finished.job, finished.result);
        }
        while self.settling.next().await.is_some() {}
        self.gauge(0);
    }

    fn gauge(&self, queued: usize) {
        self.tools.metrics.queued.set(clamp(queued + self.parked.len()));
        self.tools.metrics.in_flight.set(clamp(self.in_flight.len()));
    }

    async fn arrive(&mut self, jobs: Vec<Job>) {
        let (mut together, mut is_over) = (Vec::with_capacity(jobs.len()), false);
        for job in jobs {
            if is_over {
                job.answer(Err(not_leader().into()));
                continue;
            }
            self.next_ticket += 1;
            let is_alone = matches!(job.command, Command::RebaseTime { .. }) && !mutant::is(Mutant::RebaseInFlight);
            let arrived = Arrived { ticket: self.next_ticket, actor: job.actor.actor().to_string().into(), job };
            if is_alone {
                self.consider(std::mem::take(&mut together)).await;
                is_over = !self.alone(arrived).await;
            } else {
                together.push(arrived);
            }
        }
        self.consider(together).await;
    }

    /// Nothing that was decided by the time before may be appended behind an entry that sets it back, and nothing may be
    /// decided before that is applied; `false` when the term is over.
    async fn alone(&mut self, arrived: Arrived) -> bool {
        if !self.drained().await {
            arrived.job.answer(Err(not_leader().into()));
            return false;
        }
        self.consider(vec![arrived]).await;
        self.drained().await
    }

    /// Waits until nothing is in flight and nothing uncertain, which may take until the term is over: then `false`. Answers that
    /// are being settled write nothing and are not waited for.
    async fn drained(&mut self) -> bool {
        while !(self.in_flight.is_empty() && self.uncertain.is_empty()) {
            tokio::select! {
                biased;
                () = self.over.cancelled() => return false,
                Some(finished) = self.in_flight.next(), if !self.in_flight.is_empty() => self.finish(finished).await,
                Some(claim) = self.uncertain.next(), if !self.uncertain.is_empty() => self.release(claim).await,
                Some(()) = self.settling.next(), if !self.settling.is_empty() => {}
            }
        }
        true
    }

    /// Decides a batch under one look at state, then claims and proposes in order. Whatever changes state between the
    /// two is in flight here and therefore in the overlay: only this task writes.
    async fn consider(&mut self, batch: Vec<Arrived>) {
        let tools = self.tools.clone();
        let verdicts: Vec<Verdict> = tools.log.read(|view| {
            batch
                .iter()
                .map(|arrived| {
                    let span = child_span!(arrived.job.span, "decide");
                    span.in_scope(|| judge(&tools, view, &arrived.job, &arrived.actor))
                })
                .collect()
        });
        for (arrived, verdict) in batch.into_iter().zip(verdicts) {
            self.place(arrived, verdict).await;
        }
    }

    async fn place(&mut self, arrived: Arrived, verdict: Verdict) {
        let Arrived { ticket, actor, job } = arrived;
        let request = job.lane(&actor).map(|lane| (lane, Mode::Exclusive));
        // A repeat of what is still in flight waits for that, whatever was decided meanwhile.
        if let Some((lane, mode)) = &request
            && !self.overlay.is_free(ticket, lane, *mode)
        {
            self.overlay.wait(ticket, request.into_iter().collect());
            self.parked.insert(ticket, Arrived { ticket, actor, job });
            return;
        }
        match verdict {
            // Composed again, it is decided again; every other refusal is final.
            Verdict::Refused(Refusal::Moved) => job.answer(Err(Refusal::Moved)),
            Verdict::Refused(refusal) => self.settle_read(job, Err(refusal)),
            Verdict::Repeated(position) => self.settle_repeated(job, position),
            Verdict::Valid(outcome) | Verdict::Unchanged(outcome) => {
                self.settle_read(job, Ok(Settled { outcome, repeated: false }));
            }
            Verdict::Append(transaction) => {
                let mut claim = verdict::claim(&transaction);
                claim.extend(request);
                if self.overlay.claim(ticket, &claim) {
                    self.propose(job, claim, transaction).await;
                } else {
                    self.parked.insert(ticket, Arrived { ticket, actor, job });
                }
            }
        }
    }

    /// Hands the transaction to the log. The first poll puts it in line, so that order here is order in the log.
    async fn propose(&mut self, job: Job, claim: Claim, transaction: Transaction<Event>) {
        fault::point(Point::BeforePropose);
        let log = self.tools.log.clone();
        let key = (transaction.actor.clone(), transaction.request_id);
        let span = child_span!(job.span, "propose");
        let mut proposal = Box::pin(async move { log.propose(transaction).await }.instrument(span));
        let early = std::future::poll_fn(|cx| Poll::Ready(proposal.as_mut().poll(cx))).await;
        fault::point(Point::AfterAppend);
        self.in_flight.push(Box::pin(async move {
            let result = match early {
                Poll::Ready(result) => result,
                Poll::Pending => proposal.await,
            };
            Finished { job, claim, key, result }
        }));
    }

    async fn finish(&mut self, finished: Finished) {
        let Finished { job, claim, key, result } = finished;
        let uncertain = result == Err(ProposeError::Unknown);
        self.settle(job, result);
        if uncertain {
            // It may still be appended: until that is known, nothing may be decided on what it touches.
            let landed = landed(self.tools.clone(), self.over.clone(), key);
            self.uncertain.push(Box::pin(async move {
                landed.await;
                claim
            }));
        } else {
            self.release(claim).await;
        }
    }

    /// Decides again whoever may go now; those who come out empty-handed let the next ones go.
    async fn release(&mut self, claim: Claim) {
        let mut awakened = self.overlay.release(&claim);
        while !awakened.is_empty() {
            let mut left = Claim::new();
            let mut again = Vec::with_capacity(awakened.len());
            for ticket in awakened {
                left.extend(self.overlay.unpark(ticket));
                again.extend(self.parked.remove(&ticket));
            }
            while !again.is_empty() {
                let rest = again.split_off(again.len().min(BATCH_MAX));
                self.consider(std::mem::replace(&mut again, rest)).await;
            }
            awakened = self.overlay.awakened(&left);
        }
    }

    /// Answers the caller: only now, when the transaction is applied here, does anything leave.
    fn settle(&self, job: Job, result: Result<Committed, ProposeError>) {
        match result {
            Ok(committed) => {
                fault::point(Point::AfterCommit);
                let outcome = Outcome { position: committed.position, at: committed.at, unchanged: false };
                fault::point(Point::DuringRelease);
                job.answer(Ok(Settled { outcome, repeated: false }));
            }
            Err(ProposeError::Repeated(position)) => self.settle_repeated(job, position),
            Err(error) => job.answer(Err(refused(error).into())),
        }
    }

    /// The earlier outcome: its log time is in the log.
    fn settle_repeated(&self, job: Job, position: Position) {
        let tools = self.tools.clone();
        if tools.log.read(|view| view.state.cluster.is_before_epoch(position.index)) {
            let message = format!("the request took effect at {position}, before the cluster was restored");
            return job.answer(Err(Rejection::new(Reason::OldEpoch, message).into()));
        }
        self.settling.push(Box::pin(async move {
            let known = tools.transaction(position).await.ok().flatten();
            let at = known.map_or_else(|| tools.log.read(|view| view.at), |known| known.at);
            let outcome = Outcome { position, at, unchanged: false };
            job.answer(Ok(Settled { outcome, repeated: true }));
        }));
    }

    /// What only says how things are is a read: true only if this is still the leader.
    fn settle_read(&self, job: Job, answer: Result<Settled, Refusal>) {
        let tools = self.tools.clone();
        self.settling.push(Box::pin(async move {
            match tools.log.read_index().await {
                Ok(_) => job.answer(answer),
                Err(_) => job.answer(Err(not_leader().into())),
            }
        }));
    }
}

/// Ends when it is certain what became of a transaction, or when the term is over. It asks for that transaction's own end
/// and writes nothing: an entry written now could overtake it, for it may still wait in the queue behind which such an
/// entry would not stand, or be written again after its entry was turned away. The log answers a proposal's end only after
/// applying it, so what is decided from then on sees it.
async fn landed(tools: Arc<Tools>, over: CancellationToken, (actor, id): (Arc<str>, RequestId)) {
    tokio::select! {
        biased;
        () = over.cancelled() => {}
        () = tools.log.landed(&actor, id) => {}
    }
}

/// What a failed proposal means to the caller.
fn refused(error: ProposeError) -> Rejection {
    match error {
        ProposeError::NotLeader { .. } | ProposeError::NotCommitted => not_leader(),
        ProposeError::Unknown => Rejection::new(Reason::OutcomeUnknown, error.to_string()),
        ProposeError::ReusedId => reused(),
        ProposeError::TooLarge => Rejection::new(Reason::TooLarge, error.to_string()),
        ProposeError::Storage(_) => Rejection::new(Reason::StorageFailed, error.to_string()),
        ProposeError::Stopped => Rejection::new(Reason::NotReady, error.to_string()),
        ProposeError::Repeated(position) => Rejection::new(Reason::Internal, format!("repeated {position}")),
    }
}

fn clamp(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

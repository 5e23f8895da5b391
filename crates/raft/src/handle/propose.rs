//! Proposing: concurrent transactions are packed into entries, stamped and written on condition of still leading.
//!
//! It refuses to linger for more: an entry leaves as soon as there is room in flight.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use certwright_core::log::Fold;
use certwright_core::mutant::{self, Mutant};
use certwright_core::time::Timestamp;
use certwright_proto::storage::EntryBuilder;
use openraft::Raft;
use openraft::errors::{ClientWriteError, ForwardReason};
use openraft::impls::ProgressResponder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::consensus::{CommittedLeaderId, Payload, Types};
use crate::error::ProposeError;
use crate::fold::dedup::Key;
use crate::fold::machine::Machine;
use crate::fold::shared::Shared;
use crate::limits::{CLOCK_AWAITED, ENTRIES_IN_FLIGHT_MAX, ENTRY_OCTETS_MAX, LEASE_RETRY_EVERY, PROPOSE_TIMEOUT};
use crate::member::Leadership;

/// One transaction to be appended.
pub(crate) struct Proposal {
    pub(crate) key: Key,
    pub(crate) term: u64,
    pub(crate) encoded: Bytes,
    /// It sets log time back: nothing that was stamped by the time before may lie behind it.
    pub(crate) alone: bool,
}

/// Transactions of one entry, in order, kept until the entry was accepted.
struct Batch {
    /// Entries are written in this order.
    number: u64,
    term: u64,
    proposals: Vec<Proposal>,
    /// When it was packed, on the monotonic clock.
    packed: std::time::Duration,
    permit: OwnedSemaphorePermit,
}

/// The packing task.
pub(crate) struct Packer<F: Fold> {
    pub(crate) raft: Raft<Types, Machine<F>>,
    pub(crate) shared: Arc<Shared<F>>,
    pub(crate) leadership: watch::Receiver<Leadership>,
    queue: mpsc::Receiver<Proposal>,
    carried: Option<Proposal>,
    in_flight: Arc<Semaphore>,
    /// The newest stamp, and the entry that had set log time back last when it was made.
    stamped: Timestamp,
    rebased: u64,
    /// The last term in which the time was waited for.
    awaited: u64,
    next_number: u64,
    /// Entries that were turned away only because the leader had no fresh acknowledgement of a quorum.
    turned_away: BTreeMap<u64, Batch>,
    returns: mpsc::UnboundedSender<Batch>,
    returned: mpsc::UnboundedReceiver<Batch>,
}

enum Next {
    Returned(Batch),
    Proposed(Option<Proposal>),
    RetryDue,
    Cancelled,
}

impl<F: Fold> Packer<F> {
    pub(crate) fn new(
        raft: Raft<Types, Machine<F>>,
        shared: Arc<Shared<F>>,
        leadership: watch::Receiver<Leadership>,
        queue: mpsc::Receiver<Proposal>,
    ) -> Self {
        let (returns, returned) = mpsc::unbounded_channel();
        Self {
            raft,
            shared,
            leadership,
            queue,
            carried: None,
            in_flight: Arc::new(Semaphore::new(ENTRIES_IN_FLIGHT_MAX)),
            stamped: Timestamp::EPOCH,
            rebased: 0,
            awaited: 0,
            next_number: 0,
            turned_away: BTreeMap::new(),
            returns,
            returned,
        }
    }

    /// The task.
    pub(crate) async fn run(mut self, cancel: CancellationToken) {
        loop {
            match self.next(&cancel).await {
                Next::Cancelled | Next::Proposed(None) => return,
                Next::Returned(batch) => {
                    self.turned_away.insert(batch.number, batch);
                }
                Next::RetryDue => self.retry().await,
                Next::Proposed(Some(first)) => self.pack(first).await,
            }
        }
    }

    /// What was turned away goes first: later transactions may build on it.
    async fn next(&mut self, cancel: &CancellationToken) -> Next {
        let retrying = !self.turned_away.is_empty();
        if !retrying && let Some(carried) = self.carried.take() {
            return Next::Proposed(Some(carried));
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => Next::Cancelled,
            Some(batch) = self.returned.recv() => Next::Returned(batch),
            () = sleep(LEASE_RETRY_EVERY), if retrying => Next::RetryDue,
            first = self.queue.recv(), if !retrying => Next::Proposed(first),
        }
    }

    async fn retry(&mut self) {
        let Some((_, batch)) = self.turned_away.pop_first() else { return };
        let age = self.shared.seams.clock.monotonic().saturating_sub(batch.packed);
        if age > PROPOSE_TIMEOUT {
            return self.answer(&batch.proposals, &ProposeError::NotCommitted);
        }
        self.write(batch).await;
        // It comes back at once if it is turned away again; the next one must not overtake it.
        if let Ok(Some(batch)) = timeout(LEASE_RETRY_EVERY, self.returned.recv()).await {
            self.turned_away.insert(batch.number, batch);
        }
    }

    async fn pack(&mut self, first: Proposal) {
        let is_alone = |proposal: &Proposal| proposal.alone && !mutant::is(Mutant::StampsByOldTime);
        // With all permits nothing is in flight before it, and nothing is stamped until its mark is published here; or its
        // outcome is not known, and then this node leads again only when it has applied it.
        let permits = if is_alone(&first) { ENTRIES_IN_FLIGHT_MAX as u32 } else { 1 };
        // A batch that was turned away holds its permit: it must go out first, or nothing ever would.
        let permit = tokio::select! {
            biased;
            Some(batch) = self.returned.recv() => {
                self.turned_away.insert(batch.number, batch);
                self.carried = Some(first);
                return;
            }
            permit = Arc::clone(&self.in_flight).acquire_many_owned(permits) => permit,
        };
        // The semaphore is never closed.
        let Ok(permit) = permit else { return };
        let (term, mut is_full) = (first.term, is_alone(&first));
        let mut builder = EntryBuilder::new();
        builder.push(&first.encoded);
        let mut proposals = vec![first];
        while !is_full && let Ok(next) = self.queue.try_recv() {
            is_full = next.term != term || is_alone(&next) || builder.octets_with(&next.encoded) > ENTRY_OCTETS_MAX;
            if is_full {
                self.carried = Some(next);
            } else {
                builder.push(&next.encoded);
                proposals.push(next);
            }
        }
        self.next_number += 1;
        let packed = self.shared.seams.clock.monotonic();
        self.write(Batch { number: self.next_number, term, proposals, packed, permit }).await;
    }

    /// Stamps and writes an entry, on condition that this node still leads in the term of its proposals.
    async fn write(&mut self, batch: Batch) {
        self.await_time(batch.term).await;
        let leadership = *self.leadership.borrow();
        if !leadership.ready || leadership.term != batch.term {
            return self.answer(&batch.proposals, &ProposeError::NotLeader { hint: leadership.leader });
        }
        let mut builder = EntryBuilder::new();
        batch.proposals.iter().for_each(|proposal| builder.push(&proposal.encoded));
        let payload = Payload(builder.finish(self.stamp()));
        let (responder, outcome) = ProgressResponder::complete_only();
        let write = self.raft.write(payload).with_leader(CommittedLeaderId::new(batch.term)).responder(responder);
        if write.await.is_err() {
            return self.answer(&batch.proposals, &ProposeError::Stopped);
        }
        let (shared, returns) = (Arc::clone(&self.shared), self.returns.clone());
        let mut leadership = self.leadership.clone();
        tokio::spawn(async move {
            let Ok(Err(error)) = outcome.await else { return };
            settle(&shared, &mut leadership, &returns, batch, &error);
        });
    }

    /// Waits, once in a term, until a majority's clocks are known. Before that it is the time when the log was written last: the
    /// next stamp might be hours later, and requests that are remembered for minutes would be forgotten at once.
    async fn await_time(&mut self, term: u64) {
        if self.awaited == term {
            return;
        }
        self.awaited = term;
        let settled = async {
            while !self.shared.clocks.is_known() {
                sleep(LEASE_RETRY_EVERY).await;
            }
        };
        if timeout(CLOCK_AWAITED, settled).await.is_err() {
            tracing::warn!("a majority's clocks are not known: what is written goes by the time of the log");
        }
    }

    /// Log time: falls where it was set back and never else, and follows this machine's clock as far as the voters' clocks
    /// let it.
    fn stamp(&mut self) -> Timestamp {
        let (now, mark) = (self.shared.clocks.now(), self.shared.mark());
        if mark.rebased != self.rebased && !mutant::is(Mutant::StampsByOldTime) {
            (self.rebased, self.stamped) = (mark.rebased, Timestamp::EPOCH);
        }
        let earliest = if mutant::is(Mutant::LogTimeGoesBack) { now } else { self.stamped.max(mark.at) };
        self.stamped = earliest.max(now);
        self.stamped
    }

    fn answer(&self, proposals: &[Proposal], error: &ProposeError) {
        answer(&self.shared, proposals, error);
    }
}

fn answer<F: Fold>(shared: &Shared<F>, proposals: &[Proposal], error: &ProposeError) {
    let mut waiters = shared.waiters();
    for proposal in proposals {
        waiters.answer(&proposal.key, &Err(error.clone()));
    }
}

/// An entry that was not applied through this write: turned away before it was appended, or of unknown outcome.
fn settle<F: Fold>(
    shared: &Shared<F>,
    leadership: &mut watch::Receiver<Leadership>,
    returns: &mpsc::UnboundedSender<Batch>,
    batch: Batch,
    error: &ClientWriteError<Types>,
) {
    match error {
        ClientWriteError::ForwardToLeader(forward) if forward.reason == ForwardReason::LeaseExpired => {
            if let Err(mpsc::error::SendError(batch)) = returns.send(batch) {
                answer(shared, &batch.proposals, &ProposeError::Stopped);
            }
        }
        ClientWriteError::ForwardToLeader(forward) => {
            let hint = forward.leader_id.or(leadership.borrow().leader);
            answer(shared, &batch.proposals, &ProposeError::NotLeader { hint });
        }
        // It was appended here and may still be committed: this node's own apply will tell.
        ClientWriteError::LogEntryDiscarded(_) => drop(batch.permit),
        ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_) => {
            answer(shared, &batch.proposals, &ProposeError::NotCommitted);
        }
    }
}

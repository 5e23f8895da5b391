//! What the state machine and the handle share: the replica, recent entries, waiters and what is published of them.
//!
//! It refuses long critical sections: decoding, encoding and IO happen outside its locks.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use certwright_core::log::{Codec, CodecError, Fold, Position, Transaction};
use certwright_proto::storage::{DecodedEntry, decode_entry};
use certwright_seams::Seams;
use tokio::sync::watch;

use super::cuts::Cuts;
use super::dedup::Key;
use super::recent::Recent;
use super::replica::{Outcome, Refusal, Replica, ReplicaCut};
use super::waiters::{Answer, Waiters};
use crate::clocks::Clocks;
use crate::consensus::store::Basis;
use crate::consensus::{Entry, EntryPayload};
use crate::error::ProposeError;
use crate::limits::DIGESTS_MAX;
use crate::member::Mark;
use crate::metrics::LogMetrics;
use crate::options::LogOptions;
use crate::peer::pins::Pins;
use crate::snapshot::content;
use crate::view::{Committed, View};

/// Why the poisoned lock is fatal: the state may be half applied.
const WHOLE: &str = "folds do not panic; a state that is half applied must not be read";

/// Shared between state machine and handle.
pub(crate) struct Shared<F: Fold> {
    replica: RwLock<Replica<F>>,
    recent: Mutex<Recent<F::Event>>,
    waiters: Mutex<Waiters>,
    digests: Mutex<VecDeque<(u64, [u8; 32])>>,
    applied: watch::Sender<Mark>,
    applied_term: watch::Sender<u64>,
    /// Index of the last membership applied.
    memberships: watch::Sender<u64>,
    pub(crate) cuts: Arc<Cuts>,
    /// Entries before this index are known to be committed in this node's own log, not by a snapshot.
    committed_before: AtomicU64,
    pub(crate) strict: bool,
    pub(crate) codec: Arc<dyn Codec<F>>,
    pub(crate) seams: Seams,
    pub(crate) metrics: LogMetrics,
    pub(crate) pins: Arc<Pins>,
    pub(crate) clocks: Clocks,
}

/// An entry that was applied, and what its proposers are to be told.
pub(crate) struct Settled<E> {
    pub(crate) term: u64,
    pub(crate) outcome: Outcome<E>,
}

impl<F: Fold> Shared<F> {
    pub(crate) fn new(
        replica: Replica<F>,
        codec: Arc<dyn Codec<F>>,
        seams: Seams,
        metrics: LogMetrics,
        pins: Arc<Pins>,
        options: &LogOptions,
        committed_before: u64,
    ) -> Self {
        pins.bury(&replica.removed);
        let mark = mark_of(&replica);
        let term = replica.term();
        Self {
            replica: RwLock::new(replica),
            recent: Mutex::new(Recent::new()),
            waiters: Mutex::default(),
            digests: Mutex::default(),
            applied: watch::Sender::new(mark),
            applied_term: watch::Sender::new(term),
            memberships: watch::Sender::new(0),
            cuts: Arc::new(Cuts::new(options.snapshot_every_octets)),
            committed_before: AtomicU64::new(committed_before),
            clocks: Clocks::new(Arc::clone(&seams.clock), options.node_id, mark.at),
            strict: options.strict,
            codec,
            seams,
            metrics,
            pins,
        }
    }

    pub(crate) fn replica(&self) -> RwLockReadGuard<'_, Replica<F>> {
        self.replica.read().expect(WHOLE)
    }

    /// Whether the membership that is applied here names that node.
    pub(crate) fn is_member(&self, node_id: u64) -> bool {
        self.replica().membership.get_node(&node_id).is_some()
    }

    /// Reads state under the lock.
    pub(crate) fn read<R>(&self, read: impl FnOnce(&View<'_, F>) -> R) -> R {
        let replica = self.replica();
        read(&View {
            state: &replica.state,
            position: replica.position,
            at: replica.at,
            index: replica.index(),
            chain: replica.chain,
            dedup: &replica.dedup,
        })
    }

    /// Recent entries; a list of pointers, so a panic elsewhere leaves it whole.
    pub(crate) fn recent(&self) -> MutexGuard<'_, Recent<F::Event>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those who wait for their transaction.
    pub(crate) fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn applied(&self) -> watch::Receiver<Mark> {
        self.applied.subscribe()
    }

    /// The mark that was published last.
    pub(crate) fn mark(&self) -> Mark {
        *self.applied.borrow()
    }

    pub(crate) fn applied_term(&self) -> watch::Receiver<u64> {
        self.applied_term.subscribe()
    }

    /// Changes when a membership was applied.
    pub(crate) fn memberships(&self) -> watch::Receiver<u64> {
        self.memberships.subscribe()
    }

    /// What the log has to respect.
    pub(crate) fn basis(&self) -> Basis {
        let replica = self.replica();
        Basis {
            committed_before: self.committed_before.load(Ordering::Acquire),
            covered: replica.applied.as_ref().map(|id| (id.index(), replica.chain)),
        }
    }

    /// Decodes an entry's transactions; `None` for entries of consensus itself.
    pub(crate) fn decode(&self, entry: &Entry) -> Result<Option<DecodedEntry<F::Event>>, CodecError> {
        match &entry.payload {
            EntryPayload::Normal(payload) => decode_entry(&*self.codec, payload.0.clone()).map(Some),
            EntryPayload::Blank | EntryPayload::Membership(_) => Ok(None),
        }
    }

    /// Applies one entry to state; nobody is told yet.
    pub(crate) fn apply(self: &Arc<Self>, entry: &Entry, decoded: Option<DecodedEntry<F::Event>>) -> Settled<F::Event> {
        let wants_digest = decoded.as_ref().is_some_and(|decoded| decoded.digest);
        let octets = match &entry.payload {
            EntryPayload::Normal(payload) => payload.0.len(),
            EntryPayload::Blank | EntryPayload::Membership(_) => 0,
        };
        let (term, outcome, cut) = {
            let mut replica = self.replica.write().expect(WHOLE);
            let outcome = replica.apply(entry, decoded);
            // Whoever reads in state where something stands can read it there at once.
            self.recent().push(octets, outcome.entry.clone());
            let cut = wants_digest.then(|| replica.state.cut());
            if matches!(entry.payload, EntryPayload::Membership(_)) {
                // Before anybody learns that the change is applied, who was removed is refused.
                self.pins.bury(&replica.removed);
            }
            if outcome.sets_back() {
                // Nobody may see the time that holds now beside clocks that go on from the one that was taken back.
                self.clocks.rebased(outcome.at);
                tracing::warn!(index = outcome.rebased, from = %outcome.entry.at, to = %outcome.at, "log time was set back");
            }
            (replica.term(), outcome, cut)
        };
        // Entry by entry: many at once would be a jump after a quiet week.
        self.clocks.stamped(outcome.at);
        let index = outcome.entry.index;
        self.committed_before.store(index + 1, Ordering::Release);
        self.cuts.applied(octets);
        if matches!(entry.payload, EntryPayload::Membership(_)) {
            self.memberships.send_replace(index);
        }
        if let Some(cut) = cut {
            digest_in_background(self, index, cut);
        }
        self.alarm(&outcome);
        Settled { term, outcome }
    }

    fn alarm(&self, outcome: &Outcome<F::Event>) {
        for (ordinal, refusal) in outcome.refusals.iter().enumerate() {
            let Some(refusal) = refusal else { continue };
            let index = outcome.entry.index;
            if matches!(refusal, Refusal::Repeated(_)) {
                // A caller repeated itself across leaders; the first one counts and that is what it is told.
                tracing::info!(index, ordinal, "a repeated request was skipped");
                continue;
            }
            tracing::error!(index, ordinal, ?refusal, "a committed transaction was skipped: this is a bug");
            self.metrics.refused_transactions.inc();
            assert!(!self.strict, "transaction {index}.{ordinal} was skipped: {refusal:?}");
        }
    }

    /// Publishes a batch of applied entries and tells their proposers.
    pub(crate) fn settle(&self, batch: &[Settled<F::Event>]) {
        let Some(last) = batch.last() else { return };
        let Outcome { at, rebased, entry, .. } = &last.outcome;
        let mark = Mark { index: entry.index, at: *at, rebased: *rebased };
        self.metrics.applied_index.set(i64::try_from(mark.index).unwrap_or(i64::MAX));
        self.applied.send_replace(mark);
        let mut waiters = self.waiters();
        for settled in batch {
            self.enter_term(settled.term, &mut waiters, |_| Err(ProposeError::NotCommitted));
            let entry = &settled.outcome.entry;
            for (ordinal, (transaction, refusal)) in
                entry.transactions.iter().zip(&settled.outcome.refusals).enumerate()
            {
                let position = Position { index: entry.index, ordinal: ordinal as u32 };
                let answer = answer(Committed { position, at: entry.at }, *refusal);
                waiters.answer(&(transaction.request_id, transaction.actor.clone()), &answer);
            }
        }
        drop(waiters);
        self.cuts.tell();
    }

    fn enter_term(&self, term: u64, waiters: &mut Waiters, settle: impl FnMut(&Key) -> Answer) {
        let entered = self.applied_term.send_if_modified(|applied| {
            let later = term > *applied;
            *applied = term.max(*applied);
            later
        });
        if entered {
            waiters.settle_before(term, settle);
        }
    }

    /// A copy for a snapshot.
    pub(crate) fn cut(&self) -> ReplicaCut<F::Cut> {
        self.cuts.made();
        self.metrics.snapshot_cut_seconds.observe_closure_duration(|| self.replica().cut())
    }

    /// Replaces the replica by a snapshot's and tells proposers what it says about them. Gives the old one back: to drop a
    /// large state takes longer than readers may wait.
    #[must_use]
    pub(crate) fn replace(&self, replica: Replica<F>) -> Replica<F> {
        let mark = mark_of(&replica);
        let term = replica.term();
        self.pins.bury(&replica.removed);
        let old = {
            let mut held = self.replica.write().expect(WHOLE);
            let old = std::mem::replace(&mut *held, replica);
            // Not by comparing times: log time may be later by now than it ever was here, and have been set back all the same.
            if mark.rebased > old.rebased {
                self.clocks.rebased(mark.at);
            } else {
                self.clocks.installed(mark.at);
            }
            old
        };
        self.recent().clear();
        self.cuts.made();
        self.applied.send_replace(mark);
        self.memberships.send_replace(mark.index);
        let replica = self.replica();
        // What the table does not know may have been committed and evicted: nobody can say.
        self.enter_term(term, &mut self.waiters(), |key| match replica.dedup.get(key) {
            Some((_, position)) => Err(ProposeError::Repeated(position)),
            None => Err(ProposeError::Unknown),
        });
        old
    }

    /// Remembers a digest.
    pub(crate) fn remember_digest(&self, index: u64, digest: [u8; 32]) {
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        digests.push_back((index, digest));
        digests.make_contiguous().sort_unstable();
        while digests.len() > DIGESTS_MAX {
            digests.pop_front();
        }
    }

    /// The newest digests, by index.
    pub(crate) fn digests(&self) -> Vec<(u64, [u8; 32])> {
        self.digests.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// Whether replicas skipped the transactions of an entry that is read from disk again.
    pub(crate) fn refused(&self, index: u64, transactions: &[Transaction<F::Event>]) -> Vec<bool> {
        let replica = self.replica();
        (0..transactions.len() as u32).map(|ordinal| replica.refused.contains(&Position { index, ordinal })).collect()
    }
}

fn mark_of<F: Fold>(replica: &Replica<F>) -> Mark {
    Mark { index: replica.index(), at: replica.at, rebased: replica.rebased }
}

fn answer(committed: Committed, refusal: Option<Refusal>) -> Answer {
    match refusal {
        None => Ok(committed),
        Some(Refusal::Repeated(position)) => Err(ProposeError::Repeated(position)),
        Some(Refusal::Reused) => Err(ProposeError::ReusedId),
        Some(Refusal::Moved) => Err(ProposeError::NotCommitted),
    }
}

/// Computes the digest of a cut off the apply path.
fn digest_in_background<F: Fold>(shared: &Arc<Shared<F>>, index: u64, cut: F::Cut) {
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let (exec, worker) = (shared.seams.exec.clone(), Arc::clone(&shared));
        let work = move || worker.remember_digest(index, content::digest(&*worker.codec, &cut));
        exec.run("digest", Box::new(work)).await;
    });
}

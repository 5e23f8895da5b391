//! The handle of the log for the rest of the house.
//!
//! It refuses openraft's vocabulary: callers see positions, marks, leadership and members.

pub(crate) mod backfill;
pub(crate) mod entries;
mod introductions;
mod leadership;
mod members;
mod open;
mod propose;
pub(crate) mod retention;
mod serve;
pub(crate) mod silence;
mod snapshots;
mod stop;
mod timekeeping;
pub(crate) mod witness;

use std::sync::{Arc, Weak};
use std::time::Duration;

use certwright_core::log::{Fold, Position, RequestId, Transaction};
use certwright_core::mutant::{self, Mutant};
use certwright_core::time::Timestamp;
use certwright_proto::storage::{EntryBuilder, encode_transaction};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, ForwardReason, LinearizableReadError, RaftError};
use openraft::impls::ProgressResponder;
use openraft::{Raft, ReadPolicy};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::consensus::store::LogStore;
use crate::consensus::{CommittedLeaderId, Payload, Peer, Types};
use crate::error::{ProposeError, ReadError};
use crate::fold::machine::Machine;
use crate::fold::shared::Shared;
use crate::fold::waiters::Joined;
use crate::folded::Folded;
use crate::handle::entries::Entries;
use crate::handle::propose::Proposal;
use crate::handle::retention::History;
use crate::handle::silence::Heard;
use crate::handle::witness::Witness;
use crate::limits::{ENTRY_OCTETS_MAX, LEASE_RETRY_EVERY, PROPOSE_TIMEOUT, READ_INDEX_TIMEOUT};
use crate::member::{Leadership, Mark, Member, Members, Role};
use crate::peer::channels::{Channels, Lane};
use crate::projection::worker::Projection;
use crate::snapshot::Snapshots;
use crate::view::{AppliedEntry, Committed, Effective, View};
use crate::watch::Watch;

pub use retention::{Allow, Kept, Prefix};

/// What a node says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// This node.
    pub node_id: u64,
    /// Its term.
    pub term: u64,
    /// Its role.
    pub role: Role,
    /// The leader it follows.
    pub leader: Option<u64>,
    /// Index it has applied.
    pub applied_index: u64,
    /// Index of the last entry in its log.
    pub last_log_index: u64,
    /// The newest membership it knows.
    pub members: Members,
}

/// The replicated log; clones share it. Dropping the last one without [`shutdown`](Self::shutdown) is like a crash.
pub struct Log<F: Fold> {
    inner: Arc<Inner<F>>,
}

struct Inner<F: Fold> {
    node_id: u64,
    raft: Raft<Types, Machine<F>>,
    shared: Arc<Shared<F>>,
    store: LogStore,
    entries: Arc<Entries<F>>,
    history: History<F>,
    /// What history begins with, while somebody has read it a moment ago.
    first_state: tokio::sync::Mutex<Weak<Folded<F>>>,
    snapshots: Arc<Snapshots>,
    channels: Arc<Channels>,
    witness: Arc<Witness<F>>,
    projection: Projection,
    proposals: mpsc::Sender<Proposal>,
    leadership: watch::Receiver<Leadership>,
    heard: Arc<Heard>,
    /// Ends the tasks of this log.
    cancel: CancellationToken,
    /// Fires when consensus has ended, for whatever reason.
    stopped: CancellationToken,
    _cancel_on_drop: DropGuard,
}

impl<F: Fold> Clone for Log<F> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<F: Fold> Log<F> {
    /// Makes this node the first and only voter of a new cluster and waits until it leads. A log that was initialised
    /// before is left as it is.
    pub async fn initialize(&self, me: Member) -> Result<(), ProposeError> {
        let members = std::collections::BTreeMap::from([(me.node_id, Peer::of(&me))]);
        match self.inner.raft.initialize(members).await {
            Ok(()) => {}
            Err(RaftError::APIError(openraft::errors::InitializeError::NotAllowed(_))) => return Ok(()),
            Err(RaftError::APIError(error)) => return Err(ProposeError::Storage(error.to_string())),
            Err(RaftError::Fatal(_)) => return Err(ProposeError::Stopped),
        }
        let mut leadership = self.leadership();
        match timeout(PROPOSE_TIMEOUT, leadership.wait_for(|leadership| leadership.ready)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ProposeError::Stopped),
            Err(_) => Err(ProposeError::Unknown),
        }
    }

    /// Trusts peers by their keys until the membership that names this node is applied here; without effect afterwards.
    pub fn trust(&self, peers: Vec<Member>) {
        self.inner.channels.pins().trust(peers);
    }

    /// What a backup is read from.
    pub(crate) fn for_backup(&self) -> (History<F>, Arc<Snapshots>) {
        (self.inner.history.clone(), Arc::clone(&self.inner.snapshots))
    }

    /// Whether the membership that is applied here names that node, as voter or learner. Peers trusted before that are
    /// heard by consensus alone.
    pub fn is_member(&self, node_id: u64) -> bool {
        self.inner.shared.is_member(node_id)
    }

    /// Node ids of the membership that is applied here, voters and learners.
    pub fn applied_members(&self) -> Vec<u64> {
        self.inner.shared.replica().membership.nodes().map(|(&id, _)| id).collect()
    }

    /// A connection to a peer for what other rooms say on the internal port: mutual TLS, made when first used. `None`
    /// when the peer is not pinned here or was removed.
    pub fn peer_channel(&self, node_id: u64) -> Option<tonic::transport::Channel> {
        self.inner.channels.get(node_id, Lane::Forward)
    }

    /// Appends a transaction and waits until it is applied here. Leader only; the same request twice is appended once.
    pub async fn propose(&self, transaction: Transaction<F::Event>) -> Result<Committed, ProposeError> {
        let metrics = &self.inner.shared.metrics;
        let timer = metrics.commit_seconds.start_timer();
        let result = self.append(transaction).await;
        match &result {
            Ok(_) => drop(timer.stop_and_record()),
            Err(error) => {
                timer.stop_and_discard();
                metrics.failed(error);
            }
        }
        result
    }

    async fn append(&self, transaction: Transaction<F::Event>) -> Result<Committed, ProposeError> {
        let shared = &self.inner.shared;
        let term = self.leading_term()?;
        let encoded = encode_transaction(&*shared.codec, &transaction);
        if EntryBuilder::new().octets_with(&encoded) > ENTRY_OCTETS_MAX {
            return Err(ProposeError::TooLarge);
        }
        self.inner.store.wal().check_space().map_err(|error| ProposeError::Storage(error.to_string()))?;
        let key = (transaction.request_id, transaction.actor.clone());
        let digest = transaction.request_digest;
        let mut events = transaction.appends.iter().flat_map(|append| &append.events);
        let alone = events.any(|event| F::rebases(event).is_some());
        // Bound first: a guard in the match's head would live across the await below.
        let joined = shared.waiters().join(&key, digest, term);
        let receiver = match joined {
            Joined::Reused => return Err(ProposeError::ReusedId),
            Joined::Shared(receiver) => {
                return self.outcome(receiver).await;
            }
            Joined::First(receiver) => receiver,
        };
        // Applying remembers a request before it forgets the flight, so one of the two knows it. Looking only now
        // leaves no moment in which neither would be asked.
        let known = shared.replica().dedup.get(&key);
        if let Some((committed, position)) = known {
            let same = committed == digest;
            let error = if same { ProposeError::Repeated(position) } else { ProposeError::ReusedId };
            shared.waiters().answer(&key, &Err(error.clone()));
            return Err(error);
        }
        let proposal = Proposal { key, term, encoded, alone };
        if let Err(mpsc::error::SendError(proposal)) = self.inner.proposals.send(proposal).await {
            shared.waiters().answer(&proposal.key, &Err(ProposeError::Stopped));
        }
        self.outcome(receiver).await
    }

    async fn outcome(
        &self,
        receiver: tokio::sync::oneshot::Receiver<Result<Committed, ProposeError>>,
    ) -> Result<Committed, ProposeError> {
        match timeout(PROPOSE_TIMEOUT, receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(ProposeError::Stopped),
            Err(_) => Err(ProposeError::Unknown),
        }
    }

    /// Resolves when a transaction that was proposed here is no longer under way: it is applied here, or never will be.
    /// What is `Unknown` to its proposer may still wait in the queue, or lie in an entry that was turned away and is
    /// written again, behind anything that is appended meanwhile: only its own end tells.
    pub async fn landed(&self, actor: &Arc<str>, id: RequestId) {
        let flight = self.inner.shared.waiters().follow(&(id, Arc::clone(actor)));
        if let Some(end) = flight {
            // How it ended is the proposer's to ask; that it did is all there is to know here.
            let _ = end.await;
        }
    }

    fn leading_term(&self) -> Result<u64, ProposeError> {
        if self.inner.stopped.is_cancelled() {
            return Err(ProposeError::Stopped);
        }
        let leadership = *self.inner.leadership.borrow();
        if leadership.ready {
            return Ok(leadership.term);
        }
        Err(ProposeError::NotLeader { hint: leadership.leader })
    }

    /// Appends an entry after which every replica computes the digest of its state; returns its index. Leader only.
    pub async fn request_digest(&self) -> Result<u64, ProposeError> {
        let requesting = async {
            loop {
                let term = self.leading_term()?;
                let mut builder = EntryBuilder::new();
                builder.request_digest();
                // It asks for no time, and must not bring one along that is taken back meanwhile.
                let payload = Payload(builder.finish(Timestamp::EPOCH));
                let (responder, outcome) = ProgressResponder::complete_only();
                let write =
                    self.inner.raft.write(payload).with_leader(CommittedLeaderId::new(term)).responder(responder);
                write.await.map_err(|_| ProposeError::Stopped)?;
                match outcome.await.map_err(|_| ProposeError::Stopped)? {
                    Ok(written) => return Ok(written.log_id.index()),
                    Err(ClientWriteError::ForwardToLeader(forward))
                        if forward.reason == ForwardReason::LeaseExpired =>
                    {
                        sleep(LEASE_RETRY_EVERY).await;
                    }
                    Err(ClientWriteError::ForwardToLeader(forward)) => {
                        return Err(ProposeError::NotLeader { hint: forward.leader_id });
                    }
                    Err(_) => return Err(ProposeError::Unknown),
                }
            }
        };
        timeout(PROPOSE_TIMEOUT, requesting).await.unwrap_or(Err(ProposeError::Unknown))
    }

    /// The newest state digests of this node, by index.
    pub fn digests(&self) -> Vec<(u64, [u8; 32])> {
        self.inner.shared.digests()
    }

    /// Reads local state; holds its lock, so keep it short and never wait inside.
    pub fn read<R>(&self, read: impl FnOnce(&View<'_, F>) -> R) -> R {
        self.inner.shared.read(read)
    }

    /// Digest and position of what an actor committed under a request id within the deduplication window.
    pub fn repeated(&self, actor: &str, id: RequestId) -> Option<([u8; 16], Position)> {
        self.inner.shared.replica().dedup.find(actor, id)
    }

    /// An index such that a read of this node's state from now on is linearizable: a quorum confirmed that this node
    /// leads, and that index is applied here. Leader only.
    pub async fn read_index(&self) -> Result<u64, ReadError> {
        if mutant::is(Mutant::ReadWithoutQuorum) {
            return Ok(self.inner.shared.mark().index);
        }
        let confirming = async {
            loop {
                match self.inner.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
                    Ok(read) => return Ok(read.index()),
                    Err(RaftError::Fatal(_)) => return Err(ReadError::Stopped),
                    Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)))
                        if forward.reason != ForwardReason::LeaseExpired =>
                    {
                        let hint = forward.leader_id.or(self.inner.leadership.borrow().leader);
                        return Err(ReadError::NotLeader { hint });
                    }
                    Err(RaftError::APIError(_)) => sleep(LEASE_RETRY_EVERY).await,
                }
            }
        };
        let index = timeout(READ_INDEX_TIMEOUT, confirming).await.unwrap_or(Err(ReadError::NoQuorum))?;
        self.wait_applied(index, READ_INDEX_TIMEOUT).await?;
        Ok(index)
    }

    /// Waits until that index is applied here.
    pub async fn wait_applied(&self, index: u64, limit: Duration) -> Result<(), ReadError> {
        let mut applied = self.applied();
        let waiting = applied.wait_for(|mark| mark.index >= index);
        let behind = || ReadError::Behind { applied: self.inner.shared.mark().index, wanted: index };
        tokio::select! {
            biased;
            arrived = timeout(limit, waiting) => match arrived {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(_)) => Err(ReadError::Stopped),
                Err(_) => Err(behind()),
            },
            () = self.inner.stopped.cancelled() => Err(ReadError::Stopped),
        }
    }

    /// How far this node has applied.
    pub fn applied(&self) -> watch::Receiver<Mark> {
        self.inner.shared.applied()
    }

    /// Who leads, as this node sees it.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// The applied entry with that index, decoded; `None` when it is not applied here or no longer kept. May block on
    /// the disk for a moment.
    pub fn entry(&self, index: u64) -> Result<Option<Arc<AppliedEntry<F::Event>>>, ReadError> {
        self.inner.entries.get(index)
    }

    /// The transaction at a position, decoded, if it took effect; as [`entry`](Self::entry), and cheaper: of what is on disk
    /// nothing else is decoded.
    pub fn transaction(&self, position: Position) -> Result<Option<Effective<F::Event>>, ReadError> {
        self.inner.entries.transaction(position)
    }

    /// The log's hash chain after the applied entry with that index; `None` when it is not applied here, or what is needed
    /// to know is no longer kept. Blocks on the disk: up to a segment is read.
    pub fn chain_after(&self, index: u64) -> Result<Option<[u8; 32]>, ReadError> {
        self.inner.entries.chain_after(index)
    }

    /// Watches the log after a position; `TooOld` when what follows it is not kept here.
    pub async fn watch(&self, after: Position) -> Result<Watch<F>, ReadError> {
        Watch::new(Arc::clone(&self.inner.entries), self.inner.stopped.clone(), after).await
    }

    /// The projected value of a key.
    pub fn lookup(&self, key: &[u8]) -> Option<Vec<u8>> {
        let found = self.inner.projection.store().get(key);
        found.unwrap_or_else(|error| self.inner.projection.doubt(&error))
    }

    /// Waits until every entry up to that index is projected, those of before a snapshot included.
    pub async fn wait_projected(&self, index: u64, limit: Duration) -> Result<(), ReadError> {
        let mut complete = self.inner.projection.complete();
        match timeout(limit, complete.wait_for(|complete| *complete >= index)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ReadError::Stopped),
            Err(_) => Err(ReadError::Behind { applied: *self.inner.projection.complete().borrow(), wanted: index }),
        }
    }

    /// Grows when the projection is emptied or could not be read: pages of [`scan`](Self::scan) that were read while it
    /// stays are of one whole projection.
    pub fn projection_wipes(&self) -> u64 {
        self.inner.projection.wipes()
    }

    /// At most `limit` projected pairs whose key starts with `prefix`, in key order, after the key `after`.
    pub fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let found = self.inner.projection.store().scan(prefix, after, limit);
        found.unwrap_or_else(|error| self.inner.projection.doubt(&error))
    }

    /// Whether there is room for the log's next segment; each call that finds none has it looked for again. Without it
    /// proposals are refused with `Storage`, and entries of a leader are not taken.
    pub fn has_room(&self) -> bool {
        self.inner.store.wal().check_space().is_ok()
    }

    /// Milliseconds between heartbeats, and those after which a leader is missed at the earliest.
    pub fn timers(&self) -> (u64, u64) {
        let config = self.inner.raft.config();
        (config.heartbeat_interval, config.election_timeout_min)
    }

    /// What this node says of itself.
    pub fn status(&self) -> Status {
        let server = self.inner.raft.server_metrics().borrow_watched().clone();
        let leadership = *self.inner.leadership.borrow();
        let stopped = self.inner.stopped.is_cancelled();
        Status {
            node_id: self.inner.node_id,
            term: server.vote.leader_id().term,
            role: if stopped { Role::Stopped } else { leadership::role(server.state) },
            leader: leadership.leader,
            applied_index: self.inner.shared.mark().index,
            last_log_index: self.inner.store.wal().last_mark().map_or(0, |last| last.index),
            members: leadership::members(&server.membership_config),
        }
    }
}

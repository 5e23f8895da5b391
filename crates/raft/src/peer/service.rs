//! The consensus service on the internal port.
//!
//! It refuses peers that speak for others: the node in a message is the node of the connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use certwright_core::log::Fold;
use certwright_proto::internal::v1::raft_server::Raft as RaftRpc;
use certwright_proto::internal::v1::{
    BackfillFrame, BackfillRequest, BaseRequest, ClockRequest, ClockResponse, Envelope, IntroduceRequest,
    IntroduceResponse, PinnedMember, SnapshotChunk,
};
use certwright_seams::exec::compute;
use certwright_seams::{Clock, Exec};
use futures_util::stream::{Stream, StreamExt};
use openraft::Raft;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest};
use prost::Message;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use super::client::{envelope, open};
use super::pins::Pins;
use super::transfer;
use crate::base::Bases;
use crate::consensus::store::LogStore;
use crate::consensus::wire::{
    AppendForm, AppendedForm, DeathForm, TransferForm, VoteRequestForm, VoteResponseForm, need, streamed_form,
    transferred_form,
};
use crate::consensus::{Types, Vote};
use crate::fold::machine::Machine;
use crate::handle::silence::Heard;
use crate::handle::witness::Witness;
use crate::limits::{APPEND_BATCH_OCTETS_MAX, INSTALL_SNAPSHOT_TIMEOUT};
use crate::member::PeerNode;
use crate::snapshot::Snapshots;

/// Answers peers.
pub(crate) struct PeerService<F: Fold> {
    pub(crate) raft: Raft<Types, Machine<F>>,
    pub(crate) store: LogStore,
    pub(crate) pins: Arc<Pins>,
    pub(crate) witness: Arc<Witness<F>>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) bases: Arc<Bases>,
    pub(crate) exec: Arc<dyn Exec>,
    /// One snapshot at a time.
    pub(crate) receiving: Arc<Semaphore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) heard: Arc<Heard>,
}

/// Refuses connections of nodes that were removed since; for every service on the internal port.
pub(crate) fn admit(pins: &Pins, request: Request<()>) -> Result<Request<()>, Status> {
    match request.extensions().get::<PeerNode>() {
        Some(peer) if pins.is_removed(peer.0) => {
            Err(Status::permission_denied(format!("node {} was removed from the cluster", peer.0)))
        }
        Some(_) => Ok(request),
        None => Err(Status::unauthenticated("the internal port speaks to verified peers only")),
    }
}

fn peer<T>(request: &Request<T>) -> Result<u64, Status> {
    request
        .extensions()
        .get::<PeerNode>()
        .map(|peer| peer.0)
        .ok_or_else(|| Status::unauthenticated("the internal port speaks to verified peers only"))
}

fn same(peer: u64, vote: &Vote) -> Result<(), Status> {
    let speaker = vote.leader_id().voted_for;
    if speaker == peer {
        return Ok(());
    }
    Err(Status::permission_denied(format!("node {peer} speaks for node {speaker}")))
}

/// Entries that would not fit are refused before consensus sees them: once it does, failing to store them ends this node.
fn room(store: &LogStore, rpc: &AppendEntriesRequest<Types>) -> Result<(), Status> {
    if rpc.entries.is_empty() {
        return Ok(());
    }
    store.wal().check_space().map_err(|error| Status::resource_exhausted(error.to_string()))
}

fn malformed(error: io::Error) -> Status {
    Status::invalid_argument(error.to_string())
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("consensus has stopped: {error}"))
}

fn parse<M, T>(envelope: Envelope) -> Result<T, Status>
where
    M: Message + Default,
    T: TryFrom<M, Error = io::Error>,
{
    open::<M>(envelope).and_then(T::try_from).map_err(malformed)
}

impl<F: Fold> PeerService<F> {
    /// Whether that node votes, as far as this one knows.
    fn votes(&self, peer: u64) -> bool {
        self.raft.metrics().borrow_watched().membership_config.voter_ids().any(|id| id == peer)
    }
}

type Frames<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl<F: Fold> RaftRpc for PeerService<F> {
    type StreamAppendStream = Frames<Envelope>;
    type BackfillStream = Frames<BackfillFrame>;
    type BaseStream = Frames<SnapshotChunk>;

    async fn vote(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
        let peer = peer(&request)?;
        let form: VoteRequestForm = open(request.into_inner()).map_err(malformed)?;
        let dead_leader = form.dead_leader.map(Vote::from);
        let mut rpc: VoteRequest<Types> = form.try_into().map_err(malformed)?;
        same(peer, &rpc.vote)?;
        // Whoever has no proof of its own goes by the lease: a leader that lives is not to be disturbed, least of all by
        // one that does not vote.
        rpc.leadership_transfer &=
            self.votes(peer) && dead_leader.is_none_or(|dead| self.witness.deaths.voids_lease(&dead));
        let answer = self.raft.vote(rpc).await.map_err(stopped)?;
        Ok(Response::new(envelope(&VoteResponseForm::from(&answer))))
    }

    async fn pre_vote(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
        let peer = peer(&request)?;
        let mut rpc: VoteRequest<Types> = parse::<VoteRequestForm, _>(request.into_inner())?;
        same(peer, &rpc.vote)?;
        rpc.leadership_transfer &= self.votes(peer);
        let answer = self.raft.pre_vote(rpc).await.map_err(stopped)?;
        Ok(Response::new(envelope(&VoteResponseForm::from(&answer))))
    }

    async fn append_entries(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
        let peer = peer(&request)?;
        let rpc: AppendEntriesRequest<Types> = parse::<AppendForm, _>(request.into_inner())?;
        same(peer, &rpc.vote)?;
        room(&self.store, &rpc)?;
        let answer = self.raft.append_entries(rpc).await.map_err(stopped)?;
        // One that was deposed and does not know is no leader.
        if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
            self.heard.note(self.clock.monotonic());
        }
        Ok(Response::new(envelope(&AppendedForm::from(answer))))
    }

    async fn clock(&self, _: Request<ClockRequest>) -> Result<Response<ClockResponse>, Status> {
        Ok(Response::new(ClockResponse { wall_millis: self.clock.wall_millis() }))
    }

    async fn introduce(&self, _: Request<IntroduceRequest>) -> Result<Response<IntroduceResponse>, Status> {
        let members = self.pins.record().into_iter().map(|member| PinnedMember {
            node_id: member.node_id,
            address: member.address,
            spki_hash: member.spki_hash.to_vec().into(),
        });
        Ok(Response::new(IntroduceResponse { members: members.collect() }))
    }

    async fn stream_append(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::StreamAppendStream>, Status> {
        let peer = peer(&request)?;
        let (pins, clock, heard) = (Arc::clone(&self.pins), Arc::clone(&self.clock), Arc::clone(&self.heard));
        let store = self.store.clone();
        // A message that does not parse or fit ends the stream; its sender sees fewer answers than requests.
        let requests = request.into_inner().scan((), move |(), message| {
            let rpc = message.and_then(parse::<AppendForm, AppendEntriesRequest<Types>>).ok();
            let is_taken = |rpc: &AppendEntriesRequest<Types>| {
                same(peer, &rpc.vote).is_ok() && !pins.is_removed(peer) && room(&store, rpc).is_ok()
            };
            std::future::ready(rpc.filter(is_taken))
        });
        let answers = self.raft.stream_append(requests).map(move |answer| match answer {
            Ok(result) => {
                if result.is_ok() {
                    heard.note(clock.monotonic());
                }
                Ok(envelope(&streamed_form(result)))
            }
            Err(fatal) => Err(stopped(fatal)),
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn offer_snapshot(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
        let peer = peer(&request)?;
        let accept = |vote: &Vote| same(peer, vote);
        transfer::kept(request.into_inner(), &self.snapshots, &self.exec, accept).await.map(Response::new)
    }

    async fn install_snapshot(&self, request: Request<Streaming<SnapshotChunk>>) -> Result<Response<Envelope>, Status> {
        let peer = peer(&request)?;
        let permit = Arc::clone(&self.receiving)
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted("another snapshot is being received"))?;
        let arrived =
            transfer::receive(request.into_inner(), &self.snapshots, &self.exec, INSTALL_SNAPSHOT_TIMEOUT, |vote| {
                same(peer, vote)
            })
            .await?;
        let (raft, snapshots, exec) = (self.raft.clone(), Arc::clone(&self.snapshots), Arc::clone(&self.exec));
        // It goes on when the sender is gone, and until its end there is no other one.
        let installing = tokio::spawn(async move {
            let _permit = permit;
            let snapshot = transfer::verify(arrived.file, &snapshots, &exec).await?;
            let path = snapshot.snapshot.path.clone();
            let installed = raft.install_full_snapshot(arrived.vote, snapshot).await;
            transfer::discard(&snapshots, &exec, path).await;
            installed.map_err(stopped)
        });
        let installed = installing.await.map_err(|_| Status::unavailable("this server stops"))??;
        Ok(Response::new(transfer::end(&installed.vote)))
    }

    async fn transfer_leader(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
        let peer = peer(&request)?;
        let rpc: TransferLeaderRequest<Types> = parse::<TransferForm, _>(request.into_inner())?;
        same(peer, rpc.from_leader())?;
        let answer = self.raft.handle_transfer_leader(rpc).await.map_err(stopped)?;
        Ok(Response::new(envelope(&transferred_form(answer))))
    }

    async fn testify(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
        peer(&request)?;
        let form: DeathForm = open(request.into_inner()).map_err(malformed)?;
        let leader = need(form.leader).map_err(malformed)?;
        Ok(Response::new(envelope(&self.witness.testify(leader.into()).await)))
    }

    async fn base(&self, request: Request<BaseRequest>) -> Result<Response<Self::BaseStream>, Status> {
        let BaseRequest { first_index } = request.into_inner();
        let base = self.bases.base().filter(|base| base.floor.first_index == first_index);
        let base = base.ok_or_else(|| Status::not_found(format!("history does not begin with {first_index} here")))?;
        let (bases, octets) = (Arc::clone(&self.bases), base.file.octets);
        let opened = compute(&*self.exec, "snapshot", move || bases.open_file(&base)).await;
        let file = opened.map_err(|error| Status::unavailable(format!("the snapshot cannot be read: {error}")))?;
        Ok(Response::new(transfer::chunks(file, octets, Arc::clone(&self.exec))))
    }

    async fn backfill(&self, request: Request<BackfillRequest>) -> Result<Response<Self::BackfillStream>, Status> {
        let BackfillRequest { from_index, to_index } = request.into_inner();
        let store = self.store.clone();
        let frames = futures_util::stream::try_unfold((store, from_index), move |(store, from)| async move {
            if from >= to_index {
                return Ok(None);
            }
            let frames = store
                .archive_frames(from, to_index, APPEND_BATCH_OCTETS_MAX)
                .map_err(|error| Status::out_of_range(format!("entry {from} is not in the archive here: {error}")))?;
            let next = frames.last().map_or(to_index, |frame| frame.index + 1);
            Ok::<_, Status>(Some((futures_util::stream::iter(frames.into_iter().map(Ok)), (store, next))))
        });
        Ok(Response::new(Box::pin(futures_util::TryStreamExt::try_flatten(frames))))
    }
}

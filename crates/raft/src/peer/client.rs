//! Speaking to one peer, as openraft asks for it.
//!
//! It refuses to wait longer than it was told to: every answer has a deadline.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use certwright_proto::internal::v1::Envelope;
use certwright_proto::internal::v1::raft_client::RaftClient;
use certwright_seams::{BoxFuture, Exec};
use futures_util::stream::{self, Stream, StreamExt};
use openraft::RaftNetworkFactory;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::v2::RaftNetworkV2;
use openraft::network::{NetAppend, RPCOption, RPCTypes, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use prost::Message;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::channels::{Channels, Lane};
use super::deaths::Deaths;
use super::transfer;
use crate::consensus::record::VoteForm;
use crate::consensus::wire::{
    AppendForm, AppendedForm, TransferForm, TransferredForm, VoteRequestForm, VoteResponseForm, streamed_result,
    transferred_result,
};
use crate::consensus::{Peer, Types, Vote};
use crate::fold::cuts::Cuts;
use crate::limits::{APPEND_TIMEOUT, FRAME_OCTETS_MAX};
use crate::snapshot::{SnapshotFile, Snapshots};

type Rpc = RPCError<Types>;

/// Version of the envelopes' bodies.
pub(crate) const ENVELOPE_VERSION: u32 = 1;

/// Wraps a body.
pub(crate) fn envelope(body: &impl Message) -> Envelope {
    Envelope { version: ENVELOPE_VERSION, body: Bytes::from(body.encode_to_vec()) }
}

/// Unwraps a body of a known version.
pub(crate) fn open<M: Message + Default>(envelope: Envelope) -> io::Result<M> {
    if envelope.version != ENVELOPE_VERSION {
        let what = format!("envelope of unknown version {}", envelope.version);
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    M::decode(envelope.body).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Makes clients; connections are shared between those for the same traffic.
pub(crate) struct PeerFactory {
    pub(crate) me: u64,
    pub(crate) channels: Arc<Channels>,
    pub(crate) deaths: Arc<Deaths>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) cuts: Arc<Cuts>,
    pub(crate) exec: Arc<dyn Exec>,
}

impl PeerFactory {
    fn client(&self, target: u64, lane: Lane) -> PeerClient {
        PeerClient {
            me: self.me,
            target,
            lane,
            channels: Arc::clone(&self.channels),
            deaths: Arc::clone(&self.deaths),
            snapshots: Arc::clone(&self.snapshots),
            cuts: Arc::clone(&self.cuts),
            exec: Arc::clone(&self.exec),
        }
    }
}

impl RaftNetworkFactory<Types> for PeerFactory {
    type Network = PeerClient;

    async fn new_client(&mut self, target: u64, _node: &Peer) -> PeerClient {
        self.client(target, Lane::Append)
    }

    async fn new_heartbeat_client(&mut self, target: u64, _node: &Peer) -> PeerClient {
        self.client(target, Lane::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, target: u64, _node: &Peer) -> PeerClient {
        self.client(target, Lane::Snapshot)
    }
}

/// Speaks to one peer.
pub(crate) struct PeerClient {
    me: u64,
    target: u64,
    lane: Lane,
    channels: Arc<Channels>,
    deaths: Arc<Deaths>,
    snapshots: Arc<Snapshots>,
    cuts: Arc<Cuts>,
    exec: Arc<dyn Exec>,
}

/// A generated client on that connection.
pub(crate) fn raft_client(channel: Channel) -> RaftClient<Channel> {
    RaftClient::new(channel).max_decoding_message_size(FRAME_OCTETS_MAX).max_encoding_message_size(FRAME_OCTETS_MAX)
}

/// What a status means to openraft: whether to back off, or to try again at once.
fn network_error(status: &Status) -> Rpc {
    match status.code() {
        Code::Unavailable | Code::PermissionDenied | Code::Unauthenticated => Unreachable::new(status).into(),
        _ => NetworkError::new(status).into(),
    }
}

fn malformed(error: &io::Error) -> Rpc {
    NetworkError::new(error).into()
}

impl PeerClient {
    fn connected(&self, lane: Lane) -> Result<RaftClient<Channel>, Rpc> {
        match self.channels.get(self.target, lane) {
            Some(channel) => Ok(raft_client(channel)),
            None => Err(Unreachable::from_string(format!("node {} is not pinned here", self.target)).into()),
        }
    }

    fn timed_out(&self, action: RPCTypes, timeout: Duration) -> Timeout<Types> {
        Timeout { action, id: self.me, target: self.target, timeout }
    }

    /// Sends one message and waits for its answer.
    async fn call<M, R, Fut>(
        &self,
        action: RPCTypes,
        deadline: Duration,
        lane: Lane,
        message: &M,
        send: impl FnOnce(RaftClient<Channel>, Envelope) -> Fut,
    ) -> Result<R, Rpc>
    where
        M: Message,
        R: Message + Default,
        Fut: Future<Output = Result<tonic::Response<Envelope>, Status>>,
    {
        let client = self.connected(lane)?;
        match timeout(deadline, send(client, envelope(message))).await {
            Ok(Ok(answer)) => open(answer.into_inner()).map_err(|error| malformed(&error)),
            Ok(Err(status)) => Err(network_error(&status)),
            Err(_) => Err(self.timed_out(action, deadline).into()),
        }
    }

    /// Entries wait for the peer's fdatasync, which may take longer than openraft's heartbeat interval allows; liveness
    /// is the heartbeat's business.
    fn append_deadline(&self, option: &RPCOption) -> Duration {
        match self.lane {
            // What comes later is not counted by openraft, whatever we do: there is nothing to gain by less.
            Lane::Heartbeat => option.hard_ttl(),
            _ => option.soft_ttl().max(APPEND_TIMEOUT),
        }
    }

    /// Opens a stream for `first` and what follows it.
    async fn open_stream<S>(
        &self,
        first: AppendEntriesRequest<Types>,
        rest: S,
        deadline: Duration,
    ) -> Result<AppendStream, Rpc>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        let mut client = self.connected(self.lane)?;
        let outstanding = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&outstanding);
        let requests = stream::once(std::future::ready(first)).chain(rest).map(move |request| {
            counter.fetch_add(1, Ordering::Relaxed);
            envelope(&AppendForm::from(&request))
        });
        match timeout(deadline, client.stream_append(requests)).await {
            Ok(Ok(answers)) => Ok(AppendStream { answers: answers.into_inner(), outstanding, deadline }),
            Ok(Err(status)) => Err(network_error(&status)),
            Err(_) => Err(self.timed_out(RPCTypes::AppendEntries, deadline).into()),
        }
    }
}

/// The answers of one append stream.
struct AppendStream {
    answers: Streaming<Envelope>,
    outstanding: Arc<AtomicUsize>,
    deadline: Duration,
}

impl AppendStream {
    /// The next answer. Only requests that are under way have a deadline: an idle stream stays open.
    async fn next(&mut self, client: &PeerClient) -> Option<Result<StreamAppendResult<Types>, Rpc>> {
        loop {
            let waiting = self.outstanding.load(Ordering::Relaxed) > 0;
            match timeout(self.deadline, self.answers.next()).await {
                Err(_) if !waiting => {}
                Err(_) => return Some(Err(client.timed_out(RPCTypes::AppendEntries, self.deadline).into())),
                Ok(None) => return None,
                Ok(Some(Err(status))) => return Some(Err(network_error(&status))),
                Ok(Some(Ok(answer))) => {
                    self.outstanding.fetch_sub(1, Ordering::Relaxed);
                    let result = open::<AppendedForm>(answer).and_then(streamed_result);
                    return Some(result.map_err(|error| malformed(&error)));
                }
            }
        }
    }
}

type Answers<'s> = Pin<Box<dyn Stream<Item = Result<StreamAppendResult<Types>, Rpc>> + Send + 's>>;

impl RaftNetworkV2<Types> for PeerClient {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, Rpc> {
        let deadline = self.append_deadline(&option);
        let answer: AppendedForm = self
            .call(
                RPCTypes::AppendEntries,
                deadline,
                self.lane,
                &AppendForm::from(&rpc),
                |mut client, envelope| async move { client.append_entries(envelope).await },
            )
            .await?;
        answer.try_into().map_err(|error| malformed(&error))
    }

    fn stream_append<'s, S>(&'s mut self, mut input: S, option: RPCOption) -> BoxFuture<'s, Result<Answers<'s>, Rpc>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        if self.lane == Lane::Heartbeat {
            return stream_append_sequential(self, input, option);
        }
        Box::pin(async move {
            // openraft backs off inside its stream of requests: connecting before it yields one would try a peer that
            // is down without a pause.
            let Some(first) = input.next().await else { return Ok(Box::pin(stream::empty()) as Answers<'s>) };
            let opened = self.open_stream(first, input, self.append_deadline(&option)).await?;
            let this = &*self;
            let answers = stream::unfold(Some(opened), move |opened| async move {
                let mut opened = opened?;
                let answer = opened.next(this).await?;
                let goes_on = matches!(answer, Ok(Ok(_)));
                Some((answer, goes_on.then_some(opened)))
            });
            Ok(Box::pin(answers) as Answers<'s>)
        })
    }

    async fn vote(&mut self, rpc: VoteRequest<Types>, option: RPCOption) -> Result<VoteResponse<Types>, Rpc> {
        let mut form = VoteRequestForm::from(&rpc);
        if form.leadership_transfer {
            let dead = self.deaths.predecessor(rpc.vote.leader_id().term);
            form.dead_leader = dead.as_ref().map(VoteForm::from);
        }
        let answer: VoteResponseForm = self
            .call(RPCTypes::Vote, option.hard_ttl(), Lane::Vote, &form, |mut client, envelope| async move {
                client.vote(envelope).await
            })
            .await?;
        answer.try_into().map_err(|error| malformed(&error))
    }

    async fn pre_vote(&mut self, rpc: VoteRequest<Types>, option: RPCOption) -> Result<VoteResponse<Types>, Rpc> {
        let answer: VoteResponseForm = self
            .call(
                RPCTypes::Vote,
                option.hard_ttl(),
                Lane::Vote,
                &VoteRequestForm::from(&rpc),
                |mut client, envelope| async move { client.pre_vote(envelope).await },
            )
            .await?;
        answer.try_into().map_err(|error| malformed(&error))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::alias::SnapshotOf<Types, SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let client = self.connected(Lane::Snapshot)?;
        let deadline = option.soft_ttl();
        let sending = transfer::send(client, &self.snapshots, &self.cuts, &self.exec, vote, snapshot, deadline);
        let sent = tokio::select! {
            biased;
            closed = cancel => return Err(closed.into()),
            sent = sending => sent,
        };
        match sent {
            Ok(vote) => Ok(SnapshotResponse::new(vote)),
            Err(transfer::SendError::TimedOut) => Err(self.timed_out(RPCTypes::InstallSnapshot, deadline).into()),
            Err(transfer::SendError::Status(status)) => Err(network_error(&status).into()),
            Err(transfer::SendError::Io(error)) => Err(NetworkError::new(&error).into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, Rpc> {
        let answer: TransferredForm = self
            .call(
                RPCTypes::TransferLeader,
                option.hard_ttl(),
                Lane::Vote,
                &TransferForm::from(&rpc),
                |mut client, envelope| async move { client.transfer_leader(envelope).await },
            )
            .await?;
        transferred_result(answer).map_err(|error| malformed(&error))
    }
}

/// The unary form is what the sequential stream of heartbeats is made of.
const _: fn() = || {
    fn sends<N: NetAppend<Types>>() {}
    sends::<PeerClient>();
};

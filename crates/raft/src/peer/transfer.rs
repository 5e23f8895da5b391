//! Snapshots between peers: a file in chunks one way, the receiver's vote the other way. A transfer that broke off goes on
//! after what has arrived and verified.
//!
//! It refuses to hand anything to consensus that has not verified as a whole on this disk.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use certwright_proto::internal::v1::raft_client::RaftClient;
use certwright_proto::internal::v1::{Envelope, SnapshotChunk};
use certwright_seams::Exec;
use certwright_seams::disk::File;
use certwright_seams::exec::compute;
use futures_util::Stream;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::client::{ENVELOPE_VERSION, open};
use crate::consensus::wire::{SnapshotEndForm, SnapshotKeptForm, SnapshotStartForm, need};
use crate::consensus::{Types, Vote};
use crate::fold::cuts::Cuts;
use crate::limits::{SNAPSHOT_CHUNK_OCTETS_MAX, SNAPSHOT_OCTETS_MAX};
use crate::snapshot::{SnapshotFile, Snapshots};

/// The pool on which snapshot files are read and written.
const POOL: &str = "snapshot";
/// Chunks read ahead of the network.
const CHUNKS_AHEAD: usize = 2;

type SnapshotOf = openraft::alias::SnapshotOf<Types, SnapshotFile>;

/// Chunks of a file on their way.
pub(crate) type ChunkStream = Pin<Box<dyn Stream<Item = Result<SnapshotChunk, Status>> + Send>>;

/// Why a snapshot was not sent.
#[derive(Debug)]
pub(crate) enum SendError {
    TimedOut,
    Status(Status),
    Io(io::Error),
}

fn chunk(header: Bytes, data: Bytes) -> SnapshotChunk {
    SnapshotChunk { version: ENVELOPE_VERSION, header, data }
}

/// Sends a snapshot and returns the receiver's vote; the deadline is each chunk's and the installation's.
pub(crate) async fn send(
    mut client: RaftClient<Channel>,
    snapshots: &Arc<Snapshots>,
    cuts: &Cuts,
    exec: &Arc<dyn Exec>,
    vote: Vote,
    snapshot: SnapshotOf,
    deadline: Duration,
) -> Result<Vote, SendError> {
    let (store, file) = (Arc::clone(snapshots), snapshot.snapshot.clone());
    let (handle, digest) = compute(&**exec, POOL, move || store.open_file(&file)).await.map_err(SendError::Io)?;
    let mut start = SnapshotStartForm {
        vote: Some((&vote).into()),
        meta: Some((&snapshot.meta).into()),
        octets: snapshot.snapshot.octets,
        digest: Bytes::copy_from_slice(&digest),
        from: 0,
    };
    start.from = ask(&mut client, &start, deadline).await?.min(start.octets);
    if start.from > 0 {
        tracing::info!(from = start.from, octets = start.octets, "the transfer of a snapshot goes on");
    }
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    let feeding = feed(sender, &start, handle, Arc::clone(exec), deadline);
    let (fed, answer) = tokio::join!(feeding, client.install_snapshot(ReceiverStream::new(receiver)));
    match (fed, answer) {
        (_, Ok(answer)) => {
            let end: SnapshotEndForm = open(answer.into_inner()).map_err(SendError::Io)?;
            need(end.vote).map(Vote::from).map_err(SendError::Io)
        }
        (Err(error), Err(_)) => Err(error),
        (Ok(()), Err(status)) => {
            if status.code() == Code::DataLoss {
                let (store, file) = (Arc::clone(snapshots), snapshot.snapshot.clone());
                if compute(&**exec, POOL, move || store.doubt(&file)).await.map_err(SendError::Io)? {
                    cuts.want();
                }
            }
            Err(SendError::Status(status))
        }
    }
}

/// How much of the snapshot the receiver has kept; one of an older release keeps nothing.
async fn ask(
    client: &mut RaftClient<Channel>,
    start: &SnapshotStartForm,
    deadline: Duration,
) -> Result<u64, SendError> {
    match timeout(deadline, client.offer_snapshot(super::client::envelope(start))).await {
        Ok(Ok(answer)) => open::<SnapshotKeptForm>(answer.into_inner()).map(|kept| kept.octets).map_err(SendError::Io),
        Ok(Err(status)) if status.code() == Code::Unimplemented => Ok(0),
        Ok(Err(status)) => Err(SendError::Status(status)),
        Err(_) => Err(SendError::TimedOut),
    }
}

/// Reads the file and offers its chunks. Ends early without an error when nobody takes them any more.
async fn feed(
    sender: mpsc::Sender<SnapshotChunk>,
    start: &SnapshotStartForm,
    file: Box<dyn File>,
    exec: Arc<dyn Exec>,
    deadline: Duration,
) -> Result<(), SendError> {
    let header = chunk(start.encode_to_vec().into(), Bytes::new());
    let offer = async |chunk| match timeout(deadline, sender.send(chunk)).await {
        Ok(sent) => Ok(sent.is_ok()),
        Err(_) => Err(SendError::TimedOut),
    };
    if !offer(header).await? {
        return Ok(());
    }
    let file: Arc<dyn File> = file.into();
    let mut offset = start.from;
    while offset < start.octets {
        let length = (start.octets - offset).min(SNAPSHOT_CHUNK_OCTETS_MAX as u64) as usize;
        let reading = Arc::clone(&file);
        let data = compute(&*exec, POOL, move || {
            let mut buffer = vec![0; length];
            let read = reading.read_at(offset, &mut buffer)?;
            if read == length { Ok(buffer) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof)) }
        })
        .await
        .map_err(SendError::Io)?;
        offset += length as u64;
        if !offer(chunk(Bytes::new(), data.into())).await? {
            return Ok(());
        }
    }
    Ok(())
}

/// A snapshot all of which has arrived; nothing of it is verified.
pub(crate) struct Arrived {
    pub(crate) vote: Vote,
    pub(crate) file: SnapshotFile,
}

/// How much of a snapshot that a peer offers is here. `accept` sees its vote first.
pub(crate) async fn kept(
    offer: Envelope,
    snapshots: &Arc<Snapshots>,
    exec: &Arc<dyn Exec>,
    accept: impl FnOnce(&Vote) -> Result<(), Status>,
) -> Result<Envelope, Status> {
    let offer: SnapshotStartForm = open(offer).map_err(|error| Status::invalid_argument(error.to_string()))?;
    accept(&checked(&offer)?)?;
    let Ok(digest) = offer.digest.as_ref().try_into() else {
        return Err(Status::invalid_argument("an offer without a digest"));
    };
    let store = Arc::clone(snapshots);
    let octets = compute(&**exec, POOL, move || store.kept(&digest)).await.map_err(disk)?;
    Ok(super::client::envelope(&SnapshotKeptForm { octets }))
}

/// The vote of whoever sends, when the rest is within bounds.
fn checked(start: &SnapshotStartForm) -> Result<Vote, Status> {
    if start.octets > SNAPSHOT_OCTETS_MAX {
        return Err(Status::out_of_range(format!("a snapshot of {} octets", start.octets)));
    }
    start.vote.map(Vote::from).ok_or_else(|| Status::invalid_argument("a snapshot without a vote"))
}

/// Receives a snapshot. `accept` sees the sender's vote before anything is kept. When the sender breaks off, what has
/// arrived stays for the next attempt, if it said what the file is.
pub(crate) async fn receive(
    mut chunks: Streaming<SnapshotChunk>,
    snapshots: &Arc<Snapshots>,
    exec: &Arc<dyn Exec>,
    idle: Duration,
    accept: impl FnOnce(&Vote) -> Result<(), Status>,
) -> Result<Arrived, Status> {
    let first = next(&mut chunks, idle).await?.ok_or_else(|| Status::invalid_argument("an empty snapshot"))?;
    let start = SnapshotStartForm::decode(first.header).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let vote = checked(&start)?;
    accept(&vote)?;
    let (store, from, digest) = (Arc::clone(snapshots), start.from, start.digest.as_ref().try_into().ok());
    let opening = move || match digest {
        Some(digest) => store.go_on(&digest, from),
        None => store.create_temporary(),
    };
    let (path, file) = compute(&**exec, POOL, opening).await.map_err(disk)?;
    match keep(chunks, file.into(), &start, exec, idle).await {
        Ok(()) => Ok(Arrived { vote, file: SnapshotFile { path, octets: start.octets } }),
        Err(Broken::Sender(status)) if digest.is_some() => Err(status),
        Err(Broken::Sender(status) | Broken::Here(status)) => {
            discard(snapshots, exec, path).await;
            Err(status)
        }
    }
}

/// Verifies a snapshot that has arrived, as a whole, and says what it covers; one that is not whole is removed.
pub(crate) async fn verify(
    arrived: SnapshotFile,
    snapshots: &Arc<Snapshots>,
    exec: &Arc<dyn Exec>,
) -> Result<SnapshotOf, Status> {
    let (store, path) = (Arc::clone(snapshots), arrived.path.clone());
    let verifying = move || -> io::Result<SnapshotOf> {
        let meta = store.verify(&arrived)?;
        Ok(openraft::Snapshot { meta, snapshot: store.arrived(arrived)? })
    };
    match compute(&**exec, POOL, verifying).await {
        Ok(snapshot) => Ok(snapshot),
        Err(error) => {
            discard(snapshots, exec, path).await;
            Err(match error.kind() {
                io::ErrorKind::InvalidData => Status::data_loss(error.to_string()),
                _ => disk(error),
            })
        }
    }
}

/// Removes a received file that consensus did not take.
pub(crate) async fn discard(snapshots: &Arc<Snapshots>, exec: &Arc<dyn Exec>, path: PathBuf) {
    let store = Arc::clone(snapshots);
    compute(&**exec, POOL, move || store.discard(&path)).await;
}

fn disk(error: io::Error) -> Status {
    Status::internal(format!("the snapshot cannot be kept: {error}"))
}

async fn next(chunks: &mut Streaming<SnapshotChunk>, idle: Duration) -> Result<Option<SnapshotChunk>, Status> {
    let chunk = timeout(idle, chunks.message()).await.map_err(|_| Status::deadline_exceeded("no chunk in time"))??;
    match chunk {
        Some(chunk) if chunk.version != ENVELOPE_VERSION => {
            Err(Status::invalid_argument(format!("chunk of unknown version {}", chunk.version)))
        }
        chunk => Ok(chunk),
    }
}

/// Why a snapshot did not arrive.
enum Broken {
    /// The sender stopped in the middle.
    Sender(Status),
    /// What it sent cannot be kept.
    Here(Status),
}

async fn keep(
    mut chunks: Streaming<SnapshotChunk>,
    file: Arc<dyn File>,
    start: &SnapshotStartForm,
    exec: &Arc<dyn Exec>,
    idle: Duration,
) -> Result<(), Broken> {
    let mut offset = start.from;
    while let Some(chunk) = next(&mut chunks, idle).await.map_err(Broken::Sender)? {
        let (writing, at) = (Arc::clone(&file), offset);
        offset += chunk.data.len() as u64;
        if offset > start.octets {
            return Err(Broken::Here(Status::invalid_argument("the snapshot is longer than announced")));
        }
        let written = compute(&**exec, POOL, move || writing.write_at(at, &chunk.data)).await;
        written.map_err(disk).map_err(Broken::Here)?;
    }
    if offset != start.octets {
        return Err(Broken::Sender(Status::invalid_argument("the snapshot is shorter than announced")));
    }
    compute(&**exec, POOL, move || file.sync_data()).await.map_err(disk).map_err(Broken::Here)
}

/// A file as chunks, read as they are taken.
pub(crate) fn chunks(file: Box<dyn File>, octets: u64, exec: Arc<dyn Exec>) -> ChunkStream {
    let file: Arc<dyn File> = file.into();
    let chunks = futures_util::stream::try_unfold((file, 0), move |(file, offset)| {
        let exec = Arc::clone(&exec);
        async move {
            let length = (octets - offset).min(SNAPSHOT_CHUNK_OCTETS_MAX as u64) as usize;
            if length == 0 {
                return Ok(None);
            }
            let reading = Arc::clone(&file);
            let data = compute(&*exec, POOL, move || {
                let mut buffer = vec![0; length];
                let read = reading.read_at(offset, &mut buffer)?;
                if read == length { Ok(buffer) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof)) }
            });
            let data = data.await.map_err(disk)?;
            Ok(Some((chunk(Bytes::new(), data.into()), (file, offset + length as u64))))
        }
    });
    Box::pin(chunks)
}

/// Wraps the receiver's vote.
pub(crate) fn end(vote: &Vote) -> Envelope {
    super::client::envelope(&SnapshotEndForm { vote: Some(vote.into()) })
}

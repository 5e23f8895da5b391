//! Snapshots between peers: a file in chunks one way, the receiver's vote the other way.
//!
//! It refuses to hand anything to consensus that has not verified as a whole on this disk.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use certwright_proto::internal::v1::raft_client::RaftClient;
use certwright_proto::internal::v1::{Envelope, SnapshotChunk};
use certwright_seams::Exec;
use certwright_seams::disk::File;
use certwright_seams::exec::compute;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::client::{ENVELOPE_VERSION, open};
use crate::consensus::wire::{SnapshotEndForm, SnapshotStartForm, need};
use crate::consensus::{SnapshotMeta, Types, Vote};
use crate::limits::{SNAPSHOT_CHUNK_OCTETS_MAX, SNAPSHOT_OCTETS_MAX};
use crate::snapshot::{SnapshotFile, Snapshots};

/// The pool on which snapshot files are read and written.
const POOL: &str = "snapshot";
/// Chunks read ahead of the network.
const CHUNKS_AHEAD: usize = 2;

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
    exec: &Arc<dyn Exec>,
    vote: Vote,
    snapshot: openraft::alias::SnapshotOf<Types, SnapshotFile>,
    deadline: Duration,
) -> Result<Vote, SendError> {
    let (store, file) = (Arc::clone(snapshots), snapshot.snapshot.clone());
    let handle = compute(&**exec, POOL, move || store.open_file(&file)).await.map_err(SendError::Io)?;
    let start = SnapshotStartForm {
        vote: Some((&vote).into()),
        meta: Some((&snapshot.meta).into()),
        octets: snapshot.snapshot.octets,
    };
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    let header = chunk(start.encode_to_vec().into(), Bytes::new());
    let feeding = feed(sender, header, handle, snapshot.snapshot.octets, Arc::clone(exec), deadline);
    let (fed, answer) = tokio::join!(feeding, client.install_snapshot(ReceiverStream::new(receiver)));
    match (fed, answer) {
        (_, Ok(answer)) => {
            let end: SnapshotEndForm = open(answer.into_inner()).map_err(SendError::Io)?;
            need(end.vote).map(Vote::from).map_err(SendError::Io)
        }
        (Err(error), Err(_)) => Err(error),
        (Ok(()), Err(status)) => Err(SendError::Status(status)),
    }
}

/// Reads the file and offers its chunks. Ends early without an error when nobody takes them any more.
async fn feed(
    sender: mpsc::Sender<SnapshotChunk>,
    header: SnapshotChunk,
    file: Box<dyn File>,
    octets: u64,
    exec: Arc<dyn Exec>,
    deadline: Duration,
) -> Result<(), SendError> {
    let offer = async |chunk| match timeout(deadline, sender.send(chunk)).await {
        Ok(sent) => Ok(sent.is_ok()),
        Err(_) => Err(SendError::TimedOut),
    };
    if !offer(header).await? {
        return Ok(());
    }
    let file: Arc<dyn File> = file.into();
    let mut offset = 0;
    while offset < octets {
        let length = (octets - offset).min(SNAPSHOT_CHUNK_OCTETS_MAX as u64) as usize;
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

/// A snapshot that arrived whole and verified.
pub(crate) struct Received {
    pub(crate) vote: Vote,
    pub(crate) meta: SnapshotMeta,
    pub(crate) file: SnapshotFile,
}

/// Receives a snapshot into a temporary file and verifies it. `accept` sees the sender's vote before anything is kept.
pub(crate) async fn receive(
    mut chunks: Streaming<SnapshotChunk>,
    snapshots: &Arc<Snapshots>,
    exec: &Arc<dyn Exec>,
    idle: Duration,
    accept: impl FnOnce(&Vote) -> Result<(), Status>,
) -> Result<Received, Status> {
    let first = next(&mut chunks, idle).await?.ok_or_else(|| Status::invalid_argument("an empty snapshot"))?;
    let start = SnapshotStartForm::decode(first.header).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let vote = start.vote.map(Vote::from).ok_or_else(|| Status::invalid_argument("a snapshot without a vote"))?;
    accept(&vote)?;
    if start.octets > SNAPSHOT_OCTETS_MAX {
        return Err(Status::out_of_range(format!("a snapshot of {} octets", start.octets)));
    }
    let store = Arc::clone(snapshots);
    let (path, file) = compute(&**exec, POOL, move || store.create_temporary()).await.map_err(disk)?;
    let kept = keep(chunks, file.into(), start.octets, exec, idle).await;
    let verified = match kept {
        Ok(()) => verify(snapshots, exec, path.clone(), start.octets).await,
        Err(status) => Err(status),
    };
    match verified {
        Ok((meta, file)) => Ok(Received { vote, meta, file }),
        Err(status) => {
            discard(snapshots, exec, path).await;
            Err(status)
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

async fn keep(
    mut chunks: Streaming<SnapshotChunk>,
    file: Arc<dyn File>,
    octets: u64,
    exec: &Arc<dyn Exec>,
    idle: Duration,
) -> Result<(), Status> {
    let mut offset = 0;
    while let Some(chunk) = next(&mut chunks, idle).await? {
        let (writing, at) = (Arc::clone(&file), offset);
        offset += chunk.data.len() as u64;
        if offset > octets {
            return Err(Status::invalid_argument("the snapshot is longer than announced"));
        }
        compute(&**exec, POOL, move || writing.write_at(at, &chunk.data)).await.map_err(disk)?;
    }
    if offset != octets {
        return Err(Status::invalid_argument("the snapshot is shorter than announced"));
    }
    compute(&**exec, POOL, move || file.sync_data()).await.map_err(disk)
}

async fn verify(
    snapshots: &Arc<Snapshots>,
    exec: &Arc<dyn Exec>,
    path: PathBuf,
    octets: u64,
) -> Result<(SnapshotMeta, SnapshotFile), Status> {
    let store = Arc::clone(snapshots);
    let file = SnapshotFile { path, octets };
    compute(&**exec, POOL, move || store.verify(&file).map(|meta| (meta, file)))
        .await
        .map_err(|error| Status::data_loss(error.to_string()))
}

/// Wraps the receiver's vote.
pub(crate) fn end(vote: &Vote) -> Envelope {
    super::client::envelope(&SnapshotEndForm { vote: Some(vote.into()) })
}

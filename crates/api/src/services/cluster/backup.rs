//! The RPC that streams a backup.
//!
//! It refuses two at once: each reads the whole log.

use std::sync::Arc;

use certwright_core::ids::Actor;
use certwright_core::{Reason, Rejection};
use certwright_custody::backup::Recipient;
use certwright_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::backup::write::{Pieces, Writer};
use crate::doors::Doors;
use crate::refuse;

/// Pieces, of about a mebioctet each, that wait for a slow reader.
const PIECES_MAX: usize = 2;

/// What the RPC answers.
pub(super) type Chunks = ReceiverStream<Result<v1::BackupChunk, Status>>;

/// Begins a backup and writes it into the stream.
pub(super) async fn stream(doors: &Arc<Doors>, actor: &Actor, asked: v1::BackupRequest) -> Result<Chunks, Rejection> {
    doors.open()?;
    doors.in_touch()?;
    let recipient = Recipient::from_octets(&asked.recipient)
        .map_err(|error| Rejection::field(Reason::InvalidSpec, "recipient", error.to_string()))?;
    let permit = doors.backups.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Rejection::new(Reason::Overloaded, "this server is writing a backup already"))?;
    // Whoever holds that key has every CA then.
    tracing::warn!(%actor, %recipient, "a backup is asked for");
    let mut pieces = Writer::of(doors).begin(&recipient).await?;
    let (out, outgoing) = mpsc::channel(PIECES_MAX);
    let doors = doors.clone();
    tokio::spawn(async move {
        let _permit = permit;
        tokio::select! {
            biased;
            () = doors.draining.cancelled() => {
                let _ = out.send(Err(refuse::status(Rejection::new(Reason::NotReady, "this server is stopping")))).await;
            }
            () = send(&mut pieces, &out) => {}
        }
    });
    Ok(ReceiverStream::new(outgoing))
}

async fn send(pieces: &mut Pieces, out: &mpsc::Sender<Result<v1::BackupChunk, Status>>) {
    loop {
        let chunk = match pieces.next().await {
            Ok(Some(data)) => Ok(v1::BackupChunk { data: data.into() }),
            Ok(None) => return,
            Err(rejection) => Err(refuse::status(rejection)),
        };
        let failed = chunk.is_err();
        // The caller may be gone; nobody is left to be told then.
        if out.send(chunk).await.is_err() || failed {
            return;
        }
    }
}

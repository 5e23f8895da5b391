//! The state machine that openraft drives: entries in, snapshots in and out.
//!
//! It refuses to go on after bytes that it cannot decode: an unknown event stops the node.

use std::io;
use std::sync::Arc;

use certwright_core::log::Fold;
use certwright_proto::storage::DecodedEntry;
use certwright_seams::exec::compute;
use futures_util::future::{BoxFuture, maybe_done};
use futures_util::{FutureExt, Stream, StreamExt, poll};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{RaftSnapshotBuilder, Snapshot};

use super::replica::ReplicaCut;
use super::shared::Shared;
use crate::consensus::{LogId, SnapshotMeta, StoredMembership, Types};
use crate::snapshot::{SnapshotFile, Snapshots};
use crate::wal::is_lack_of_space;

/// Entries applied between two publications.
const BATCH_ENTRIES: usize = 64;
/// The pool on which snapshots are encoded and decoded.
const POOL: &str = "snapshot";
/// The pool on which a batch that waits is decoded while the one before it is applied: at a start the log behind the snapshot is
/// one long row of them.
const DECODE_POOL: &str = "decode";

/// Entries as they come.
type Batch = Vec<io::Result<EntryResponder<Types>>>;
/// Entries that were decoded, with who waits for them.
type Decoded<F> = Vec<(EntryResponder<Types>, Option<DecodedEntry<<F as Fold>::Event>>)>;
type SnapshotOf = openraft::alias::SnapshotOf<Types, SnapshotFile>;

/// The state machine.
pub(crate) struct Machine<F: Fold> {
    pub(crate) shared: Arc<Shared<F>>,
    pub(crate) snapshots: Arc<Snapshots>,
}

/// Encodes one cut.
pub(crate) struct Builder<F: Fold> {
    shared: Arc<Shared<F>>,
    snapshots: Arc<Snapshots>,
    cut: Option<(SnapshotMeta, ReplicaCut<F::Cut>)>,
}

impl<F: Fold> RaftSnapshotBuilder<Types> for Builder<F> {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf> {
        let Some((meta, cut)) = self.cut.take() else {
            return Err(io::Error::other("a cut is encoded once"));
        };
        let (shared, snapshots) = (Arc::clone(&self.shared), Arc::clone(&self.snapshots));
        let written = compute(&*self.shared.seams.exec, POOL, move || match snapshots.write(&*shared.codec, &cut) {
            Err(error) if is_lack_of_space(&error) => {
                tracing::error!(%error, "no room for a snapshot: it is tried again; free disk space");
                Ok(None)
            }
            written => written.map(Some),
        });
        match written.await? {
            Some(snapshot) => {
                self.shared.cuts.end(Some(meta.last_log_id.as_ref().map_or(0, LogId::index)));
                Ok(Snapshot { meta, snapshot })
            }
            // Consensus would take an error for the end of this node. One that covers nothing changes nothing: the log
            // stays as long as it is.
            None => {
                self.shared.metrics.snapshots_without_room.inc();
                self.shared.cuts.end(None);
                Ok(Snapshot { meta: SnapshotMeta::default(), snapshot: SnapshotFile::none() })
            }
        }
    }
}

impl<F: Fold> RaftStateMachine<Types> for Machine<F> {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder<F>;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let replica = self.shared.replica();
        Ok((replica.applied, replica.membership.clone()))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + Send,
    {
        let mut batches = entries.ready_chunks(BATCH_ENTRIES);
        let mut ahead = None;
        loop {
            let batch = match ahead.take() {
                Some(decoded) => decoded.await,
                None => match batches.next().await {
                    Some(batch) => decode(&self.shared, batch),
                    None => return Ok(()),
                },
            }?;
            if let Some(Some(next)) = batches.next().now_or_never() {
                ahead = Some(self.decode_ahead(next).await);
            }
            let mut settled = Vec::with_capacity(batch.len());
            let mut responders = Vec::new();
            for ((entry, responder), decoded) in batch {
                settled.push(self.shared.apply(&entry, decoded));
                responders.extend(responder);
            }
            self.shared.settle(&settled);
            responders.into_iter().for_each(|responder| responder.send(()));
        }
    }

    async fn get_snapshot_builder(&mut self) -> Builder<F> {
        let cut = self.shared.cut();
        let meta = SnapshotMeta { last_log_id: cut.applied, last_membership: cut.membership.clone() };
        Builder { shared: Arc::clone(&self.shared), snapshots: Arc::clone(&self.snapshots), cut: Some((meta, cut)) }
    }

    async fn install_snapshot(&mut self, _meta: &SnapshotMeta, snapshot: SnapshotFile) -> io::Result<()> {
        let (shared, snapshots) = (Arc::clone(&self.shared), Arc::clone(&self.snapshots));
        let replica =
            compute(&*self.shared.seams.exec, POOL, move || snapshots.install(&*shared.codec, &snapshot)).await?;
        tracing::info!(index = replica.index(), "a snapshot was installed");
        let old = self.shared.replace(replica);
        compute(&*self.shared.seams.exec, POOL, move || drop(old)).await;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf>> {
        let snapshots = Arc::clone(&self.snapshots);
        let newest = compute(&*self.shared.seams.exec, POOL, move || snapshots.newest()).await?;
        Ok(newest.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

impl<F: Fold> Machine<F> {
    /// Begins to decode a batch elsewhere; answers what waits for the end of that.
    async fn decode_ahead(&self, batch: Batch) -> BoxFuture<'static, io::Result<Decoded<F>>> {
        let shared = Arc::clone(&self.shared);
        let exec = Arc::clone(&shared.seams.exec);
        let work = async move { compute(&*exec, DECODE_POOL, move || decode(&shared, batch)).await };
        let mut decoding = Box::pin(maybe_done(work));
        // Work is queued when it is asked for first.
        let _ = poll!(decoding.as_mut());
        Box::pin(async move {
            decoding.as_mut().await;
            decoding.as_mut().take_output().expect("it has just ended, and nobody else takes it")
        })
    }
}

/// A batch of entries with what they hold.
fn decode<F: Fold>(shared: &Shared<F>, batch: Batch) -> io::Result<Decoded<F>> {
    let decode = |item: io::Result<EntryResponder<Types>>| {
        let (entry, responder) = item?;
        let decoded = shared.decode(&entry).map_err(|error| {
            tracing::error!(%error, index = entry.log_id.index(), "an entry cannot be applied");
            io::Error::new(io::ErrorKind::InvalidData, error)
        })?;
        Ok(((entry, responder), decoded))
    };
    batch.into_iter().map(decode).collect()
}

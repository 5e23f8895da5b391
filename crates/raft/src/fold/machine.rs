//! The state machine that openraft drives: entries in, snapshots in and out.
//!
//! It refuses to go on after bytes that it cannot decode: an unknown event stops the node.

use std::io;
use std::sync::Arc;

use certwright_core::log::Fold;
use certwright_seams::exec::compute;
use futures_util::{Stream, StreamExt};
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
        while let Some(batch) = batches.next().await {
            let mut settled = Vec::with_capacity(batch.len());
            let mut responders = Vec::new();
            for item in batch {
                let (entry, responder) = item?;
                let decoded = self.shared.decode(&entry).map_err(|error| {
                    tracing::error!(%error, index = entry.log_id.index(), "an entry cannot be applied");
                    io::Error::new(io::ErrorKind::InvalidData, error)
                })?;
                settled.push(self.shared.apply(&entry, decoded));
                responders.extend(responder);
            }
            self.shared.settle(&settled);
            responders.into_iter().for_each(|responder| responder.send(()));
        }
        Ok(())
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

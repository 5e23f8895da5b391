//! Fills the gaps that snapshots left in this node's archive: one portion after another from any member that has it.
//!
//! It refuses what does not chain from one end of a gap to the other, and asks somebody else.

use std::sync::Arc;
use std::time::Duration;

use certwright_core::log::Fold;
use certwright_proto::internal::v1::{BackfillFrame, BackfillRequest};
use certwright_seams::exec::compute;
use prost::Message;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::consensus::wire::EntryForm;
use crate::fold::shared::Shared;
use crate::limits::{BACKFILL_PAUSE, BACKFILL_PORTION_OCTETS_MAX, BACKFILL_TIMEOUT, FRAME_OCTETS_MAX};
use crate::peer::channels::{Channels, Lane};
use crate::peer::client::raft_client;
use crate::wal::Record;
use crate::wal::gaps::{Gap, Gaps, Judged, Progress};

/// The pool on which segments are written.
const POOL: &str = "backfill";
/// First and longest wait after an attempt that failed.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// Room that is left to the log itself, in portions.
const ROOM_PORTIONS: u64 = 16;

/// Why a gap is not filled yet.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    #[error("nobody else is a member")]
    Alone,
    #[error("node {0} is not reachable")]
    Unreachable(u64),
    #[error("node {0}: {1}")]
    Refused(u64, String),
    #[error("what members sent does not chain to the end of the gap: it was thrown away")]
    DoesNotChain,
    #[error("history was let go up to somewhere within it: what is above that is fetched on its own")]
    Divided,
    #[error("too little room on the disk")]
    NoRoom,
    #[error("{0}")]
    Disk(#[from] std::io::Error),
}

/// The task.
pub(crate) struct Backfill<F: Fold> {
    pub(crate) me: u64,
    pub(crate) shared: Arc<Shared<F>>,
    pub(crate) channels: Arc<Channels>,
    pub(crate) gaps: Arc<Gaps>,
}

impl<F: Fold> Backfill<F> {
    /// Runs until cancelled.
    pub(crate) async fn run(self, cancel: CancellationToken) {
        tokio::select! {
            biased;
            () = cancel.cancelled() => {}
            () = self.fill_all() => {}
        }
    }

    async fn fill_all(&self) {
        let mut changes = self.gaps.changes();
        let (mut attempt, mut wait) = (0, RETRY.0);
        loop {
            changes.borrow_and_update();
            let Some(gap) = self.gaps.unfilled(attempt) else {
                if changes.changed().await.is_err() {
                    return;
                }
                continue;
            };
            match self.fill(&gap, attempt).await {
                Ok(()) => {
                    tracing::info!(from = gap.from, to = gap.to, "a gap in the archive is filled");
                    wait = RETRY.0;
                }
                Err(obstacle) => {
                    tracing::warn!(from = gap.from, to = gap.to, "a gap in the archive is not filled yet: {obstacle}");
                    // Somebody else begins the next attempt.
                    attempt += 1;
                    sleep(wait).await;
                    wait = (wait * 2).min(RETRY.1);
                }
            }
        }
    }

    /// One attempt: goes on where the last one ended; `attempt` says whom to ask first.
    async fn fill(&self, gap: &Gap, attempt: usize) -> Result<(), Obstacle> {
        let members: Vec<u64> = self.shared.replica().membership.nodes().map(|(&id, _)| id).collect();
        let peers: Vec<u64> = members.into_iter().filter(|id| *id != self.me).collect();
        let (mut turn, mut refusals) = (attempt, 0);
        let mut at = self.on_disk(gap, |gaps, gap| gaps.progress(gap)).await?;
        while at.next_index < gap.to {
            if self.gaps.available()? < ROOM_PORTIONS * BACKFILL_PORTION_OCTETS_MAX as u64 {
                return Err(Obstacle::NoRoom);
            }
            let Some(peer) = peers.get(turn % peers.len().max(1)) else { return Err(Obstacle::Alone) };
            match self.fetch(*peer, gap, at).await {
                Ok(records) => {
                    at = self.on_disk(gap, move |gaps, _| gaps.add(at, &records)).await?;
                    refusals = 0;
                    sleep(BACKFILL_PAUSE).await;
                }
                Err(obstacle) => {
                    (turn, refusals) = (turn + 1, refusals + 1);
                    if refusals >= peers.len() {
                        return Err(obstacle);
                    }
                    tracing::debug!("asking another member: {obstacle}");
                }
            }
        }
        match self.on_disk(gap, move |gaps, gap| gaps.finish(gap, at)).await? {
            Judged::Filled => Ok(()),
            Judged::Divided => Err(Obstacle::Divided),
            Judged::DoesNotChain => {
                self.shared.metrics.backfills_discarded.inc();
                Err(Obstacle::DoesNotChain)
            }
        }
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        gap: &Gap,
        work: impl FnOnce(&Gaps, &Gap) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, Obstacle> {
        let (gaps, gap) = (Arc::clone(&self.gaps), gap.clone());
        Ok(compute(&*self.shared.seams.exec, POOL, move || work(&gaps, &gap)).await?)
    }

    /// The next entries, as one member has them.
    async fn fetch(&self, peer: u64, gap: &Gap, at: Progress) -> Result<Vec<Record>, Obstacle> {
        let channel = self.channels.get(peer, Lane::Snapshot).ok_or(Obstacle::Unreachable(peer))?;
        let refused = |status: tonic::Status| Obstacle::Refused(peer, status.message().to_owned());
        let late = |_| Obstacle::Refused(peer, "no answer in time".to_owned());
        let request = BackfillRequest { from_index: at.next_index, to_index: gap.to };
        let mut client = raft_client(channel);
        let opening = timeout(BACKFILL_TIMEOUT, client.backfill(request)).await;
        let mut frames = opening.map_err(late)?.map_err(refused)?.into_inner();
        let (mut records, mut octets) = (Vec::new(), 0);
        while octets < BACKFILL_PORTION_OCTETS_MAX {
            let frame = timeout(BACKFILL_TIMEOUT, frames.message()).await.map_err(late)?.map_err(refused)?;
            let Some(frame) = frame else { break };
            let expected = at.next_index + records.len() as u64;
            let record = open(frame, expected).map_err(|what| Obstacle::Refused(peer, what))?;
            octets += record.payload.len();
            records.push(record);
            if expected + 1 >= gap.to {
                break;
            }
        }
        match records.is_empty() {
            true => Err(Obstacle::Refused(peer, format!("it has no entry {}", at.next_index))),
            false => Ok(records),
        }
    }
}

/// The entry in a frame, if it is the one that comes next.
pub(crate) fn open(frame: BackfillFrame, expected: u64) -> Result<Record, String> {
    let form = EntryForm::decode(frame.frame).map_err(|error| format!("a frame cannot be decoded: {error}"))?;
    let kind = u8::try_from(form.kind).map_err(|_| format!("entry {} is of an unknown kind", form.index))?;
    if form.index != expected {
        return Err(format!("entry {} came instead of {expected}", form.index));
    }
    if form.payload.len() > FRAME_OCTETS_MAX {
        return Err(format!("entry {} has {} octets", form.index, form.payload.len()));
    }
    Ok(Record { index: form.index, term: form.term, node: 0, kind, payload: form.payload })
}

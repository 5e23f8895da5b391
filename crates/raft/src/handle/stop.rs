//! Ending: leadership is handed over, then everything that runs is told to stop.
//!
//! It refuses to wait for ever for a peer that does not take over.

use std::time::Duration;

use certwright_core::log::Fold;
use openraft::Instant;
use openraft::async_runtime::WatchReceiver;
use tokio::time::timeout;

use super::Log;
use crate::error::ProposeError;
use crate::limits::HAND_OVER_ATTEMPT;

/// A voter that was silent for so long, while another one answered, is asked to lead only after that other one.
const SILENCE_MAX: Duration = Duration::from_secs(1);

impl<F: Fold> Log<F> {
    /// Hands leadership over and stops. Later calls answer `Stopped`.
    pub async fn shutdown(&self) {
        self.hand_over(|_| true).await;
        self.inner.cancel.cancel();
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::error!(%error, "consensus did not end in order");
        }
        self.inner.shared.waiters().answer_all(&ProposeError::Stopped);
        self.inner.stopped.cancel();
        self.inner.store.wal().close().await;
    }

    /// Ends at once, as a crash would, but for tests that open the same directory again.
    #[cfg(test)]
    pub(crate) async fn abandon(&self) {
        self.inner.cancel.cancel();
        let _ = self.inner.raft.shutdown().await;
        self.inner.stopped.cancel();
        self.inner.store.wal().close().await;
    }

    /// Index of the first entry that Raft still sees.
    #[cfg(test)]
    pub(crate) fn first_live_index(&self) -> u64 {
        self.inner.store.wal().first_index()
    }

    /// Says that a cut is due, as every applied entry does from when one is until it is made.
    #[cfg(test)]
    pub(crate) fn tell_cut_due(&self) {
        self.inner.shared.cuts.due.notify_one();
    }

    /// Whether a cut is due that has not been begun.
    #[cfg(test)]
    pub(crate) fn cut_is_due(&self) -> bool {
        self.inner.shared.cuts.is_due()
    }

    /// Asks a peer for a vote that it would never give; tells how the connection fares.
    #[cfg(test)]
    pub(crate) async fn ask(&self, node_id: u64) -> Result<(), tonic::Status> {
        use crate::consensus::wire::VoteRequestForm;
        use crate::peer::channels::Lane;
        let Some(channel) = self.inner.channels.get(node_id, Lane::Vote) else { return Ok(()) };
        let vote = crate::consensus::record::VoteForm { term: 0, node_id: self.inner.node_id, committed: false };
        let form = VoteRequestForm { vote: Some(vote), last: None, leadership_transfer: false, dead_leader: None };
        let mut client = crate::peer::client::raft_client(channel);
        client.pre_vote(crate::peer::client::envelope(&form)).await.map(drop)
    }

    /// The consensus client of a connection to a peer, without the bounds that our own keeps.
    #[cfg(test)]
    pub(crate) fn unbounded_client(
        &self,
        node_id: u64,
    ) -> certwright_proto::internal::v1::raft_client::RaftClient<tonic::transport::Channel> {
        let channel = self.inner.channels.get(node_id, crate::peer::channels::Lane::Vote).expect("pinned");
        certwright_proto::internal::v1::raft_client::RaftClient::new(channel)
    }

    /// Whether this node has proof that the leader it follows is dead.
    #[cfg(test)]
    pub(crate) fn knows_dead(&self) -> bool {
        let vote = self.inner.raft.server_metrics().borrow_watched().vote;
        self.inner.witness.deaths.is_buried(&vote)
    }

    /// What reads entries back.
    #[cfg(test)]
    pub(crate) fn entries(&self) -> std::sync::Arc<crate::handle::entries::Entries<F>> {
        std::sync::Arc::clone(&self.inner.entries)
    }

    /// The log store.
    #[cfg(test)]
    pub(crate) fn store(&self) -> crate::consensus::store::LogStore {
        self.inner.store.clone()
    }

    /// Ends when consensus or the log has stopped, for whatever reason: the process should end too.
    pub async fn stopped(&self) {
        self.inner.stopped.cancelled().await;
    }

    /// Waits until this node has applied everything that was committed before it restarted, as far as its log tells.
    pub async fn recovered(&self, limit: Duration) -> bool {
        self.inner.raft.wait_for_recovery(Some(limit)).await.is_ok()
    }

    /// Hands leadership over, if it is this node's: to the voter whose log is longest of those that `suits` lets, to the
    /// next one when that one does not take it. Ends when somebody else leads or nobody is left to ask; this node serves
    /// on and points to whoever leads.
    pub async fn hand_over(&self, suits: impl Fn(u64) -> bool) {
        let mut leadership = self.leadership();
        if !leadership.borrow_and_update().is_self {
            return;
        }
        for to in self.successors().into_iter().filter(|id| suits(*id)) {
            tracing::info!(to, "handing leadership over");
            if self.inner.raft.trigger().transfer_leader(to).await.is_err() {
                return;
            }
            let taken = leadership.wait_for(|leadership| !leadership.is_self && leadership.leader.is_some());
            if timeout(HAND_OVER_ATTEMPT, taken).await.is_ok() {
                return;
            }
            tracing::warn!(to, "it did not take over in time");
        }
    }

    /// The other voters, those first who answered a heartbeat lately and have most of the log.
    pub(super) fn successors(&self) -> Vec<u64> {
        let metrics = self.inner.raft.metrics().borrow_watched().clone();
        let Some(replication) = metrics.replication else { return Vec::new() };
        let heard = metrics.heartbeat.unwrap_or_default();
        let newest = heard.values().flatten().max().map(|at| **at);
        let answers = |id: &u64| {
            let at = heard.get(id).copied().flatten();
            at.zip(newest).is_some_and(|(at, newest)| newest.saturating_duration_since(*at) < SILENCE_MAX)
        };
        let mut voters: Vec<u64> =
            metrics.membership_config.voter_ids().filter(|id| *id != self.inner.node_id).collect();
        voters.sort_by_key(|id| std::cmp::Reverse((answers(id), replication.get(id).cloned().flatten())));
        voters
    }
}

//! Following who leads: one task that turns openraft's metrics into leadership, pins and gauges.
//!
//! It refuses to call a leader ready before this node applied the first entry of its own term.

use std::sync::Arc;

use certwright_core::log::Fold;
use openraft::async_runtime::WatchReceiver;
use openraft::{Raft, ServerState};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::consensus::{StoredMembership, Types};
use crate::error::ProposeError;
use crate::fold::machine::Machine;
use crate::fold::shared::Shared;
use crate::member::{Leadership, Member, Members, Role};
use crate::wal::Wal;

type ServerMetrics = openraft::metrics::RaftServerMetrics<Types>;

/// The role that openraft's state stands for.
pub(crate) fn role(state: ServerState) -> Role {
    match state {
        ServerState::Learner => Role::Learner,
        ServerState::Follower => Role::Follower,
        ServerState::Candidate => Role::Candidate,
        ServerState::Leader => Role::Leader,
        ServerState::Shutdown => Role::Stopped,
    }
}

/// The members of a membership, by id.
pub(crate) fn members(stored: &StoredMembership) -> Members {
    let voter_ids: Vec<u64> = stored.voter_ids().collect();
    let (voters, learners) = stored
        .nodes()
        .map(|(&id, peer)| peer.member(id))
        .partition(|member: &Member| voter_ids.contains(&member.node_id));
    Members { voters, learners, is_joint: stored.get_joint_config().len() > 1 }
}

/// Follows until cancelled or until consensus ends.
pub(crate) struct Follower<F: Fold> {
    pub(crate) me: u64,
    pub(crate) raft: Raft<Types, Machine<F>>,
    pub(crate) shared: Arc<Shared<F>>,
    pub(crate) leadership: watch::Sender<Leadership>,
    pub(crate) stopped: CancellationToken,
    pub(crate) wal: Wal,
}

impl<F: Fold> Follower<F> {
    /// Takes over what the metrics say now.
    pub(crate) fn observe(&self) {
        let server = self.raft.server_metrics().borrow_watched().clone();
        let applied_term = *self.shared.applied_term().borrow();
        let next = self.derive(&server, applied_term);
        self.pin(&server);
        self.shared.metrics.role.set(role(server.state) as i64);
        self.shared.metrics.term.set(i64::try_from(next.term).unwrap_or(i64::MAX));
        if next.is_self && !self.leadership.borrow().is_self {
            self.shared.clocks.go_on_from_log();
        }
        self.leadership.send_if_modified(|current| {
            if current.leader != next.leader && next.leader.is_some() && current.term != 0 {
                self.shared.metrics.leader_changes.inc();
            }
            let changed = *current != next;
            if changed {
                tracing::info!(
                    term = next.term,
                    leader = next.leader,
                    is_self = next.is_self,
                    ready = next.ready,
                    "leadership"
                );
                *current = next;
            }
            changed
        });
    }

    fn derive(&self, server: &ServerMetrics, applied_term: u64) -> Leadership {
        let term = server.vote.leader_id().term;
        let is_self = server.state == ServerState::Leader && server.current_leader == Some(self.me);
        Leadership { term, leader: server.current_leader, is_self, ready: is_self && applied_term == term }
    }

    fn pin(&self, server: &ServerMetrics) {
        self.shared.clocks.elect(server.membership_config.voter_ids().collect());
        // While membership changes, those of both configurations speak.
        let committed = server.committed_membership_config.nodes();
        let all = committed.chain(server.membership_config.nodes()).map(|(&id, peer)| peer.member(id));
        let is_member = self.shared.is_member(self.me);
        self.shared.pins.replace(all.collect::<Vec<_>>(), is_member);
    }

    /// The task.
    pub(crate) async fn run(self, cancel: CancellationToken) {
        let mut server = self.raft.server_metrics();
        let mut applied_term = self.shared.applied_term();
        let mut memberships = self.shared.memberships();
        let mut broken = self.wal.fatal();
        loop {
            self.observe();
            let goes_on = tokio::select! {
                biased;
                () = cancel.cancelled() => false,
                // An idle node would not notice: it appends nothing.
                failed = broken.wait_for(Option::is_some) => {
                    let reason = failed.ok().and_then(|reason| reason.clone());
                    tracing::error!(reason = reason.as_deref(), "the log failed: this node stops");
                    false
                }
                changed = server.changed() => changed.is_ok(),
                changed = applied_term.changed() => changed.is_ok(),
                changed = memberships.changed() => changed.is_ok(),
            };
            if !goes_on || server.borrow_watched().state == ServerState::Shutdown {
                break;
            }
        }
        self.leadership.send_replace(Leadership::default());
        self.shared.metrics.role.set(Role::Stopped as i64);
        self.shared.waiters().answer_all(&ProposeError::Stopped);
        self.stopped.cancel();
    }
}

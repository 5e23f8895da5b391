//! When the leader's process dies: survivors who have each seen it for themselves agree on who leads next, at once.
//!
//! It refuses silence as proof: what counts is that every connection of the leader ended and that its port is closed. Whoever
//! is merely out of reach keeps its lease, and elections take their usual time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use certwright_core::log::Fold;
use certwright_core::mutant::{self, Mutant};
use futures_util::future::join_all;
use openraft::Raft;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::TransferLeaderRequest;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::consensus::record::{LogIdForm, VoteForm};
use crate::consensus::wire::{DeathForm, TestimonyForm};
use crate::consensus::{Types, Vote, log_id};
use crate::fold::machine::Machine;
use crate::limits::{LINKS_END, TESTIMONIES_MAX, TESTIMONY_PAUSE, TESTIMONY_TIMEOUT};
use crate::peer::channels::{Channels, Lane};
use crate::peer::client::{envelope, open, raft_client};
use crate::peer::deaths::Deaths;
use crate::wal::Wal;

/// How far a log is, in the order in which votes are given.
type Last = Option<(u64, u64)>;

/// What one survivor says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Testimony {
    /// The leader is dead as it sees it; its own log ends there.
    Dead(Last),
    /// It has no proof of that.
    Alive,
}

/// What follows from all that was said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// Too few agree, or somebody does not.
    Doubt,
    /// This node is to lead.
    Mine,
    /// Another one is, and finds out for itself.
    Anothers,
}

/// Who leads after a dead leader, as node `me` sees it: every set of voters has a majority of those who have proof, nobody who
/// answered objects, and of those who have proof the one whose log is longest leads, of equal ones the lowest id.
fn verdict(me: u64, voters: &[BTreeSet<u64>], said: &BTreeMap<u64, Testimony>) -> Verdict {
    let agrees = |id: &&u64| matches!(said.get(id), Some(Testimony::Dead(_)));
    let quorum = voters.iter().all(|set| 2 * set.iter().filter(agrees).count() > set.len())
        || mutant::is(Mutant::DeathByMinority);
    let votes = |id: &u64| voters.iter().any(|set| set.contains(id)) || mutant::is(Mutant::LearnerFollows);
    let objection =
        said.values().any(|testimony| *testimony == Testimony::Alive) && !mutant::is(Mutant::DeathDespiteObjection);
    if objection || !quorum || voters.is_empty() {
        return Verdict::Doubt;
    }
    let candidates = said.iter().filter(|(id, _)| votes(id)).filter_map(|(id, testimony)| match testimony {
        Testimony::Dead(last) => Some((*last, std::cmp::Reverse(*id))),
        Testimony::Alive => None,
    });
    let first = if mutant::is(Mutant::ShortestLogFollows) { candidates.min() } else { candidates.max() };
    match first {
        Some((_, std::cmp::Reverse(id))) if id == me => Verdict::Mine,
        _ => Verdict::Anothers,
    }
}

/// Watches the leader's process, and testifies to others.
pub(crate) struct Witness<F: Fold> {
    pub(crate) me: u64,
    pub(crate) raft: Raft<Types, Machine<F>>,
    pub(crate) wal: Wal,
    pub(crate) channels: Arc<Channels>,
    pub(crate) deaths: Arc<Deaths>,
}

impl<F: Fold> Witness<F> {
    /// The task: whenever the last connection of the leader ends, or another node has seen it die.
    pub(crate) async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let mut links = self.deaths.links();
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                changed = links.changed() => if changed.is_err() { return },
                () = self.deaths.suspected.notified() => {}
            }
            links.mark_unchanged();
            let Some(leader) = self.followed() else { continue };
            if self.deaths.is_linked(leader.leader_id().voted_for) {
                continue;
            }
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                () = self.succeed(leader) => {}
            }
        }
    }

    /// The vote of the leader that this node follows.
    fn followed(&self) -> Option<Vote> {
        let vote = self.raft.server_metrics().borrow_watched().vote;
        (vote.is_committed() && vote.leader_id().voted_for != self.me).then_some(vote)
    }

    /// Whether the leader of that vote is dead as this node itself sees it. It follows that leader, or has not heard of it
    /// yet, as after a restart: whoever has moved on has no say.
    async fn proves(&self, leader: &Vote) -> bool {
        let vote = self.raft.server_metrics().borrow_watched().vote;
        if vote != *leader && vote.leader_id().term >= leader.leader_id().term {
            return false;
        }
        let node_id = leader.leader_id().voted_for;
        // It was cut off from here, not dead, if it is back in the same term: what was proved then proves nothing now.
        if self.deaths.is_buried(leader) {
            return !self.deaths.is_linked(node_id);
        }
        let dead = self.deaths.ends(node_id, LINKS_END).await && self.channels.is_refused(node_id).await;
        if dead {
            tracing::info!(leader = node_id, "the leader's process has died");
            self.deaths.bury(*leader);
        }
        dead
    }

    /// Answers another survivor, and acts for itself when it is right.
    pub(crate) async fn testify(&self, leader: Vote) -> TestimonyForm {
        let known = self.deaths.is_buried(&leader);
        let dead = self.proves(&leader).await;
        if dead && !known {
            self.deaths.suspected.notify_one();
        }
        let last = self.last().map(|(term, index)| LogIdForm { term, index });
        TestimonyForm { dead, last }
    }

    fn last(&self) -> Last {
        self.wal.last_mark().map(|mark| (mark.term, mark.index))
    }

    /// Sees to it that somebody follows a leader that died.
    async fn succeed(&self, leader: Vote) {
        for _ in 0..TESTIMONIES_MAX {
            if !self.proves(&leader).await {
                return;
            }
            let membership = self.raft.server_metrics().borrow_watched().membership_config.clone();
            let voters = membership.get_joint_config().clone();
            if !voters.iter().any(|set| set.contains(&self.me)) {
                return;
            }
            let last = self.last();
            let mut said = self.ask(&leader, &voters).await;
            said.insert(self.me, Testimony::Dead(last));
            let verdict = verdict(self.me, &voters, &said);
            tracing::info!(?verdict, ?said, "who follows the leader that died");
            if verdict == Verdict::Mine {
                self.deaths.stand_after(&leader);
                let last = last.map(|(term, index)| log_id(term, index));
                let request = TransferLeaderRequest::new(leader, self.me, last);
                if let Err(error) = self.raft.handle_transfer_leader(request).await {
                    tracing::warn!(%error, "consensus has stopped");
                    return;
                }
            }
            sleep(TESTIMONY_PAUSE).await;
        }
    }

    /// What the other voters have seen, of those who answer.
    async fn ask(&self, leader: &Vote, voters: &[BTreeSet<u64>]) -> BTreeMap<u64, Testimony> {
        let all: BTreeSet<u64> = voters.iter().flatten().copied().collect();
        let others = all.into_iter().filter(|id| *id != self.me && *id != leader.leader_id().voted_for);
        let asked = others.map(|id| async move { Some((id, self.ask_one(leader, id).await?)) });
        join_all(asked).await.into_iter().flatten().collect()
    }

    async fn ask_one(&self, leader: &Vote, node_id: u64) -> Option<Testimony> {
        let mut client = raft_client(self.channels.get(node_id, Lane::Vote)?);
        let question = envelope(&DeathForm { leader: Some(VoteForm::from(leader)) });
        let answer = timeout(TESTIMONY_TIMEOUT, client.testify(question)).await.ok()?.ok()?;
        let answer: TestimonyForm = open(answer.into_inner()).ok()?;
        let last = answer.last.map(|last| (last.term, last.index));
        Some(if answer.dead { Testimony::Dead(last) } else { Testimony::Alive })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(me: u64, voters: &[&[u64]], said: &[(u64, Testimony)]) -> Verdict {
        let voters: Vec<BTreeSet<u64>> = voters.iter().map(|set| set.iter().copied().collect()).collect();
        verdict(me, &voters, &said.iter().copied().collect())
    }

    /// Its log ends with that term and index.
    fn dead(term: u64, index: u64) -> Testimony {
        Testimony::Dead(Some((term, index)))
    }

    #[test]
    fn the_longest_log_leads_then_the_lowest_id() {
        let three: &[&[u64]] = &[&[1, 2, 3]];
        for (two, three_is, of_two, of_three) in [
            (dead(4, 9), dead(4, 9), Verdict::Mine, Verdict::Anothers),
            (dead(4, 8), dead(4, 9), Verdict::Anothers, Verdict::Mine),
            (dead(3, 9), dead(4, 1), Verdict::Anothers, Verdict::Mine),
            (Testimony::Dead(None), dead(1, 0), Verdict::Anothers, Verdict::Mine),
        ] {
            let said = [(2, two), (3, three_is)];
            assert_eq!((judge(2, three, &said), judge(3, three, &said)), (of_two, of_three), "{said:?}");
        }
    }

    #[test]
    fn less_than_a_majority_of_every_set_or_one_objection_is_doubt() {
        let doubt = |voters: &[&[u64]], said: &[(u64, Testimony)]| {
            assert_eq!(judge(2, voters, said), Verdict::Doubt, "{voters:?} {said:?}");
        };
        doubt(&[&[1, 2, 3]], &[(2, dead(1, 1))]);
        doubt(&[&[1, 2, 3, 4]], &[(2, dead(1, 1)), (3, dead(1, 1))]);
        doubt(&[&[1, 2, 3]], &[(2, dead(1, 1)), (3, Testimony::Alive)]);
        // Four of five have seen it, the fifth hears the leader still.
        let four = [(2, dead(1, 1)), (3, dead(1, 1)), (4, dead(1, 1)), (5, Testimony::Alive)];
        doubt(&[&[1, 2, 3, 4, 5]], &four);
        assert_eq!(judge(2, &[&[1, 2, 3, 4, 5]], &four[..3]), Verdict::Mine, "the fifth is silent");
        // While membership changes both sets have to agree.
        doubt(&[&[1, 2, 3], &[1, 4, 5]], &[(2, dead(1, 1)), (3, dead(1, 1)), (4, dead(1, 1))]);
        doubt(&[], &[(2, dead(1, 1))]);
    }

    #[test]
    fn a_learner_never_leads() {
        let said = [(2, dead(1, 1)), (3, dead(1, 1)), (9, dead(7, 7))];
        assert_eq!(judge(9, &[&[1, 2, 3]], &said), Verdict::Anothers);
        assert_eq!(judge(2, &[&[1, 2, 3]], &said), Verdict::Mine);
    }
}

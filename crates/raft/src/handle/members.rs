//! Changing the members of the cluster, one change at a time.
//!
//! It refuses ids that were removed and changes that would leave nobody to vote.

use std::collections::BTreeSet;

use certwright_core::log::Fold;
use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, ForwardReason, RaftError};
use tokio::time::{sleep, timeout};

use super::Log;
use crate::consensus::{Peer, StoredMembership, Types};
use crate::error::MembershipError;
use crate::limits::{LEASE_RETRY_EVERY, MEMBERSHIP_TIMEOUT, TRANSFER_TIMEOUT};
use crate::member::Member;

/// What becomes of voters that lose their vote.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leavers {
    /// They are members no more.
    Go,
    /// They receive the log still.
    Learn,
}

type Failure = RaftError<Types, ClientWriteError<Types>>;

impl<F: Fold> Log<F> {
    /// Adds a node that receives the log and does not vote. The same member again is no error.
    pub async fn add_learner(&self, member: Member) -> Result<(), MembershipError> {
        let stored = self.changeable(member.node_id)?;
        match stored.get_node(&member.node_id) {
            Some(known) if *known == Peer::of(&member) => return Ok(()),
            Some(_) => return Err(MembershipError::Conflict(member.node_id)),
            None => {}
        }
        let nodes = [(member.node_id, Peer::of(&member))].into();
        self.change(ChangeMembers::AddNodes(nodes), Leavers::Go).await
    }

    /// Lets a learner vote. A voter again is no error.
    pub async fn promote(&self, node_id: u64) -> Result<(), MembershipError> {
        let stored = self.changeable(node_id)?;
        if stored.get_node(&node_id).is_none() {
            return Err(MembershipError::NotMember(node_id));
        }
        if stored.voter_ids().any(|voter| voter == node_id) && stored.get_joint_config().len() == 1 {
            return Ok(());
        }
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([node_id])), Leavers::Go).await
    }

    /// Takes the vote from a node, which receives the log still. A learner is no error.
    pub async fn demote(&self, node_id: u64) -> Result<(), MembershipError> {
        let stored = self.changeable(node_id)?;
        if stored.get_node(&node_id).is_none() {
            return Err(MembershipError::NotMember(node_id));
        }
        let voters: BTreeSet<u64> = stored.voter_ids().collect();
        if voters == BTreeSet::from([node_id]) {
            return Err(MembershipError::LastVoter);
        }
        if !voters.contains(&node_id) {
            return Ok(());
        }
        self.change(ChangeMembers::RemoveVoters(BTreeSet::from([node_id])), Leavers::Learn).await
    }

    /// Removes a node for ever. A removed node again is no error.
    pub async fn remove(&self, node_id: u64) -> Result<(), MembershipError> {
        let stored = match self.changeable(node_id) {
            Err(MembershipError::Removed(_)) => return Ok(()),
            other => other?,
        };
        if stored.get_node(&node_id).is_none() {
            return Err(MembershipError::NotMember(node_id));
        }
        let voters: BTreeSet<u64> = stored.voter_ids().collect();
        if voters == BTreeSet::from([node_id]) {
            return Err(MembershipError::LastVoter);
        }
        if voters.contains(&node_id) {
            self.change(ChangeMembers::RemoveVoters(BTreeSet::from([node_id])), Leavers::Go).await
        } else {
            self.change(ChangeMembers::RemoveNodes(BTreeSet::from([node_id])), Leavers::Go).await
        }
    }

    /// Brings a change of who votes to its end that was begun and not finished; who lost its vote receives the log still.
    pub async fn finish_change(&self) -> Result<(), MembershipError> {
        self.change(ChangeMembers::AddVoterIds(BTreeSet::new()), Leavers::Learn).await
    }

    /// Hands leadership to a voter and waits until it leads.
    pub async fn transfer_leader(&self, to: u64) -> Result<(), MembershipError> {
        let stored = self.changeable(to)?;
        if !stored.voter_ids().any(|voter| voter == to) {
            return Err(MembershipError::NotMember(to));
        }
        let mut leadership = self.leadership();
        if self.inner.raft.trigger().transfer_leader(to).await.is_err() {
            return Err(MembershipError::Stopped);
        }
        let arrived = leadership.wait_for(|leadership| leadership.leader == Some(to));
        match timeout(TRANSFER_TIMEOUT, arrived).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(MembershipError::Stopped),
            Err(_) => Err(MembershipError::Unknown(format!("node {to} does not lead yet"))),
        }
    }

    /// The newest membership, when this node may change it and the id may still be used.
    fn changeable(&self, node_id: u64) -> Result<std::sync::Arc<StoredMembership>, MembershipError> {
        let leadership = *self.leadership().borrow();
        if !leadership.ready {
            return Err(MembershipError::NotLeader { hint: leadership.leader.filter(|_| !leadership.is_self) });
        }
        if self.inner.shared.replica().removed.contains(&node_id) {
            return Err(MembershipError::Removed(node_id));
        }
        Ok(self.inner.raft.server_metrics().borrow_watched().membership_config.clone())
    }

    async fn change(&self, members: ChangeMembers<u64, Peer>, leavers: Leavers) -> Result<(), MembershipError> {
        let changing = async {
            loop {
                let retain = leavers == Leavers::Learn;
                let result = self.inner.raft.change_membership(members.clone(), retain).await;
                match result.map_err(|failure| refused(&failure)) {
                    Ok(_) => return Ok(()),
                    Err(None) => sleep(LEASE_RETRY_EVERY).await,
                    Err(Some(error)) => return Err(error),
                }
            }
        };
        match timeout(MEMBERSHIP_TIMEOUT, changing).await {
            Ok(result) => result,
            Err(_) => Err(MembershipError::Unknown("no quorum in time".into())),
        }
    }
}

/// What a failure means to the caller; `None` to try again.
fn refused(failure: &Failure) -> Option<MembershipError> {
    let error = match failure {
        RaftError::Fatal(_) => return Some(MembershipError::Stopped),
        RaftError::APIError(error) => error,
    };
    Some(match error {
        ClientWriteError::ForwardToLeader(forward) if forward.reason == ForwardReason::LeaseExpired => return None,
        ClientWriteError::ForwardToLeader(forward) => MembershipError::NotLeader { hint: forward.leader_id },
        ClientWriteError::LogEntryDiscarded(_) => MembershipError::Unknown(error.to_string()),
        ClientWriteError::ChangeMembershipError(ChangeMembershipError::UncommittedLeaderLog(_)) => return None,
        ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_)) => MembershipError::InProgress,
        ClientWriteError::ChangeMembershipError(ChangeMembershipError::EmptyMembership(_)) => {
            MembershipError::LastVoter
        }
        ClientWriteError::ChangeMembershipError(ChangeMembershipError::LearnerNotFound(missing)) => {
            MembershipError::NotMember(missing.node_id)
        }
        ClientWriteError::ChangeMembershipError(
            ChangeMembershipError::UnsupportedMembershipTransition(_) | ChangeMembershipError::NodeMetadataChanged(_),
        )
        | ClientWriteError::PreconditionFailed(_) => MembershipError::Unknown(error.to_string()),
    })
}

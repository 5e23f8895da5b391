//! Members come and go; who was removed does not come back.

use std::collections::BTreeMap;

use super::cluster::{Cluster, Node, PATIENCE, eventually, say_somewhere};
use crate::{Member, MembershipError, Role};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_catches_up_and_becomes_a_voter() {
    let mut cluster = Cluster::of(1).await;
    say_somewhere(&cluster, 1, "one").await;
    cluster.join(2).await;
    cluster.agree().await;
    let status = eventually("learner", async || {
        let status = cluster.nodes[1].log().status();
        (!status.members.learners.is_empty()).then_some(status)
    })
    .await;
    assert_eq!((status.role, status.members.learners.clone()), (Role::Learner, vec![cluster.nodes[1].member.clone()]));
    let leader = cluster.leader().await;
    leader.add_learner(cluster.nodes[1].member.clone()).await.unwrap();
    leader.promote(2).await.unwrap();
    leader.promote(2).await.unwrap();
    eventually("voter", async || (cluster.nodes[1].log().status().role == Role::Follower).then_some(())).await;
    assert_eq!(leader.status().members.voters.len(), 2);
}

/// Whoever asked for it went before it was through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_was_given_up_halfway_can_be_finished() {
    let mut cluster = Cluster::of(1).await;
    cluster.join(2).await;
    cluster.agree().await;
    let leader = cluster.leader().await;
    cluster.nodes[1].kill().await;
    let begun = async || leader.status().members.is_joint.then_some(());
    tokio::select! {
        outcome = leader.promote(2) => panic!("one of the two is gone: {outcome:?}"),
        () = eventually("change that was begun", begun) => {}
    }
    cluster.nodes[1].start().await;
    eventually("vote of both", async || {
        let status = leader.status();
        (status.members.voters.len() == 2 && status.applied_index == status.last_log_index).then_some(())
    })
    .await;
    assert!(leader.status().members.is_joint, "nobody goes on with it");
    eventually("finished change", async || leader.finish_change().await.ok()).await;
    let members = leader.status().members;
    assert_eq!((members.is_joint, members.voters.len(), members.learners.len()), (false, 2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_make_no_sense_are_refused() {
    let cluster = Cluster::of(1).await;
    let leader = cluster.leader().await;
    let mut other = cluster.nodes[0].member.clone();
    other.spki_hash = [9; 32];
    assert_eq!(leader.add_learner(other).await, Err(MembershipError::Conflict(1)));
    assert_eq!(leader.promote(7).await, Err(MembershipError::NotMember(7)));
    assert_eq!(leader.remove(7).await, Err(MembershipError::NotMember(7)));
    assert_eq!(leader.remove(1).await, Err(MembershipError::LastVoter));
    assert_eq!(leader.transfer_leader(7).await, Err(MembershipError::NotMember(7)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_node_is_refused_everywhere_and_for_ever() {
    let mut cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let removed = (1..=3).find(|id| *id != leader.status().node_id).unwrap();
    leader.remove(removed).await.unwrap();
    leader.remove(removed).await.unwrap();
    assert_eq!(leader.status().members.voters.len(), 2);
    let member: Member = cluster.node(removed).member.clone();
    assert_eq!(leader.add_learner(member).await, Err(MembershipError::Removed(removed)));
    assert!(leader.peer_channel(removed).is_none());
    // Connections it has are refused at once, new ones do not come to be: it learns nothing any more.
    let applied = cluster.node(removed).log().status().applied_index;
    say_somewhere(&cluster, 1, "after").await;
    let others: BTreeMap<u64, u64> = cluster
        .nodes
        .iter()
        .filter(|node| node.member.node_id != removed)
        .map(|node| (node.member.node_id, node.log().status().term))
        .collect();
    for node_id in others.keys() {
        let removed = cluster.nodes[removed as usize - 1].log();
        eventually("refusal", async || removed.ask(*node_id).await.err()).await;
        assert!(removed.ask(*node_id).await.is_err(), "refused for good");
    }
    assert!(cluster.node(removed).log().status().applied_index <= applied + 2);
    // It cannot disturb those who remain.
    for (node_id, term) in others {
        assert_eq!(cluster.node(node_id).log().status().term, term);
    }
    // The tombstone survives a restart.
    let id = leader.status().node_id;
    cluster.node(removed).kill().await;
    cluster.node(id).kill().await;
    cluster.node(id).start().await;
    let leader = cluster.leader().await;
    let again = Node::new(removed).await.member;
    assert_eq!(leader.add_learner(again).await, Err(MembershipError::Removed(removed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_removes_itself_leaves_the_others_working() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let id = leader.status().node_id;
    leader.remove(id).await.unwrap();
    let next = cluster.leader_but(id).await;
    next.wait_applied(leader.status().applied_index, PATIENCE).await.unwrap();
    assert!(next.propose(crate::fold::toy::say(1, "a", None, "w")).await.is_ok());
    assert!(next.status().members.voters.iter().all(|member| member.node_id != id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_away_is_introduced_to_the_leader_that_joined_meanwhile() {
    let mut cluster = Cluster::of(3).await;
    let id = cluster.leader().await.status().node_id;
    let [away, stays] = [1, 2, 3].into_iter().filter(|it| *it != id).collect::<Vec<_>>()[..] else { unreachable!() };
    cluster.node(away).kill().await;
    cluster.join(4).await;
    let leader = cluster.leader().await;
    leader.promote(4).await.unwrap();
    leader.transfer_leader(4).await.unwrap();
    eventually("the new one leads", async || cluster.nodes[3].log().leadership().borrow().ready.then_some(())).await;
    let new = cluster.nodes[3].log().clone();
    // One of the two that it knew is left to ask.
    new.remove(id).await.unwrap();
    say_somewhere(&cluster, 1, "after").await;
    let late = cluster.node(away).start().await.clone();
    late.wait_applied(new.status().applied_index, PATIENCE).await.unwrap();
    let known = cluster.node(stays).log().clone();
    // What consensus says of itself may come a moment after the entry is applied.
    eventually("the same members", async || (late.status().members == known.status().members).then_some(())).await;
}

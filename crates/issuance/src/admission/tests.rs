//! The steps of admission as a table of what the cluster and its members say.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use certwright_core::event::NodeRecord;
use certwright_core::ids::{NodeId, NodeName};
use certwright_core::state::{Cluster, Node};
use certwright_raft::{Member, Members};

use super::{Step, member, steps};

pub(crate) fn record(id: NodeId) -> NodeRecord {
    NodeRecord {
        id,
        name: NodeName::parse(&format!("server-{id}")).unwrap(),
        raft_address: format!("host-{id}:1"),
        api_address: format!("host-{id}:2"),
        http_address: format!("host-{id}:3"),
        spki_hash: [id as u8; 32],
        hpke_public: vec![],
    }
}

fn cluster(second: Node) -> Cluster {
    let first = Node {
        record: record(1),
        wrapped: BTreeMap::from([(4, vec![])]),
        proved: Some(4),
        identity: None,
        removed: false,
        learner: false,
    };
    Cluster { data_key_id: 4, nodes: BTreeMap::from([(1, first), (2, second)]), ..Cluster::default() }
}

fn node(wrapped: &[u64], proved: Option<u64>, removed: bool) -> Node {
    let wrapped = wrapped.iter().map(|id| (*id, vec![])).collect();
    Node { record: record(2), wrapped, proved, identity: None, removed, learner: false }
}

fn members(voters: &[NodeId], learners: &[NodeId]) -> Members {
    let all = |ids: &[NodeId]| -> Vec<Member> { ids.iter().map(|id| member(&record(*id))).collect() };
    Members { voters: all(voters), learners: all(learners), is_joint: false }
}

#[test]
fn each_server_takes_the_next_step_and_votes_last() {
    let learn = || Step::Learn(member(&record(2)));
    for (second, members, next) in [
        (node(&[], None, false), members(&[1], &[]), Some(learn())),
        (node(&[], None, false), members(&[1], &[2]), Some(Step::Wrap(2))),
        (node(&[3], Some(3), false), members(&[1], &[2]), Some(Step::Wrap(2))),
        (node(&[4], None, false), members(&[1], &[2]), Some(Step::Prove(2))),
        (node(&[3, 4], Some(3), false), members(&[1], &[2]), Some(Step::Prove(2))),
        (node(&[4], Some(4), false), members(&[1], &[2]), Some(Step::Promote(2))),
        (node(&[4], Some(4), false), members(&[1, 2], &[]), None),
        (node(&[4], Some(4), true), members(&[1, 2], &[]), Some(Step::Remove(2))),
        (node(&[], None, true), members(&[1], &[2]), Some(Step::Remove(2))),
        (node(&[4], Some(4), true), members(&[1], &[]), None),
    ] {
        assert_eq!(steps(&cluster(second.clone()), &members, 1), Vec::from_iter(next), "{second:?} {members:?}");
    }
}

#[test]
fn a_change_that_nobody_finished_is_finished_unless_another_step_does_it() {
    let joint = |voters: &[NodeId], learners: &[NodeId]| Members { is_joint: true, ..members(voters, learners) };
    for (second, members, me, next) in [
        (node(&[4], Some(4), false), joint(&[1, 2], &[]), 1, vec![Step::Finish]),
        (node(&[4], Some(4), true), joint(&[1, 2], &[]), 1, vec![Step::Remove(2)]),
        (node(&[4], Some(4), true), joint(&[1, 2], &[]), 2, vec![Step::HandOver]),
        (node(&[4], Some(3), false), joint(&[1, 2], &[]), 1, vec![Step::Finish, Step::Prove(2)]),
        // Who is to vote may be switched off: its promotion fails as long.
        (node(&[4], Some(4), false), joint(&[1], &[2]), 1, vec![Step::Finish, Step::Promote(2)]),
    ] {
        assert_eq!(steps(&cluster(second.clone()), &members, me), next, "{second:?} {members:?}");
    }
}

#[test]
fn a_learner_gets_no_data_key_and_no_vote() {
    let learner = |wrapped: &[u64]| Node { learner: true, ..node(wrapped, None, false) };
    let learn = Step::Learn(member(&record(2)));
    for (second, members, me, next) in [
        (learner(&[]), members(&[1], &[]), 1, Some(learn)),
        (learner(&[]), members(&[1], &[2]), 1, None),
        (learner(&[4]), members(&[1, 2], &[]), 1, Some(Step::Demote(2))),
        (learner(&[4]), members(&[1, 2], &[]), 2, Some(Step::HandOver)),
        (learner(&[4]), members(&[1], &[2]), 1, None),
        (Node { removed: true, ..learner(&[]) }, members(&[1], &[2]), 1, Some(Step::Remove(2))),
    ] {
        assert_eq!(steps(&cluster(second.clone()), &members, me), Vec::from_iter(next), "{second:?} {members:?}");
    }
}

#[test]
fn a_leader_that_is_removed_hands_over_and_is_removed_by_the_next() {
    let removed = node(&[4], Some(4), true);
    assert_eq!(steps(&cluster(removed.clone()), &members(&[1, 2], &[]), 2), [Step::HandOver]);
    assert_eq!(steps(&cluster(removed), &members(&[1, 2], &[]), 1), [Step::Remove(2)]);
}

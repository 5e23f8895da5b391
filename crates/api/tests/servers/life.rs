//! The life of a cluster: leadership goes where it is asked, servers serve without a vote, get one and lose it.
//!
//! It refuses clocks as proof: where an election would be a way out, its time is longer than the test's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use certwright_api::node::{Advertise, NodeConfig, Timers};
use certwright_core::Reason;
use certwright_proto::status::from_status;
use certwright_proto::v1;
use certwright_proto::v1::cluster_client::ClusterClient;
use certwright_proto::v1::events_client::EventsClient;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::session::Session;
use crate::support::{Cluster, PATIENCE, cluster, demo, far_away, has_role, is_voter, issue, leader, order, until};

/// Callers that issue all the time, through these servers.
struct Load {
    over: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    callers: JoinSet<()>,
}

impl Load {
    fn start(channels: impl IntoIterator<Item = Channel>) -> Self {
        let (over, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut callers = JoinSet::new();
        for (caller, channel) in channels.into_iter().enumerate() {
            let (over, answered) = (over.clone(), answered.clone());
            callers.spawn(async move {
                for number in 0_u64.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    issue(&channel, order(&format!("{:016x}{number:016x}", caller + 1))).await;
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { over, answered, callers }
    }

    /// Waits for that many more answers.
    async fn goes_on(&self, more: u64) {
        let target = self.answered.load(Ordering::Relaxed) + more;
        let answered = async || (self.answered.load(Ordering::Relaxed) >= target).then_some(());
        until("callers are answered", PATIENCE, answered).await;
    }

    /// Stops; a request that failed for good fails the test.
    async fn stop(mut self) {
        self.over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.callers.join_next().await {
            ended.unwrap();
        }
    }
}

/// Whoever has these timers never stands for election within a test.
const NEVER: Timers = Timers { election_millis: (120_000, 240_000), heartbeat_millis: 150 };

async fn transfer(channel: &Channel, to: &str) -> Result<v1::TransferLeadershipResponse, Reason> {
    let request = v1::TransferLeadershipRequest { name: to.into() };
    let answer = ClusterClient::new(channel.clone()).transfer_leadership(request).await;
    answer.map(tonic::Response::into_inner).map_err(|status| from_status(&status).reason)
}

/// Asks until the answer is that reason; on the way there others may come, as with every election.
async fn is_refused(what: &str, expected: Reason, mut ask: impl AsyncFnMut() -> Option<Reason>) {
    until(&format!("{what}: {expected:?}"), PATIENCE, async || (ask().await? == expected).then_some(())).await;
}

/// Has that server lead, whatever it takes.
async fn lead(channel: &Channel, name: &str) {
    is_refused(name, Reason::AlreadyLeader, async || transfer(channel, name).await.err()).await;
}

async fn set_role(channel: &Channel, name: &str, role: &str) -> Result<(), Reason> {
    let request = v1::SetNodeRoleRequest { name: name.into(), role: role.into(), ..Default::default() };
    let answer = ClusterClient::new(channel.clone()).set_node_role(request).await;
    answer.map(drop).map_err(|status| from_status(&status).reason)
}

async fn remove(channel: &Channel, name: &str) -> Result<(), Reason> {
    let request = v1::RemoveNodeRequest { name: name.into(), ..Default::default() };
    let answer = ClusterClient::new(channel.clone()).remove_node(request).await;
    answer.map(drop).map_err(|status| from_status(&status).reason)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stops_hands_over_first() {
    let mut cluster = Cluster::found().await;
    demo(cluster.channel(1)).await;
    for number in 2..=3 {
        let config = NodeConfig { timers: NEVER, ..cluster.config(number) };
        cluster.grow_as(config, number, 1).await;
    }
    let through = cluster.channel(2).clone();
    assert_eq!(leader(&through).await, "server-1");
    let term = self::cluster(&through).await.unwrap().term;
    let load = Load::start([2, 3, 2, 3].map(|number| cluster.channel(number).clone()));
    load.goes_on(8).await;
    let http = cluster.node(1).addresses().http;
    let ports_close = async {
        let closed = async || TcpStream::connect(http).await.is_err().then_some(());
        until("the ports close", PATIENCE, closed).await;
        // By then somebody else leads: it takes the stopping server longer to end than this.
        let another = async || (leader(&through).await != "server-1").then_some(());
        until("another server leads before the ports close", Duration::from_millis(500), another).await;
    };
    tokio::join!(cluster.halt(1), ports_close);
    // Nobody who is left would stand for election before the test is over.
    load.goes_on(20).await;
    let after = self::cluster(&through).await.unwrap();
    assert!(["server-2", "server-3"].contains(&&*after.leader), "{after:?}");
    assert_eq!(after.term, term + 1, "one change of leadership");
    load.stop().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_goes_where_it_is_asked_and_a_quorum_stays() {
    let mut cluster = Cluster::of(3).await;
    let through = cluster.channel(2).clone();
    let before = self::cluster(&through).await.unwrap();
    let load = Load::start([2, 3].map(|number| cluster.channel(number).clone()));
    let answer = until("a new leader", PATIENCE, async || transfer(&through, "server-3").await.ok()).await;
    assert_eq!(answer.leader, "server-3");
    assert!(answer.previous != answer.leader && answer.term > before.term, "{answer:?}");
    load.goes_on(4).await;
    load.stop().await;
    lead(&through, "server-3").await;
    assert_eq!(transfer(&through, "server-9").await, Err(Reason::NotFound));
    // Without a name whoever is furthest takes over.
    let answer = until("another leader", PATIENCE, async || transfer(&through, "").await.ok()).await;
    assert!(answer.previous != answer.leader && !answer.leader.is_empty(), "{answer:?}");

    // One of three is away: it cannot lead, and neither of the others can be spared.
    cluster.halt(3).await;
    until("server-3 is away", PATIENCE, async || {
        let seen = self::cluster(&through).await.ok()?;
        seen.nodes.iter().any(|node| node.name == "server-3" && node.role == "unreachable").then_some(())
    })
    .await;
    let to_third = async || transfer(&through, "server-3").await.err();
    is_refused("it is away", Reason::ServerUnreachable, to_third).await;
    is_refused("removal", Reason::QuorumAtRisk, async || remove(&through, "server-1").await.err()).await;
    let demotion = async || set_role(&through, "server-1", "learner").await.err();
    is_refused("demotion", Reason::QuorumAtRisk, demotion).await;
    let nonsense = async || set_role(&through, "server-1", "king").await.err();
    is_refused("nonsense", Reason::InvalidSpec, nonsense).await;
    until("server-3 is taken out", PATIENCE, async || remove(&through, "server-3").await.ok()).await;
    issue(&through, order(&"0a".repeat(16))).await;
    cluster.stop().await;
}

/// Everything that is to be told so far.
async fn told(channel: &Channel) -> Vec<v1::Event> {
    let request = v1::WatchRequest { from_index: 1, ..Default::default() };
    let mut stream = EventsClient::new(channel.clone()).watch(request).await.unwrap().into_inner();
    let mut events = Vec::new();
    while let Some(answer) = stream.message().await.unwrap() {
        events.extend(answer.event);
    }
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_serves_and_does_not_vote_until_it_is_promoted() {
    let mut cluster = Cluster::of(3).await;
    cluster.grow_learner(4, 2).await;
    let (near, far) = (cluster.channel(1).clone(), cluster.channel(4).clone());

    // Reads, writes, watches and agents: everything that any server does.
    let wanted = order(&"01".repeat(16));
    let issued = issue(&far, wanted.clone()).await;
    assert_eq!(issue(&near, wanted).await.serial, issued.serial);
    let request = v1::GetClusterRequest { linearizable: true, ..Default::default() };
    let seen = ClusterClient::new(far.clone()).get_cluster(request).await.unwrap().into_inner();
    assert_eq!(seen.answered_by, "server-4");
    assert!(seen.nodes.iter().all(|node| node.learner == (node.name == "server-4")), "{seen:?}");
    let edge = cluster.agent(4, "edge").await;
    let _session = Session::open(&cluster.connect_as(&edge, 4).await).await.unwrap();
    let events = told(&far).await;
    assert!(events.iter().any(|event| event.r#type == "AgentRegistered"));

    // It is no voter and holds no data key.
    let holds = |events: &[v1::Event]| {
        events.iter().any(|event| event.r#type == "DataKeyWrapped" && event.data_json.contains("\"nodeId\":4"))
    };
    assert!(!holds(&events));
    is_refused("a learner", Reason::NotAVoter, async || transfer(&far, "server-4").await.err()).await;
    assert_eq!(set_role(&far, "server-4", "learner").await, Ok(()), "it is one");

    set_role(&far, "server-4", "voter").await.unwrap();
    is_voter(&near, 4).await;
    assert!(holds(&told(&near).await));
    lead(&far, "server-4").await;
    issue(&near, order(&"02".repeat(16))).await;

    // A leader that is demoted hands over first.
    set_role(&near, "server-4", "learner").await.unwrap();
    has_role(&near, 4, "learner").await;
    assert_ne!(leader(&near).await, "server-4");
    issue(&far, order(&"03".repeat(16))).await;

    // Two of three voters are away: a learner is none in their place.
    for number in 2..=3 {
        cluster.halt(number).await;
    }
    let limit = Duration::from_secs(10);
    until("nobody leads", limit, async || {
        let request = v1::GetClusterRequest { linearizable: true, ..Default::default() };
        let refused = ClusterClient::new(far.clone()).get_cluster(request).await.err()?;
        (from_status(&refused).reason == Reason::NoLeader).then_some(())
    })
    .await;
    cluster.stop().await;
}

/// Names of those who vote, as the server at the other end knows it.
async fn voters(channel: &Channel) -> Option<Vec<String>> {
    let seen = cluster(channel).await.ok()?;
    let names = seen.nodes.into_iter().filter(|node| node.voter).map(|node| node.name);
    (!seen.leader.is_empty()).then(|| names.collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_grows_and_shrinks_under_load_and_who_was_removed_disturbs_nobody() {
    let mut cluster = Cluster::of(3).await;
    let through = cluster.channel(2).clone();
    let load = Load::start([2, 3].map(|number| cluster.channel(number).clone()));
    for number in 4..=5 {
        cluster.grow(number, 2).await;
        load.goes_on(2).await;
    }
    assert_eq!(voters(&through).await.unwrap().len(), 5);

    // A follower, then whoever leads unless callers go through it; both keep running.
    let leads = leader(&through).await;
    let goes = if leads == "server-2" || leads == "server-3" { "server-1" } else { &*leads };
    let first = if goes == "server-4" { "server-5" } else { "server-4" };
    for name in [first, goes] {
        assert_eq!(remove(&through, name).await, Ok(()));
        let gone = async || (!voters(&through).await?.contains(&name.to_owned())).then_some(());
        until(&format!("{name} is out"), Duration::from_secs(20), gone).await;
        load.goes_on(2).await;
    }
    assert_eq!(voters(&through).await.unwrap().len(), 3);
    until("a leader of those who stay", PATIENCE, async || {
        let leads = leader(&through).await;
        (leads != first && leads != goes).then_some(())
    })
    .await;

    // Several election timeouts of those who were removed and do not know it. A machine that stalls may cost a term, once.
    let term = async || self::cluster(&through).await.unwrap().term;
    let undisturbed = async || {
        let (before, end) = (term().await, Instant::now() + Duration::from_secs(4));
        while Instant::now() < end {
            load.goes_on(2).await;
        }
        (term().await == before).then_some(())
    };
    until("terms go on as if they were not there", 2 * PATIENCE, undisturbed).await;
    load.stop().await;
    let all_three = async || {
        let answer = ClusterClient::new(through.clone()).get_digests(v1::GetDigestsRequest {}).await;
        answer.ok().map(tonic::Response::into_inner).filter(|answer| answer.digests.len() == 3)
    };
    let digests = until("three digests", PATIENCE, all_three).await;
    let mut values: Vec<_> = digests.digests.values().collect();
    values.dedup();
    assert_eq!(values.len(), 1, "{digests:?}");
    cluster.stop().await;
}

/// Where the others reach it: everything they say to it takes 40 ms to get there, and its answers as long.
async fn in_another_region(config: NodeConfig) -> NodeConfig {
    let raft = far_away(config.listen.raft.unwrap(), Duration::from_millis(40)).await;
    let advertise = Advertise { raft: Some(raft.to_string()), ..config.advertise.clone() };
    NodeConfig { advertise, ..config }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_regions_agree_over_eighty_milliseconds() {
    let mut cluster = Cluster::found_as(in_another_region).await;
    demo(cluster.channel(1)).await;
    for number in 2..=3 {
        let config = in_another_region(cluster.config(number)).await;
        cluster.grow_as(config, number, 1).await;
    }
    let near = cluster.channel(1).clone();
    let before = self::cluster(&near).await.unwrap();
    let load = Load::start([1, 2, 3].map(|number| cluster.channel(number).clone()));
    load.goes_on(30).await;
    load.stop().await;
    let after = until("every server answers", PATIENCE, async || {
        let cluster = self::cluster(&near).await.ok()?;
        let others = cluster.nodes.iter().filter(|node| node.name != cluster.answered_by);
        others.clone().all(|node| node.clock_offset_millis.is_some()).then_some(cluster)
    })
    .await;
    assert_eq!((&after.leader, after.term), (&before.leader, before.term), "nobody stood for election");
    for node in after.nodes.iter().filter(|node| node.name != after.answered_by) {
        assert!(node.round_trip_micros >= 80_000, "{node:?}");
        assert!(node.clock_offset_millis.unwrap().abs() < 1000, "{node:?}");
    }
    // A leader that stops hands over just the same.
    let leads = after.leader.clone();
    let number = leads.trim_start_matches("server-").parse().unwrap();
    drop(near);
    cluster.halt(number).await;
    let other = cluster.channel(cluster.numbers()[0]).clone();
    issue(&other, order(&"0f".repeat(16))).await;
    assert_ne!(self::cluster(&other).await.unwrap().leader, leads);
    cluster.stop().await;
}

//! The nemesis: for every seed another mix of faults, each begun and ended, all healed in the end.
//!
//! It refuses damage that no majority could survive; a lost disk belongs to other tests.

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use certwright_seams::sim::{Fault as DiskFault, Operation, SeededEntropy};
use certwright_seams::{Disk, Entropy};
use tokio::time::sleep;

use crate::client::{Client, Stuck};
use crate::estate::{Estate, Order};
use crate::machine::VOLUME;

/// How long the nemesis is at work.
const WINDOW: Duration = Duration::from_secs(12);
/// Longest time that one fault lasts.
const FAULT_MILLIS_MAX: u64 = 4000;
/// Longest time between the ends of one and the beginning of another.
const CALM_MILLIS_MAX: u64 = 1500;
/// How far a clock is off that nobody sets: an hour, a year, to either side.
const OFF_MILLIS: [i64; 4] = [3_600_000, -3_600_000, 31_536_000_000, -31_536_000_000];
/// How far an agent's clock steps, to either side.
const AGENT_CLOCK_MILLIS_MAX: i64 = 3_600_000;
/// What a disk has left when it is nearly full: less than a segment and a snapshot.
const ROOM_OCTETS: u64 = 48 * 1024;

/// What may happen. The strings are what reports count by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    LeaderKilled,
    LeaderWithoutPower,
    FollowerKilled,
    AllWithoutPower,
    AgentWithoutPower,
    LeaderCutOff,
    LeadersInTurn,
    OneLeftBehind,
    Split,
    OneWay,
    Bridge,
    Held,
    SlowNetwork,
    SlowDisk,
    FullDisk,
    SyncFails,
    ClockSteps,
    ClockOff,
    AgentClock,
    HandOver,
    LeadershipMoved,
    SnapshotRots,
}

const FAULTS: [Fault; 22] = [
    Fault::LeaderKilled,
    Fault::LeaderWithoutPower,
    Fault::FollowerKilled,
    Fault::AllWithoutPower,
    Fault::AgentWithoutPower,
    Fault::LeaderCutOff,
    Fault::LeadersInTurn,
    Fault::OneLeftBehind,
    Fault::Split,
    Fault::OneWay,
    Fault::Bridge,
    Fault::Held,
    Fault::SlowNetwork,
    Fault::SlowDisk,
    Fault::FullDisk,
    Fault::SyncFails,
    Fault::ClockSteps,
    Fault::ClockOff,
    Fault::AgentClock,
    Fault::HandOver,
    Fault::LeadershipMoved,
    Fault::SnapshotRots,
];

/// Disturbs an estate for a while and heals it. The leader loses its power once in every run.
pub(crate) async fn disturb(estate: &Estate, client: &Client) -> Result<(), Stuck> {
    let draw = estate.draw(5);
    // A few kinds in every run, so that each has runs of its own.
    let kinds: Vec<Fault> = (0..1 + draw.next_u64() % 5).map(|_| pick(&draw, &FAULTS)).collect();
    if let Ok(Err(stuck)) = tokio::time::timeout(WINDOW, strike_on(estate, client, &draw, &kinds)).await {
        return Err(stuck);
    }
    heal(estate);
    Ok(())
}

async fn strike_on(
    estate: &Estate,
    client: &Client,
    draw: &SeededEntropy,
    kinds: &[Fault],
) -> Result<Infallible, Stuck> {
    strike(estate, client, draw, Fault::LeaderWithoutPower).await?;
    loop {
        strike(estate, client, draw, pick(draw, kinds)).await?;
    }
}

fn pick<T: Copy>(draw: &SeededEntropy, of: &[T]) -> T {
    of[draw.next_u64() as usize % of.len()]
}

fn millis(draw: &SeededEntropy, max: u64) -> Duration {
    Duration::from_millis(draw.next_u64() % max)
}

async fn strike(estate: &Estate, client: &Client, draw: &SeededEntropy, fault: Fault) -> Result<(), Stuck> {
    sleep(millis(draw, CALM_MILLIS_MAX)).await;
    let leader = match fault {
        Fault::LeaderKilled
        | Fault::LeaderWithoutPower
        | Fault::LeaderCutOff
        | Fault::LeadersInTurn
        | Fault::OneLeftBehind
        | Fault::HandOver => client.cluster(false).await?.leader,
        _ => String::new(),
    };
    let servers = estate.servers();
    let leader = if leader.is_empty() { servers[0].clone() } else { leader };
    let one = servers[draw.next_u64() as usize % servers.len()].clone();
    let one = if fault == Fault::LeaderCutOff { leader.clone() } else { one };
    estate.fault(fault.name());
    estate.trace.tell("nemesis", format_args!("{fault:?} {leader} {one}"));
    match fault {
        Fault::LeadersInTurn => return in_turn(estate, client, draw, &leader).await,
        Fault::OneLeftBehind => return leave_behind(estate, draw, &leader).await,
        Fault::LeadershipMoved => client.move_leadership().await,
        _ => {}
    }
    begin(estate, draw, fault, &leader, &one);
    sleep(millis(draw, FAULT_MILLIS_MAX)).await;
    estate.trace.tell("nemesis", format_args!("end of {fault:?}"));
    end(estate, fault, &leader, &one);
    Ok(())
}

fn begin(estate: &Estate, draw: &SeededEntropy, fault: Fault, leader: &str, one: &str) {
    let servers = estate.servers();
    let others = || servers.iter().filter(|it| *it != one);
    match fault {
        Fault::LeaderKilled => estate.order(Order::Kill(leader.to_owned())),
        Fault::LeaderWithoutPower => estate.order(Order::PowerCut(leader.to_owned())),
        Fault::FollowerKilled => estate.order(Order::Kill(one.to_owned())),
        Fault::AllWithoutPower => servers.iter().for_each(|it| estate.order(Order::PowerCut(it.clone()))),
        Fault::AgentWithoutPower => estate.agents().iter().for_each(|it| estate.order(Order::PowerCut(it.clone()))),
        // Callers and agents stay with everybody: whoever answers from the wrong side is found.
        Fault::LeaderCutOff | Fault::Split => cut_off(estate, one),
        Fault::OneWay => others().for_each(|it| block(estate, one, it)),
        // Two halves that meet in one server.
        Fault::Bridge => {
            let rest: Vec<_> = others().collect();
            let (left, right) = rest.split_at(rest.len() / 2);
            for (one, other) in left.iter().flat_map(|it| right.iter().map(move |other| (it, other))) {
                block(estate, one, other);
                block(estate, other, one);
            }
        }
        Fault::Held => others().for_each(|it| estate.order(Order::Hold(one.to_owned(), it.clone()))),
        Fault::SlowNetwork => {
            let least = millis(draw, 300);
            others().for_each(|it| estate.order(Order::Slow(one.to_owned(), it.clone(), least)));
        }
        Fault::SlowDisk => estate.machine(one).lag.set(Duration::from_millis(20) + millis(draw, 400)),
        Fault::FullDisk => {
            let disk = &estate.machine(one).disk;
            disk.set_capacity(Some(disk.used() + draw.next_u64() % ROOM_OCTETS));
        }
        Fault::SyncFails => estate.machine(one).disk.inject(DiskFault {
            operation: Operation::Sync,
            path_contains: "/log/".to_owned(),
            after: 0,
            times: 1,
            kind: std::io::ErrorKind::Other,
        }),
        // Less than what a leader gives way at.
        Fault::ClockSteps => estate.machine(one).step_clock(draw.next_u64() as i64 % 2000),
        Fault::ClockOff => estate.machine(one).step_clock(pick(draw, &OFF_MILLIS)),
        Fault::AgentClock => {
            let step = draw.next_u64() as i64 % AGENT_CLOCK_MILLIS_MAX;
            estate.agents().iter().for_each(|it| estate.machine(it).step_clock(step));
        }
        Fault::HandOver => estate.stop(leader),
        Fault::SnapshotRots => {
            estate.order(Order::Kill(one.to_owned()));
            rot(estate, one, draw);
        }
        // They have acts of their own.
        Fault::LeadersInTurn | Fault::OneLeftBehind | Fault::LeadershipMoved => {}
    }
}

/// Flips a bit of a server's newest snapshot. Its only one may be all that it has of what the others let go: that stays as it is.
fn rot(estate: &Estate, server: &str, draw: &SeededEntropy) {
    let (disk, directory) = (&estate.machine(server).disk, Path::new(VOLUME).join("server/snapshots"));
    let mut found = disk.list(&directory).unwrap_or_default();
    found.retain(|name| name.extension().is_some_and(|it| it == "snapshot"));
    found.sort();
    if let [.., _, newest] = &found[..] {
        let path = directory.join(newest);
        let octets = disk.read(&path, u64::MAX).map_or(0, |octets| octets.len() as u64);
        let (offset, bit) = (draw.next_u64() % octets.max(1), draw.next_u64() % 8);
        if disk.flip(&path, offset, 1 << bit).is_ok() {
            estate.fault("snapshot with a bit flipped");
        }
    }
}

fn block(estate: &Estate, from: &str, to: &str) {
    estate.order(Order::Block(from.to_owned(), to.to_owned()));
}

/// Callers and agents still reach it.
pub(crate) fn cut_off(estate: &Estate, one: &str) {
    for other in estate.servers().iter().filter(|it| *it != one) {
        block(estate, one, other);
        block(estate, other, one);
    }
}

/// The leader is cut off until another one leads; then that one is, and of the voters who made it leader one loses its
/// power: whoever votes twice in a term lets two lead.
async fn in_turn(estate: &Estate, client: &Client, draw: &SeededEntropy, first: &str) -> Result<(), Stuck> {
    cut_off(estate, first);
    sleep(Duration::from_millis(1200) + millis(draw, 800)).await;
    let second = client.cluster(true).await?.leader;
    estate.order(Order::Mend);
    cut_off(estate, &second);
    let servers = estate.servers();
    let voters: Vec<&String> = servers.iter().filter(|it| *it != first && **it != second).collect();
    let voter = pick(draw, &voters);
    estate.order(Order::PowerCut(voter.clone()));
    sleep(millis(draw, 400)).await;
    estate.order(Order::Start(voter.clone()));
    // Long enough for two elections.
    sleep(Duration::from_millis(2500) + millis(draw, 2000)).await;
    estate.trace.tell("nemesis", format_args!("end of leaders in turn"));
    estate.order(Order::Mend);
    Ok(())
}

/// A follower is cut off, and when it has missed a while all others go: agents and callers find nobody but one that
/// knows less than they do.
async fn leave_behind(estate: &Estate, draw: &SeededEntropy, leader: &str) -> Result<(), Stuck> {
    let servers = estate.servers();
    let followers: Vec<&String> = servers.iter().filter(|it| *it != leader).collect();
    let behind = pick(draw, &followers);
    cut_off(estate, behind);
    sleep(Duration::from_secs(1) + millis(draw, FAULT_MILLIS_MAX)).await;
    let others = || servers.iter().filter(|it| *it != behind);
    others().for_each(|it| estate.order(Order::Kill(it.clone())));
    sleep(Duration::from_secs(1) + millis(draw, FAULT_MILLIS_MAX)).await;
    estate.trace.tell("nemesis", format_args!("end of one left behind"));
    others().for_each(|it| estate.order(Order::Start(it.clone())));
    estate.order(Order::Mend);
    Ok(())
}

fn end(estate: &Estate, fault: Fault, leader: &str, one: &str) {
    let start = |name: &String| estate.order(Order::Start(name.clone()));
    match fault {
        Fault::LeaderKilled | Fault::LeaderWithoutPower => start(&leader.to_owned()),
        Fault::FollowerKilled | Fault::SnapshotRots => start(&one.to_owned()),
        Fault::AllWithoutPower => estate.servers().iter().for_each(start),
        Fault::AgentWithoutPower => estate.agents().iter().for_each(start),
        Fault::LeaderCutOff | Fault::Split | Fault::OneWay | Fault::Bridge | Fault::Held | Fault::SlowNetwork => {
            estate.order(Order::Mend)
        }
        Fault::SlowDisk | Fault::FullDisk | Fault::SyncFails | Fault::ClockSteps | Fault::ClockOff => {
            estate.machine(one).heal();
        }
        // It was started again by itself.
        Fault::HandOver | Fault::LeadersInTurn | Fault::OneLeftBehind | Fault::LeadershipMoved => {}
        Fault::AgentClock => estate.agents().iter().for_each(|it| estate.machine(it).heal()),
    }
}

/// Everything works again, and runs.
fn heal(estate: &Estate) {
    estate.order(Order::Mend);
    for name in estate.hosts().iter().chain(estate.agents()) {
        estate.machine(name).heal();
        // Who is to be taken down in this instant is not down yet.
        estate.order(Order::Revive(name.clone()));
    }
}

impl Fault {
    /// As reports name it.
    fn name(self) -> &'static str {
        match self {
            Self::LeaderKilled => "leader killed",
            Self::LeaderWithoutPower => "leader without power",
            Self::FollowerKilled => "server killed",
            Self::AllWithoutPower => "all servers without power",
            Self::AgentWithoutPower => "agents without power",
            Self::LeaderCutOff => "leader cut off",
            Self::LeadersInTurn => "leaders cut off in turn",
            Self::OneLeftBehind => "one left behind",
            Self::Split => "server cut off",
            Self::OneWay => "server heard by nobody",
            Self::Bridge => "bridge",
            Self::Held => "messages held",
            Self::SlowNetwork => "slow network",
            Self::SlowDisk => "slow disk",
            Self::FullDisk => "full disk",
            Self::SyncFails => "fsync fails",
            Self::ClockSteps => "clock steps",
            Self::ClockOff => "clock off",
            Self::AgentClock => "agents' clocks step",
            Self::HandOver => "leader stopped in good order",
            Self::LeadershipMoved => "leadership moved on an operator's word",
            Self::SnapshotRots => "server killed, its newest snapshot may rot",
        }
    }
}

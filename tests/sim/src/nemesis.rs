//! The nemesis: for every seed another mix of faults, each begun and ended, all healed in the end.
//!
//! It refuses damage that no majority could survive; a lost disk belongs to other tests.

use std::convert::Infallible;
use std::time::Duration;

use certwright_seams::Entropy;
use certwright_seams::sim::{Fault as DiskFault, Operation, SeededEntropy};
use tokio::time::sleep;

use crate::client::{Client, Stuck};
use crate::estate::{Estate, Order};

/// How long the nemesis is at work.
const WINDOW: Duration = Duration::from_secs(12);
/// Longest time that one fault lasts.
const FAULT_MILLIS_MAX: u64 = 4000;
/// Longest time between the ends of one and the beginning of another.
const CALM_MILLIS_MAX: u64 = 1500;
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
    Split,
    OneWay,
    Bridge,
    Held,
    SlowNetwork,
    SlowDisk,
    FullDisk,
    SyncFails,
    ClockSteps,
    HandOver,
}

const FAULTS: [Fault; 15] = [
    Fault::LeaderKilled,
    Fault::LeaderWithoutPower,
    Fault::FollowerKilled,
    Fault::AllWithoutPower,
    Fault::AgentWithoutPower,
    Fault::Split,
    Fault::OneWay,
    Fault::Bridge,
    Fault::Held,
    Fault::SlowNetwork,
    Fault::SlowDisk,
    Fault::FullDisk,
    Fault::SyncFails,
    Fault::ClockSteps,
    Fault::HandOver,
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
        Fault::LeaderKilled | Fault::LeaderWithoutPower | Fault::HandOver => client.cluster(false).await?.leader,
        _ => String::new(),
    };
    let leader = if leader.is_empty() { estate.servers()[0].clone() } else { leader };
    let one = pick(draw, &estate.servers().iter().collect::<Vec<_>>()).clone();
    estate.fault(fault.name());
    estate.trace.tell("nemesis", format_args!("{fault:?} {leader} {one}"));
    begin(estate, draw, fault, &leader, &one);
    sleep(millis(draw, FAULT_MILLIS_MAX)).await;
    estate.trace.tell("nemesis", format_args!("end of {fault:?}"));
    end(estate, fault, &leader, &one);
    Ok(())
}

fn begin(estate: &Estate, draw: &SeededEntropy, fault: Fault, leader: &str, one: &str) {
    let servers = estate.servers();
    let others = || servers.iter().filter(|it| *it != one);
    let block = |from: &str, to: &str| estate.order(Order::Block(from.to_owned(), to.to_owned()));
    match fault {
        Fault::LeaderKilled => estate.order(Order::Kill(leader.to_owned())),
        Fault::LeaderWithoutPower => estate.order(Order::PowerCut(leader.to_owned())),
        Fault::FollowerKilled => estate.order(Order::Kill(one.to_owned())),
        Fault::AllWithoutPower => servers.iter().for_each(|it| estate.order(Order::PowerCut(it.clone()))),
        Fault::AgentWithoutPower => estate.agents().iter().for_each(|it| estate.order(Order::PowerCut(it.clone()))),
        // Callers and agents stay with everybody: whoever answers from the wrong side is found.
        Fault::Split => others().for_each(|it| {
            block(one, it);
            block(it, one);
        }),
        Fault::OneWay => others().for_each(|it| block(one, it)),
        // Two halves that meet in one server.
        Fault::Bridge => {
            let rest: Vec<_> = others().collect();
            let (left, right) = rest.split_at(rest.len() / 2);
            for (one, other) in left.iter().flat_map(|it| right.iter().map(move |other| (it, other))) {
                block(one, other);
                block(other, one);
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
        Fault::HandOver => estate.stop(leader),
    }
}

fn end(estate: &Estate, fault: Fault, leader: &str, one: &str) {
    let start = |name: &String| estate.order(Order::Start(name.clone()));
    match fault {
        Fault::LeaderKilled | Fault::LeaderWithoutPower => start(&leader.to_owned()),
        Fault::FollowerKilled => start(&one.to_owned()),
        Fault::AllWithoutPower => estate.servers().iter().for_each(start),
        Fault::AgentWithoutPower => estate.agents().iter().for_each(start),
        Fault::Split | Fault::OneWay | Fault::Bridge | Fault::Held | Fault::SlowNetwork => estate.order(Order::Mend),
        Fault::SlowDisk | Fault::FullDisk | Fault::SyncFails | Fault::ClockSteps => estate.machine(one).heal(),
        // It was started again by itself.
        Fault::HandOver => {}
    }
}

/// Everything works again, and runs.
fn heal(estate: &Estate) {
    estate.order(Order::Mend);
    for name in estate.servers().iter().chain(estate.agents()) {
        estate.machine(name).heal();
        if estate.is_down(name) {
            estate.order(Order::Start(name.clone()));
        }
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
            Self::Split => "server cut off",
            Self::OneWay => "server heard by nobody",
            Self::Bridge => "bridge",
            Self::Held => "messages held",
            Self::SlowNetwork => "slow network",
            Self::SlowDisk => "slow disk",
            Self::FullDisk => "full disk",
            Self::SyncFails => "fsync fails",
            Self::ClockSteps => "clock steps",
            Self::HandOver => "leader stopped in good order",
        }
    }
}

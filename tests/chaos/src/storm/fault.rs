//! Every kind of fault: how it begins, how long it lasts, how it ends.
//!
//! It refuses to strike a majority with what a majority cannot survive, but for all processes at once, which start again.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use certwright_seams::Entropy;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::{AGENT, ENOUGH_WITHIN, OPERATIONS_MIN, SERVERS, Scene, host};
use crate::cluster::PAUSE;
use crate::gate::Weather;
use crate::network::CALLERS;

/// How long a fault of the network or a clock lasts.
const LASTS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(5));
/// Between two looks whether it has lasted long enough, and two resets.
const STEP: Duration = Duration::from_millis(500);
/// Shortest pause of a process.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// A leader whose disk is full leads no longer by then.
const HANDS_OVER_WITHIN: Duration = Duration::from_secs(45);
/// A clock that was set shows by then what it was set to, give or take so much.
const SHOWS_WITHIN: Duration = Duration::from_secs(20);
const SHIFT_MILLIS: i64 = 5_000;
const HOUR_SECONDS: i64 = 3600;
const YEAR_SECONDS: i64 = 365 * 24 * HOUR_SECONDS;

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal;)+) => {
        /// What may happen. The names are what reports count by.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Fault {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Fault {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// What reports call it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

faults! {
    /// SIGKILL, started again.
    LeaderKilled = "leader killed";
    /// SIGKILL, started again.
    FollowerKilled = "follower killed";
    /// SIGKILL to all three at once.
    AllKilled = "all servers killed";
    /// SIGKILL, started again.
    AgentKilled = "agent killed";
    /// SIGSTOP for a while.
    LeaderPaused = "leader paused";
    /// SIGSTOP for a while.
    FollowerPaused = "follower paused";
    /// SIGSTOP for a while.
    AgentPaused = "agent paused";
    /// Packets between it and the other servers are lost both ways, in the network of namespaces.
    LeaderCutOff = "leader cut off";
    /// It hears the others, who do not hear it, nor do agent and callers get answers.
    LeaderMute = "leader heard by nobody";
    /// Two of them, whoever they are, do not hear each other.
    Bridge = "bridge";
    /// A server's wire is slow, in the network of namespaces.
    SlowWire = "slow wire";
    /// Everything through the gates takes longer.
    Delay = "delay";
    /// Pieces are lost and sent again.
    Stalls = "loss, sent again";
    /// Connections overtake each other.
    Reorder = "connections overtake each other";
    /// Every connection to and from a server is reset, again and again.
    Resets = "resets";
    /// What is sent to a server arrives, what it answers waits.
    OneWay = "answers held back";
    /// Servers' connections to one are closed there and open here.
    HalfOpen = "half-open connections";
    /// Little goes through a gate in a second.
    Narrow = "narrow gate";
    /// The leader's disk is full.
    DiskFull = "leader's disk full";
    /// An hour ahead or behind.
    LeaderClock = "leader's clock off by an hour";
    /// A year ahead or behind.
    FollowerClock = "follower's clock off by a year";
    /// Two seconds ahead or behind.
    AgentClock = "agent's clock off by two seconds";
}

/// Numbers of the leader and of the two others.
type Cast = (usize, usize, usize);

impl Fault {
    /// Strikes, lasts its time and until callers had enough answered meanwhile, and ends. Answers how many operations were
    /// answered while it lasted.
    pub async fn strike(self, scene: &Scene<'_>) -> Result<u64> {
        let cast = scene.followers().await?;
        let time = match self {
            Self::LeaderPaused | Self::FollowerPaused | Self::AgentPaused => scene.some(PAUSE_MIN, scene.pause_max),
            _ => scene.some(LASTS.0, LASTS.1),
        };
        self.begin(scene, cast).await?;
        let before = scene.cluster.operations();
        let during = || scene.cluster.operations() - before;
        let (end, latest) = (Instant::now() + time, Instant::now() + time + ENOUGH_WITHIN);
        while Instant::now() < end || (during() < OPERATIONS_MIN && Instant::now() < latest) {
            sleep(STEP).await;
            if self == Self::Resets {
                self.change_weather(scene, cast.0);
            }
        }
        let answered = during();
        self.end(scene, cast)?;
        Ok(answered)
    }

    async fn begin(self, scene: &Scene<'_>, (leader, follower, other): Cast) -> Result<()> {
        match self {
            Self::LeaderKilled => scene.kill(leader),
            Self::FollowerKilled => scene.kill(follower),
            Self::AllKilled => {
                // Nothing can be answered until they run again: what counts is what is answered from then on.
                [leader, follower, other].into_iter().for_each(|it| scene.kill(it));
                sleep(scene.some(Duration::ZERO, LASTS.0)).await;
                [leader, follower, other].into_iter().try_for_each(|it| scene.start(it))?;
            }
            Self::AgentKilled => scene.kill_agent(),
            Self::LeaderPaused => scene.signal(leader, Signal::STOP)?,
            Self::FollowerPaused => scene.signal(follower, Signal::STOP)?,
            Self::AgentPaused => scene.signal_agent(Signal::STOP)?,
            Self::LeaderCutOff | Self::LeaderMute | Self::Bridge | Self::SlowWire => {
                self.break_network(scene, (leader, follower, other))?;
            }
            Self::DiskFull => scene.fill(leader).await?,
            Self::LeaderClock => scene.shift(leader, HOUR_SECONDS).await?,
            Self::FollowerClock => scene.shift(follower, YEAR_SECONDS).await?,
            Self::AgentClock => scene.set_clock(AGENT, 2 * scene.sign())?,
            _ => self.change_weather(scene, leader),
        }
        Ok(())
    }

    fn end(self, scene: &Scene<'_>, (leader, follower, _): Cast) -> Result<()> {
        match self {
            Self::LeaderKilled => scene.start(leader),
            Self::FollowerKilled => scene.start(follower),
            Self::AllKilled => Ok(()),
            Self::AgentKilled => scene.start_agent(),
            Self::LeaderPaused => scene.signal(leader, Signal::CONT),
            Self::FollowerPaused => scene.signal(follower, Signal::CONT),
            Self::AgentPaused => scene.signal_agent(Signal::CONT),
            Self::LeaderCutOff | Self::LeaderMute | Self::Bridge | Self::SlowWire => scene.network.mend(),
            Self::DiskFull => Ok(std::fs::remove_file(scene.filler(leader))?),
            Self::LeaderClock => scene.set_clock(&host(leader), 0),
            Self::FollowerClock => scene.set_clock(&host(follower), 0),
            Self::AgentClock => scene.set_clock(AGENT, 0),
            _ => {
                scene.gates.mend();
                Ok(())
            }
        }
    }

    /// What namespaces can do.
    fn break_network(self, scene: &Scene<'_>, (leader, follower, other): Cast) -> Result<()> {
        let deafen = |from: usize, to: usize| scene.network.deafen(&host(from), to);
        let apart = |one: usize, another: usize| deafen(one, another).and_then(|()| deafen(another, one));
        match self {
            Self::LeaderCutOff => apart(leader, follower).and_then(|()| apart(leader, other)),
            // Behind the servers there is the agent.
            Self::LeaderMute => {
                [follower, other, SERVERS + 1, CALLERS].into_iter().try_for_each(|to| deafen(leader, to))
            }
            Self::Bridge => {
                let ends = [(follower, other), (leader, follower), (leader, other)];
                let (one, another) = ends[scene.draw.next_u64() as usize % ends.len()];
                apart(one, another)
            }
            _ => scene.network.slow(&host(leader), 256),
        }
    }

    /// What gates can do, on the ways to the leader and from it.
    fn change_weather(self, scene: &Scene<'_>, leader: usize) {
        let name = host(leader);
        let of_leader = |from: &str, to: usize| from == name || to == leader;
        let between_servers = |from: &str, to: usize| to == leader && from.starts_with("server-") && from != name;
        match self {
            Self::Delay => scene.gates.change(|_, _| true, |it| it.delay_millis = 80),
            Self::Stalls => scene.gates.change(|_, _| true, |it| it.stalls = 60),
            Self::Reorder => {
                // Connections that are there already have no place of their own in the queue.
                let change = |it: &mut Weather| (it.skew_millis, it.resets) = (120, it.resets + 1);
                scene.gates.change(of_leader, change);
            }
            Self::Resets => scene.gates.change(of_leader, |it| it.resets += 1),
            Self::OneWay => scene.gates.change(between_servers, |it| it.holds_down = true),
            Self::HalfOpen => scene.gates.change(between_servers, |it| it.is_half_open = true),
            _ => scene.gates.change(of_leader, |it| it.rate = Some(32 * 1024)),
        }
    }
}

impl Scene<'_> {
    /// Ahead or behind.
    fn sign(&self) -> i64 {
        if self.draw.next_u64().is_multiple_of(2) { 1 } else { -1 }
    }

    /// The clock of a server steps, and the cluster sees it.
    async fn shift(&self, server: usize, seconds: i64) -> Result<()> {
        let (seconds, end) = (self.sign() * seconds, Instant::now() + SHOWS_WITHIN);
        self.set_clock(&host(server), seconds)?;
        loop {
            let seen = self.cluster.client().cluster(false).await?;
            let offset = |name: &str| seen.nodes.iter().find(|it| it.name == name)?.clock_offset_millis;
            let others = (1..=SERVERS).filter(|it| *it != server).find_map(|it| offset(&host(it)));
            // Both against the clock of whoever answers, which may be this one.
            let shift = offset(&host(server)).zip(others).map(|(this, other)| this - other);
            if shift.is_some_and(|millis| (millis - 1000 * seconds).abs() < SHIFT_MILLIS) {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("the clock of {} was set {seconds} s off and is {shift:?} ms off", host(server));
            }
            sleep(10 * PAUSE).await;
        }
    }

    fn filler(&self, server: usize) -> PathBuf {
        self.place.join(host(server)).join("filler")
    }

    /// Nothing more fits on the leader's disk; another one leads.
    async fn fill(&self, leader: usize) -> Result<()> {
        let mut file = std::fs::File::create(self.filler(leader))?;
        while file.write_all(&[1; 4096]).is_ok() {}
        let end = Instant::now() + HANDS_OVER_WITHIN;
        while self.leader().await? == leader {
            if Instant::now() > end {
                bail!("{} leads with a full disk after {HANDS_OVER_WITHIN:?}", host(leader));
            }
            sleep(10 * PAUSE).await;
        }
        Ok(())
    }
}

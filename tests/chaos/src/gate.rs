//! The proxy between hosts: on every host a gate stands for every server, and whatever goes through it is delayed,
//! stalled, slowed, reset or swallowed as the weather of that way is.
//!
//! It refuses to look at or to change what passes.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use certwright_seams::Entropy;
use certwright_seams::entropy::SystemEntropy;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::network::{namespace, real, told};

/// Where gates stand.
const PORTS: [u16; 2] = [7443, 7444];
const BUFFER_OCTETS: usize = 16 * 1024;
/// How often a gate looks at the weather while nothing passes.
const LOOK: Duration = Duration::from_millis(20);
/// A stall is as long as TCP takes to send again what was lost: between these.
const STALL_MILLIS: (u64, u64) = (200, 1200);

/// What happens on one way.
#[derive(Clone, Default)]
pub struct Weather {
    /// Longest delay of what passes, in milliseconds; drawn for every piece.
    pub delay_millis: u64,
    /// Longest delay of a whole connection, so that connections overtake each other.
    pub skew_millis: u64,
    /// Of a thousand pieces so many are lost and sent again.
    pub stalls: u64,
    /// Octets in a second.
    pub rate: Option<u64>,
    /// What is sent towards the server waits.
    pub holds_up: bool,
    /// What the server answers waits.
    pub holds_down: bool,
    /// The server's half is closed, the caller's stays open and silent.
    pub is_half_open: bool,
    /// Connections of before a change of this number are reset.
    pub resets: u64,
}

/// Ways: the host that calls, and the number of the server that is called.
type Ways = BTreeMap<(String, usize), Weather>;

/// All gates.
#[derive(Clone)]
pub struct Gates {
    ways: Arc<Mutex<Ways>>,
    servers: usize,
}

impl Gates {
    /// Opens gates to so many servers on these hosts, and here.
    pub fn open(hosts: &[String], servers: usize) -> Result<Self> {
        let gates = Self { ways: Arc::default(), servers };
        for host in hosts.iter().map(|host| Some(host.clone())).chain([None]) {
            let (opened, is_open) = std::sync::mpsc::channel();
            let gates = gates.clone();
            std::thread::spawn(move || opened.send(gates.stand(host, &opened)));
            is_open.recv()??;
        }
        Ok(gates)
    }

    /// Has the weather of some ways be another one.
    pub fn change(&self, is_meant: impl Fn(&str, usize) -> bool, change: impl Fn(&mut Weather)) {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        for ((from, to), weather) in &mut *ways {
            if is_meant(from, *to) {
                change(weather);
            }
        }
    }

    /// Fair weather everywhere.
    pub fn mend(&self) {
        self.change(|_, _| true, |weather| *weather = Weather { resets: weather.resets, ..Weather::default() });
    }

    fn weather(&self, way: &(String, usize)) -> Weather {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner).entry(way.clone()).or_default().clone()
    }

    /// Stands on one host until the run ends.
    fn stand(&self, host: Option<String>, opened: &std::sync::mpsc::Sender<Result<()>>) -> Result<()> {
        if let Some(host) = &host {
            let file = std::fs::File::open(namespace(host))?;
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network))?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let from = host.unwrap_or_default();
            let mut standing = tokio::task::JoinSet::new();
            for (to, port) in (1..=self.servers).flat_map(|to| PORTS.map(|port| (to, port))) {
                let listener = TcpListener::bind((told(to), port)).await?;
                let (gates, way) = (self.clone(), (from.clone(), to));
                gates.weather(&way);
                standing.spawn(async move { gates.accept(listener, way, SocketAddr::from((real(to), port))).await });
            }
            let _ = opened.send(Ok(()));
            while standing.join_next().await.is_some() {}
            Ok(())
        })
    }

    async fn accept(self, listener: TcpListener, way: (String, usize), to: SocketAddr) {
        loop {
            match listener.accept().await {
                Ok((caller, _)) => {
                    let (gates, way) = (self.clone(), way.clone());
                    tokio::spawn(async move { gates.pass(caller, way, to).await });
                }
                // A gate that closed by itself would be a fault that nobody ordered.
                Err(error) => {
                    eprintln!("the gate of {way:?}: {error}");
                    sleep(LOOK).await;
                }
            }
        }
    }

    /// One connection, to its end.
    async fn pass(&self, caller: TcpStream, way: (String, usize), to: SocketAddr) {
        let weather = self.weather(&way);
        let skew = Duration::from_millis(SystemEntropy.next_u64() % (weather.skew_millis + 1));
        let server = match TcpStream::connect(to).await {
            _ if weather.is_half_open => return swallow(caller).await,
            Ok(server) => server,
            Err(_) => return reset(&caller),
        };
        let _ = (caller.set_nodelay(true), server.set_nodelay(true));
        let ((from_caller, to_caller), (from_server, to_server)) = (caller.into_split(), server.into_split());
        let flow = |is_up| Flow { gates: self, way: &way, is_up, skew, resets: weather.resets };
        let (up, down) = (flow(true), flow(false));
        let (mut one, mut other) = (Half(from_caller, to_server), Half(from_server, to_caller));
        let end = tokio::select! {
            end = up.run(&mut one) => end,
            end = down.run(&mut other) => end,
        };
        let (Half(from_caller, to_server), Half(from_server, to_caller)) = (one, other);
        let Ok(caller) = from_caller.reunite(to_caller) else { return };
        let Ok(server) = from_server.reunite(to_server) else { return };
        match end {
            End::Swallowed => {
                reset(&server);
                drop(server);
                swallow(caller).await;
            }
            End::Reset => {
                reset(&caller);
                reset(&server);
            }
            End::Closed => {}
        }
    }
}

/// How a connection ended.
enum End {
    Closed,
    Reset,
    Swallowed,
}

/// Where octets come from and where they go.
struct Half(OwnedReadHalf, OwnedWriteHalf);

/// One direction of one connection.
struct Flow<'a> {
    gates: &'a Gates,
    way: &'a (String, usize),
    is_up: bool,
    skew: Duration,
    resets: u64,
}

impl Flow<'_> {
    async fn run(&self, Half(from, to): &mut Half) -> End {
        let mut buffer = vec![0; BUFFER_OCTETS];
        loop {
            let read = tokio::select! {
                biased;
                read = from.read(&mut buffer) => read,
                end = self.ends() => return end,
            };
            let octets = match read {
                Ok(0) => return End::Closed,
                Ok(count) => &buffer[..count],
                Err(_) => return End::Reset,
            };
            tokio::select! {
                biased;
                end = self.ends() => return end,
                done = self.pass_on(octets, to) => if done.is_err() { return End::Reset },
            }
        }
    }

    /// Waits until the weather ends the connection.
    async fn ends(&self) -> End {
        loop {
            let weather = self.gates.weather(self.way);
            if weather.is_half_open {
                return End::Swallowed;
            }
            if weather.resets != self.resets {
                return End::Reset;
            }
            sleep(LOOK).await;
        }
    }

    async fn pass_on(&self, octets: &[u8], to: &mut OwnedWriteHalf) -> io::Result<()> {
        let weather = self.gates.weather(self.way);
        let draw = |below: u64| SystemEntropy.next_u64() % below.max(1);
        let mut wait = Duration::from_millis(draw(weather.delay_millis + 1));
        if weather.skew_millis > 0 {
            wait += self.skew;
        }
        if draw(1000) < weather.stalls {
            wait += Duration::from_millis(STALL_MILLIS.0 + draw(STALL_MILLIS.1 - STALL_MILLIS.0));
        }
        if let Some(rate) = weather.rate {
            wait += Duration::from_millis(octets.len() as u64 * 1000 / rate.max(1));
        }
        if !wait.is_zero() {
            sleep(wait).await;
        }
        let holds = |weather: Weather| if self.is_up { weather.holds_up } else { weather.holds_down };
        while holds(self.gates.weather(self.way)) {
            sleep(LOOK).await;
        }
        to.write_all(octets).await
    }
}

/// Takes what comes and never answers.
async fn swallow(mut caller: TcpStream) {
    let mut buffer = vec![0; BUFFER_OCTETS];
    while caller.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
}

/// Has it end with a reset when it is dropped.
fn reset(stream: &TcpStream) {
    // One that has ended already cannot be reset.
    let _ = stream.set_zero_linger();
}

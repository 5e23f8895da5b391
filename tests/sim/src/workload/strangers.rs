//! Somebody who connects to a server as often as he can and says nothing. I17.
//!
//! It refuses to hold on for ever: servers must stay of use to those who have business there.

use std::time::Duration;

use certwright_api::limits::{HANDSHAKES_MAX, HANDSHAKES_PER_ADDRESS_MAX};
use certwright_seams::Entropy;
use tokio::time::{sleep, timeout};
use turmoil::net::TcpStream;

use crate::estate::Estate;

/// Connections of one siege.
const CONNECTIONS: usize = 400;
/// Honest callers of a run, each with a few connections.
const HONEST: usize = 64;
/// Open connections that a server's API port may have at once while all strangers come from one address: half of the
/// places for handshakes, one address's share of the rest, and the honest ones.
const GUESTS_MAX: usize = HANDSHAKES_MAX / 2 + HANDSHAKES_PER_ADDRESS_MAX + HONEST;
/// Sieges of one run.
const SIEGES: usize = 3;
const API_PORT: u16 = 7443;

/// Besieges one server after the other.
pub(crate) async fn besiege(estate: &Estate) {
    let draw = estate.draw(9);
    for _ in 0..SIEGES {
        sleep(Duration::from_millis(draw.next_u64() % 8000)).await;
        let servers = estate.servers();
        let server = &servers[draw.next_u64() as usize % servers.len()];
        estate.fault("siege");
        let knock = || async { timeout(Duration::from_secs(1), TcpStream::connect((server.as_str(), API_PORT))).await };
        let knocking = futures_util::future::join_all((0..CONNECTIONS).map(|_| knock()));
        let held = knocking.await;
        sleep(Duration::from_millis(draw.next_u64() % 4000)).await;
        drop(held);
    }
}

/// Whether any server let in more than it has places for.
pub(crate) fn check(estate: &Estate) {
    for server in estate.hosts() {
        let most = estate.machine(server).guests.most(API_PORT);
        if most > GUESTS_MAX {
            estate.verdict.report("I17", "strangers", format_args!("{server} had {most} connections at once"));
        }
    }
}

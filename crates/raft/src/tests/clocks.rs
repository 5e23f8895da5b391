//! Machines whose clocks are wrong.
//!
//! It refuses to wait for time to pass: clocks are set.

use certwright_seams::Clock;

use super::cluster::{Cluster, eventually, say_somewhere};
use crate::limits::CLOCK_AHEAD_MAX;

const HOUR_MILLIS: i64 = 3_600_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_clock_is_an_hour_off_gives_way_and_takes_nobody_along() {
    let mut cluster = Cluster::of(3).await;
    for (number, off) in [(1, HOUR_MILLIS), (2, -HOUR_MILLIS)] {
        let old = cluster.leader().await.status().node_id;
        let clock = cluster.node(old).clock.clone();
        clock.set_skew_millis(off);
        say_somewhere(&cluster, number, "while it leads").await;
        let term = cluster.leader().await.status().term;
        eventually("another leader", async || {
            let status = cluster.leader().await.status();
            (status.node_id != old && status.term >= term).then_some(())
        })
        .await;
        say_somewhere(&cluster, number + 10, "after it").await;
        clock.set_skew_millis(0);
        let (now, at) = (clock.wall_millis(), cluster.leader().await.read(|view| view.at.millis()));
        assert!(at.abs_diff(now) <= CLOCK_AHEAD_MAX.as_millis() as u64 + 1000, "log time is {at}, it is {now}");
        // Nobody takes it for wrong any more before the next one is.
        eventually("a good clock", async || {
            let ahead = cluster.nodes[(old - 1) as usize].log().clock_ahead_millis()?;
            (ahead.abs() < 1000).then_some(())
        })
        .await;
    }
    cluster.agree().await;
}

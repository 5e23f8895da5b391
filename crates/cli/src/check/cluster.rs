//! Checks of the servers: who leads, who votes, who is behind, what they run on.
//!
//! It refuses to judge what an absent server did not say.

use std::time::Duration;

use certwright_core::limits::REBASE_MIN;
use certwright_core::time::Timestamp;
use certwright_core::{Format, Reason};
use certwright_proto::v1;

use super::{Check, Level};
use crate::operator::clock;
use crate::output;

/// Entries that a server may be behind the furthest one: a second of a busy cluster.
const BEHIND_MAX: u64 = 1000;
/// Clocks further apart are worth a look, in milliseconds.
const CLOCKS_WARN_MILLIS: i64 = 500;
/// Further apart, certificates may begin in the future of those who use them.
const CLOCKS_ERROR_MILLIS: i64 = 5000;
/// Less room for the log is worth a look, in octets.
const DISK_WARN_OCTETS: u64 = 2 << 30;
/// Less is about to stop a server: a few segments of the log.
const DISK_ERROR_OCTETS: u64 = 256 << 20;
/// A leader is missed too easily when this many round trips do not fit into the wait for it.
const ROUND_TRIPS_MIN: u64 = 5;
/// A server's identity should not end sooner, in seconds.
const IDENTITY_WARN_SECONDS: u64 = 30 * 86_400;

/// All of them.
pub(super) fn checks(cluster: &v1::GetClusterResponse, now: Timestamp) -> Vec<Check> {
    let nodes: Vec<&v1::Node> = cluster.nodes.iter().filter(|node| node.role != "removed").collect();
    vec![
        leader(cluster),
        servers(&nodes),
        quorum(&nodes),
        replication(&nodes),
        data_key(&nodes),
        clocks(&nodes),
        log_time(cluster),
        disks(&nodes),
        timers(&nodes),
        renewals(cluster),
        logs(&nodes),
        backups(&nodes, now),
        history(cluster, &nodes),
        format(cluster, &nodes),
        identities(&nodes, now),
    ]
}

fn answers(node: &v1::Node) -> bool {
    node.role != "unreachable"
}

fn leader(cluster: &v1::GetClusterResponse) -> Check {
    let good = format!("{} leads in term {}", cluster.leader, cluster.term);
    let none = (Level::Error, "no server leads: renewals and changes wait".to_string());
    let found = cluster.leader.is_empty().then_some(none).into_iter().collect();
    Check::new("cluster/leader", good, found, "start servers until a majority of those that vote answers")
}

fn renewals(cluster: &v1::GetClusterResponse) -> Check {
    let found = cluster.renewal_hold.as_ref().map(|hold| {
        let ahead = hold.ahead.as_ref().map_or(0, |ahead| u64::try_from(ahead.seconds).unwrap_or_default());
        let ahead = certwright_proto::manifest::duration::format(Duration::from_secs(ahead));
        let text = format!(
            "held back: log time jumped, or was set back, by {ahead}; {} begun this hour, {} due",
            hold.begun, cluster.due
        );
        (Level::Error, text)
    });
    let hint = "if the servers' clocks and log time are right: certwright operator renewals release";
    Check::new("cluster/renewals", "begun as they are due".to_string(), found.into_iter().collect(), hint)
}

fn logs(nodes: &[&v1::Node]) -> Check {
    let told = nodes.iter().flat_map(|node| node.refused_logs.iter().map(|told| (&node.name, told)));
    let found = told.map(|(node, told)| {
        let v1::RefusedLog { server, times, cause } = told;
        (Level::Error, output::plain(&format!("agents refused {server}'s log {times} times, as {node} heard: {cause}")))
    });
    let hint = "take the server that was refused out and find out who set its data back; a restart of those who heard forgets it";
    Check::new("cluster/logs", "no agent refused one".to_string(), found.collect(), hint)
}

fn servers(nodes: &[&v1::Node]) -> Check {
    let found = nodes.iter().filter_map(|node| match answers(node) {
        false => Some((Level::Error, format!("{} does not answer", node.name))),
        true if !node.voter && !node.learner => Some((Level::Warn, format!("{} does not vote yet", node.name))),
        true => None,
    });
    Check::new("cluster/servers", format!("all {} answer", nodes.len()), found.collect(), Reason::ClusterDegraded.fix())
}

fn quorum(nodes: &[&v1::Node]) -> Check {
    let voters: Vec<_> = nodes.iter().filter(|node| node.voter).collect();
    let (all, answering) = (voters.len(), voters.iter().filter(|node| answers(node)).count());
    let needed = all / 2 + 1;
    let (found, hint) = if answering < needed {
        let text = format!("{answering} of {all} voters answer, {needed} are needed");
        (Some((Level::Error, text)), "start servers that vote; reads are answered meanwhile")
    } else if all == 1 {
        let text = "one server votes: without it nothing is renewed".to_string();
        (Some((Level::Warn, text)), "let two more join: certwright token create --role node")
    } else if answering == needed && answering < all {
        let text = format!("{answering} of {all} voters answer: the loss of one more stops renewals and changes");
        (Some((Level::Warn, text)), "start the servers that are away, or take them out and let others join")
    } else if all % 2 == 0 {
        let text = format!("{all} voters survive the loss of {}, as {} would", all - needed, all - 1);
        (Some((Level::Warn, text)), "let one more join, or demote one: certwright operator raft demote NAME")
    } else {
        (None, "")
    };
    let good = format!("{answering} of {all} voters answer, {} can be spared", answering.saturating_sub(needed));
    Check::new("cluster/quorum", good, found.into_iter().collect(), hint)
}

fn replication(nodes: &[&v1::Node]) -> Check {
    let furthest = nodes.iter().map(|node| node.applied_index).max().unwrap_or_default();
    let behind = |node: &v1::Node| furthest.saturating_sub(node.applied_index);
    let far = nodes.iter().filter(|node| answers(node) && behind(node) > BEHIND_MAX);
    let found = far.map(|node| (Level::Warn, format!("{} is {} entries behind", node.name, behind(node))));
    let good = format!("all within {BEHIND_MAX} entries of index {furthest}");
    Check::new(
        "cluster/replication",
        good,
        found.collect(),
        "it catches up by itself; if not, look at its disk and log",
    )
}

fn data_key(nodes: &[&v1::Node]) -> Check {
    let cannot = nodes.iter().filter(|node| node.voter && answers(node) && !node.unsealed);
    let found = cannot.map(|node| (Level::Error, format!("{} votes and cannot open the data key", node.name)));
    let hint = "its unseal.key is not the one it joined with: put it back, or take the server out and let it join anew";
    Check::new("cluster/data-key", "every voter that answers can sign as leader".to_string(), found.collect(), hint)
}

fn clocks(nodes: &[&v1::Node]) -> Check {
    let offsets = || nodes.iter().filter_map(|node| Some((node.clock_offset_millis?, &node.name)));
    let (Some(slow), Some(fast)) = (offsets().min(), offsets().max()) else {
        let unknown = (Level::Warn, "no server says what time it is".to_string());
        return Check::new("cluster/clocks", String::new(), vec![unknown], "upgrade the servers");
    };
    let apart = fast.0 - slow.0;
    let level = match apart {
        CLOCKS_ERROR_MILLIS.. => Level::Error,
        CLOCKS_WARN_MILLIS.. => Level::Warn,
        _ => Level::Good,
    };
    let text = format!("{} is {apart} ms ahead of {}", fast.1, slow.1);
    let found = if level == Level::Good { Vec::new() } else { vec![(level, text)] };
    let good = format!("at most {apart} ms apart");
    Check::new("cluster/clocks", good, found, "have every server's clock set by NTP")
}

/// Clocks that were wrong together take log time along, and it stays ahead when they are right again.
fn log_time(cluster: &v1::GetClusterResponse) -> Check {
    let found = clock::ahead(cluster).filter(|ahead| *ahead > REBASE_MIN).map(|ahead| {
        let text = format!("log time is {} ahead of {}'s clock", clock::seconds(ahead), cluster.answered_by);
        (Level::Error, text)
    });
    let hint = "have the servers' clocks set right; if log time is still ahead: certwright operator clock rebase";
    Check::new(
        "cluster/log-time",
        "with the clock of the server that answers".to_string(),
        found.into_iter().collect(),
        hint,
    )
}

fn disks(nodes: &[&v1::Node]) -> Check {
    let known = || nodes.iter().filter_map(|node| Some((node, node.disk_available_octets?)));
    let found = known().filter_map(|(node, octets)| {
        let level = match octets {
            octets if octets < DISK_ERROR_OCTETS => Level::Error,
            octets if octets < DISK_WARN_OCTETS => Level::Warn,
            _ => return None,
        };
        Some((level, format!("{} has {} MiB left", node.name, octets >> 20)))
    });
    let least = known().map(|(_, octets)| octets >> 30).min().unwrap_or_default();
    let good = format!("at least {least} GiB left on every server");
    Check::new("cluster/disks", good, found.collect(), "free space where its --data lies; a full disk stops a server")
}

/// One good backup is enough, whichever server made it.
fn backups(nodes: &[&v1::Node], now: Timestamp) -> Check {
    let scheduled: Vec<_> = nodes.iter().filter(|node| answers(node) && node.backup_every_seconds > 0).collect();
    if scheduled.is_empty() {
        return Check::new("cluster/backups", "no server makes backups by itself".to_string(), Vec::new(), "");
    }
    let age = |node: &v1::Node| {
        let last = node.backup_last_success.as_ref().and_then(output::timestamp)?;
        Some(now.since(last).as_secs())
    };
    let late = |node: &v1::Node| age(node).is_none_or(|age| age > 2 * node.backup_every_seconds);
    let newest = scheduled.iter().filter_map(|node| age(node)).min();
    let said = newest.map_or("none yet".to_string(), |age| format!("the last one {} ago", output::span(age)));
    let all_late = scheduled.iter().all(|node| late(node));
    let found = all_late.then(|| {
        let names: Vec<&str> = scheduled.iter().map(|node| &*node.name).collect();
        (Level::Warn, format!("no fresh backup from {}: {said}", names.join(", ")))
    });
    let hint = "the server's log says why; write one now: certwright operator backup create FILE --to KEY";
    Check::new("cluster/backups", format!("backups are made: {said}"), found.into_iter().collect(), hint)
}

/// Where history begins is the same for all; who lacks the state there makes no backups.
fn history(cluster: &v1::GetClusterResponse, nodes: &[&v1::Node]) -> Check {
    let first = cluster.retention.as_ref().map_or(0, |retention| retention.first_index);
    let said = nodes.iter().filter(|node| answers(node));
    let found = said.filter_map(|node| match node.history_first_index {
        _ if node.history_incomplete => Some((Level::Warn, format!("{} lacks a part of the history", node.name))),
        begins if begins < first => {
            Some((Level::Warn, format!("{} has not let go of what came before entry {first} yet", node.name)))
        }
        _ => None,
    });
    let good = match first {
        0 => "all of it is kept".to_string(),
        first => format!("it begins with entry {first} everywhere"),
    };
    let hint = "it takes a minute, and longer where a backup is being written; the server's log says why";
    Check::new("cluster/history", good, found.collect(), hint)
}

/// What no other server could read is not written: the one that knows least holds all up.
fn format(cluster: &v1::GetClusterResponse, nodes: &[&v1::Node]) -> Check {
    let in_use = Format::told(cluster.format);
    let knows = |node: &v1::Node| Format::told(node.format);
    let newest = nodes.iter().map(|node| knows(node)).max().unwrap_or_default().max(in_use);
    let found = nodes.iter().filter(|node| newest > in_use && knows(node) < newest).map(|node| {
        let why = if answers(node) { format!("knows format {}", knows(node)) } else { "does not answer".to_string() };
        (Level::Warn, format!("{} {why}: the log stays in format {in_use}, {newest} waits", node.name))
    });
    let good = format!("the log is written in format {in_use}, which all servers know");
    let hint = "upgrade it, or take it out; until then the others may go back to the build before";
    Check::new("cluster/format", good, found.collect(), hint)
}

fn timers(nodes: &[&v1::Node]) -> Check {
    let told = || nodes.iter().filter(|node| node.election_millis > 0);
    let slowest = told().map(|node| node.round_trip_micros).max().unwrap_or_default().div_ceil(1000);
    let shortest = told().map(|node| node.election_millis).min().unwrap_or_default();
    let mut found = Vec::new();
    for node in told().filter(|node| ROUND_TRIPS_MIN * node.round_trip_micros > 1000 * shortest) {
        let (name, took) = (&node.name, node.round_trip_micros / 1000);
        found
            .push((Level::Warn, format!("{name} answers after {took} ms, and a leader is missed after {shortest} ms")));
    }
    let odd = told().find(|node| node.election_millis != shortest);
    found.extend(odd.map(|node| (Level::Warn, format!("{} waits for a leader longer than the others", node.name))));
    let good = format!("the slowest answers after {slowest} ms, a leader is missed after {shortest} ms");
    // A quarter more than what was measured, and no less than what is configured: a fifth of the wait.
    let configured = told().map(|node| node.election_millis).max().unwrap_or_default() / ROUND_TRIPS_MIN;
    let hint = format!("start every server with --round-trip {}ms", configured.max(slowest + slowest / 4));
    Check::new("cluster/timers", good, found, hint)
}

fn identities(nodes: &[&v1::Node], now: Timestamp) -> Check {
    let ends = |node: &v1::Node| node.identity_not_after.as_ref().and_then(output::timestamp);
    let found = nodes.iter().filter_map(|node| match ends(node)? {
        end if end <= now => Some((Level::Error, format!("{}'s identity has expired", node.name))),
        end if end.since(now).as_secs() < IDENTITY_WARN_SECONDS => {
            Some((Level::Warn, format!("{}'s identity ends {end}", node.name)))
        }
        _ => None,
    });
    let found: Vec<_> = found.collect();
    let good = "no server's identity ends within 30 days".to_string();
    Check::new("identities/servers", good, found, "take it out and let it join again under a new name, one at a time")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn node(number: u64) -> v1::Node {
        let end = NOW.plus(std::time::Duration::from_secs(100 * 86_400));
        v1::Node {
            name: format!("server-{number}"),
            node_id: number,
            role: if number == 1 { "leader" } else { "follower" }.to_string(),
            applied_index: 5000,
            unsealed: true,
            voter: true,
            clock_offset_millis: Some(0),
            disk_available_octets: Some(9 << 30),
            heartbeat_millis: 100,
            election_millis: 500,
            round_trip_micros: 900,
            identity_not_after: Some(certwright_proto::api::values::moment_to_message(end)),
            ..v1::Node::default()
        }
    }

    /// What three healthy servers are found to be once one of them was changed.
    fn changed(change: impl FnOnce(&mut v1::GetClusterResponse)) -> Vec<(&'static str, Level, String)> {
        let mut cluster = v1::GetClusterResponse {
            leader: "server-1".to_string(),
            nodes: (1..=3).map(node).collect(),
            ..v1::GetClusterResponse::default()
        };
        change(&mut cluster);
        let found = checks(&cluster, NOW).into_iter().filter(|check| check.level != Level::Good);
        found.map(|check| (check.name, check.level, check.detail)).collect()
    }

    fn one(name: &'static str, level: Level, detail: &str) -> Vec<(&'static str, Level, String)> {
        vec![(name, level, detail.to_string())]
    }

    #[test]
    fn three_healthy_servers_have_no_finding() {
        assert_eq!(changed(|_| {}), vec![]);
        // One that was taken out is nobody's business, and a learner need neither vote nor open the data key.
        let gone = |cluster: &mut v1::GetClusterResponse| {
            cluster.nodes.push(v1::Node { role: "removed".into(), ..v1::Node::default() });
            let learner = v1::Node { role: "learner".into(), learner: true, voter: false, unsealed: false, ..node(5) };
            cluster.nodes.push(learner);
        };
        assert_eq!(changed(gone), vec![]);
    }

    #[test]
    fn each_check_finds_its_own() {
        use Level::{Error, Warn};
        assert_eq!(changed(|it| it.leader.clear())[0].0, "cluster/leader");
        let away = changed(|it| it.nodes[2].role = "unreachable".into());
        assert_eq!(away[0], ("cluster/servers", Error, "server-3 does not answer".to_string()));
        let text = "2 of 3 voters answer: the loss of one more stops renewals and changes";
        assert_eq!(away[1], ("cluster/quorum", Warn, text.to_string()));
        let lost = changed(|it| it.nodes[1..].iter_mut().for_each(|node| node.role = "unreachable".into()));
        assert_eq!(lost[1], ("cluster/quorum", Error, "1 of 3 voters answer, 2 are needed".to_string()));
        let two = "2 voters survive the loss of 0, as 1 would";
        assert_eq!(changed(|it| it.nodes.truncate(2)), one("cluster/quorum", Warn, two));
        assert_eq!(changed(|it| it.nodes.truncate(1))[0].0, "cluster/quorum");
        let behind = changed(|it| it.nodes[1].applied_index = 3000);
        assert_eq!(behind, one("cluster/replication", Warn, "server-2 is 2000 entries behind"));
        let sealed = changed(|it| it.nodes[1].unsealed = false);
        assert_eq!(sealed, one("cluster/data-key", Error, "server-2 votes and cannot open the data key"));
        let clocks = changed(|it| it.nodes[1].clock_offset_millis = Some(-700));
        assert_eq!(clocks, one("cluster/clocks", Warn, "server-3 is 700 ms ahead of server-2"));
        let clocks = changed(|it| it.nodes[1].clock_offset_millis = Some(7000));
        assert_eq!(clocks, one("cluster/clocks", Error, "server-2 is 7000 ms ahead of server-1"));
        let disk = changed(|it| it.nodes[0].disk_available_octets = Some(1 << 30));
        assert_eq!(disk, one("cluster/disks", Warn, "server-1 has 1024 MiB left"));
        let disk = changed(|it| it.nodes[0].disk_available_octets = Some(1 << 20));
        assert_eq!(disk, one("cluster/disks", Error, "server-1 has 1 MiB left"));
        let far = changed(|it| it.nodes[2].round_trip_micros = 170_000);
        let text = "server-3 answers after 170 ms, and a leader is missed after 500 ms";
        assert_eq!(far, one("cluster/timers", Warn, text));
        assert_eq!(changed(|it| it.nodes[2].round_trip_micros = 82_000), vec![], "80 ms between regions");
        let hold = |cluster: &mut v1::GetClusterResponse| {
            let ahead = Some(prost_types::Duration { seconds: 7200, nanos: 0 });
            (cluster.renewal_hold, cluster.due) = (Some(v1::RenewalHold { ahead, begun: 3, since: None }), 40);
        };
        let text = "held back: log time jumped, or was set back, by 2h; 3 begun this hour, 40 due";
        assert_eq!(changed(hold), one("cluster/renewals", Error, text));
        let ahead = |seconds: i64| {
            changed(|it| {
                let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
                (it.clock, it.log_time, it.answered_by) = (at(1000), at(1000 + seconds), "server-2".into());
            })
        };
        assert_eq!((ahead(-5), ahead(10)), (vec![], vec![]));
        assert_eq!(ahead(7200), one("cluster/log-time", Error, "log time is 2h ahead of server-2's clock"));
        let told = v1::RefusedLog { server: "server-2".into(), times: 3, cause: "its log is another one".into() };
        let refused = changed(|it| it.nodes[0].refused_logs = vec![told.clone()]);
        let text = "agents refused server-2's log 3 times, as server-1 heard: its log is another one";
        assert_eq!(refused, one("cluster/logs", Error, text));
        let begins = |it: &mut v1::GetClusterResponse| {
            it.retention = Some(v1::Retention { first_index: 70, ..Default::default() });
            it.nodes.iter_mut().for_each(|node| node.history_first_index = 70);
        };
        assert_eq!(changed(begins), vec![]);
        let late = changed(|it| {
            begins(it);
            it.nodes[1].history_first_index = 0;
        });
        let text = "server-2 has not let go of what came before entry 70 yet";
        assert_eq!(late, one("cluster/history", Warn, text));
        let lacking = changed(|it| it.nodes[2].history_incomplete = true);
        assert_eq!(lacking, one("cluster/history", Warn, "server-3 lacks a part of the history"));
        let (old, told) = ("server-2 knows format 1: the log stays in format 1, 2 waits", |format| {
            move |it: &mut v1::GetClusterResponse| it.nodes.iter_mut().for_each(|node| node.format = format)
        });
        let lags = changed(|it| {
            told(2)(it);
            it.nodes[1].format = 0;
        });
        assert_eq!(lags, one("cluster/format", Warn, old));
        assert_eq!(changed(told(2)), vec![], "about to be taken into use");
        let ended = changed(|it| it.nodes[0].identity_not_after = Some(prost_types::Timestamp::default()));
        assert_eq!(ended, one("identities/servers", Error, "server-1's identity has expired"));
    }

    #[test]
    fn the_hint_of_timers_fits_the_slowest_server() {
        let mut cluster = v1::GetClusterResponse { nodes: (1..=3).map(node).collect(), ..Default::default() };
        cluster.nodes[2].round_trip_micros = 169_500;
        let check = checks(&cluster, NOW).into_iter().find(|check| check.name == "cluster/timers").unwrap();
        assert_eq!(check.hint, "start every server with --round-trip 212ms");
    }
}

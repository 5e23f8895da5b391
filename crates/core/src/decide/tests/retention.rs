//! For how long history is kept, and when some of it may go.

use std::time::Duration;

use crate::command::Command;
use crate::event::{Event, HistoryTrimmed};
use crate::format::Format;
use crate::ids::cluster_stream;
use crate::limits::{RETENTION_GRACE, RETENTION_MARGIN, RETENTION_MAX, RETENTION_MIN};
use crate::log::StreamId;
use crate::rejection::Reason;
use crate::state::StillKept;
use crate::tests::fixtures::estate;
use crate::tests::harness::{World, given};
use crate::time::Timestamp;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn on_cluster(event: Event) -> (StreamId, Event) {
    (cluster_stream(), event)
}

fn set(keep: Option<Duration>) -> Command {
    Command::SetRetention { keep }
}

fn kept(keep: Duration) -> (StreamId, Event) {
    on_cluster(Event::RetentionSet { keep_seconds: keep.as_secs() })
}

/// A cluster that writes the format which knows of retention.
fn world() -> World {
    let mut world = given(estate());
    world.happen(cluster_stream(), Event::FormatRaised { format: Format(3) });
    world
}

/// The third entry and what came before: two days and a week ago.
fn trimmed(world: &World) -> HistoryTrimmed {
    let (last_at, last_not_after) = (world.now.minus(2 * DAY), world.now.minus(DAY));
    let [last_at, last_not_after] = [last_at, last_not_after].map(|at| at.minus(RETENTION_MARGIN));
    let (chain, digest) = ([1; 32], [2; 32]);
    HistoryTrimmed { first_index: 3, chain, digest, digest_version: 1, last_at, last_not_after }
}

#[test]
fn history_is_kept_for_a_day_at_least_or_for_ever() {
    let world = world().when(set(None)).then_unchanged();
    for keep in [Duration::ZERO, RETENTION_MIN - Duration::from_secs(1), RETENTION_MAX + Duration::from_secs(1)] {
        let refused = world.decide(&set(Some(keep))).unwrap_err();
        assert_eq!((refused.reason, refused.field.as_deref()), (Reason::InvalidSpec, Some("keep")), "{keep:?}");
    }
    let world = world.when(set(Some(RETENTION_MIN))).then([kept(RETENTION_MIN)]);
    // Seconds are what counts.
    let world = world.when(set(Some(RETENTION_MIN + Duration::from_millis(1)))).then_unchanged();
    let world = world.when(set(Some(RETENTION_MAX))).then([kept(RETENTION_MAX)]);
    let world = world.when(set(None)).then([kept(Duration::ZERO)]);
    assert_eq!(world.state.cluster.retention.keep, None);
}

#[test]
fn nobody_deletes_what_a_server_could_not_know_to_be_deleted() {
    let world = given(estate());
    assert_eq!(world.decide(&set(Some(DAY))).unwrap_err().reason, Reason::UpgradePending);
}

#[test]
fn only_what_is_old_and_has_ended_goes() {
    let mut world = world();
    let right = trimmed(&world);
    let trim = |change: &dyn Fn(&mut HistoryTrimmed)| {
        let mut trimmed = right;
        change(&mut trimmed);
        Command::TrimHistory { trimmed }
    };
    let refused = |world: &World, command: &Command| world.decide(command).unwrap_err().reason;
    assert_eq!(refused(&world, &trim(&|_| {})), Reason::Moved, "all is kept");
    world.must(&set(Some(2 * DAY)));
    world.pass(RETENTION_GRACE);
    let right = trimmed(&world);
    let trim = |change: &dyn Fn(&mut HistoryTrimmed)| {
        let mut trimmed = right;
        change(&mut trimmed);
        Command::TrimHistory { trimmed }
    };
    let (now, newest) = (world.now, world.state.applied.index);
    assert_eq!(
        refused(&world, &trim(&|it| it.last_at = right.last_at.plus(Duration::from_millis(1)))),
        Reason::Moved,
        "it is too young"
    );
    let ended = now.minus(RETENTION_MARGIN);
    assert_eq!(refused(&world, &trim(&|it| it.last_not_after = ended)), Reason::Moved, "it ended within a week");
    assert!(world.decide(&trim(&|it| it.last_not_after = ended.minus(Duration::from_millis(1)))).is_ok());
    assert_eq!(refused(&world, &trim(&|it| it.first_index = 0)), Reason::Moved);
    assert_eq!(refused(&world, &trim(&|it| it.first_index = newest + 1)), Reason::Moved, "of the future");
    world.must(&Command::HoldRenewals { ahead_millis: 9 });
    assert_eq!(refused(&world, &trim(&|_| {})), Reason::Moved, "nobody knows what time it is");
    world.must(&Command::ReleaseRenewals);
    let world = world.when(trim(&|_| {})).then([on_cluster(Event::HistoryTrimmed(Box::new(right)))]);
    assert_eq!(world.state.cluster.retention.trimmed, Some(right));
    assert_eq!(refused(&world, &trim(&|_| {})), Reason::Moved, "it has gone");
    // Who was away lets go of both parts at once, by what is said of the second.
    let less = [trim(&|it| (it.first_index, it.last_not_after) = (4, Timestamp::EPOCH)), {
        trim(&|it| (it.first_index, it.last_at) = (4, Timestamp::EPOCH))
    }];
    assert!(less.iter().all(|less| refused(&world, less) == Reason::Moved));
    assert!(world.decide(&trim(&|it| it.first_index = 4)).is_ok());
}

#[test]
fn nothing_goes_within_a_day_of_a_shorter_time_being_set() {
    let mut world = world();
    let refused = |world: &World| world.decide(&Command::TrimHistory { trimmed: trimmed(world) }).is_err();
    let since = |world: &World| world.state.cluster.retention.since;
    world.must(&set(Some(2 * DAY)));
    let set_at = world.now;
    world.pass(RETENTION_GRACE - Duration::from_millis(1));
    assert!(refused(&world));
    // Whoever thinks better of it in time loses nothing.
    world.must(&set(None));
    world.pass(10 * DAY);
    assert!(refused(&world) && since(&world).is_none());
    world.must(&set(Some(2 * DAY)));
    assert!(since(&world) > Some(set_at) && refused(&world));
    world.pass(RETENTION_GRACE);
    assert!(!refused(&world));
    // More is kept: nobody has to think about that. Less is.
    let before = since(&world);
    world.must(&set(Some(4 * DAY)));
    assert_eq!(since(&world), before);
    world.must(&set(Some(DAY)));
    assert!(since(&world) > before && refused(&world));
    world.pass(RETENTION_GRACE);
    assert!(!refused(&world));
}

#[test]
fn the_day_is_one_by_the_time_that_holds_when_log_time_was_set_back() {
    let mut world = world();
    let right = world.now;
    world.pass(400 * DAY);
    world.must(&set(Some(2 * DAY)));
    world.must(&Command::RebaseTime { to: right });
    assert_eq!(world.state.cluster.retention.since, Some(right));
}

#[test]
fn every_server_judges_for_itself_whether_what_was_let_go_may_be_deleted() {
    let mut world = world();
    let (entry, ends) = (world.now, world.now.plus(3 * DAY));
    let claimed = HistoryTrimmed { last_at: entry, last_not_after: ends, ..trimmed(&world) };
    let may = |world: &World, now: Timestamp| world.state.cluster.may_delete(now);
    assert_eq!(may(&world, entry.plus(100 * DAY)), Err(StillKept::Forever), "nothing was let go");
    world.must(&set(Some(2 * DAY)));
    world.happen(cluster_stream(), Event::HistoryTrimmed(Box::new(claimed)));
    // What is set later changes nothing: others may have deleted it.
    world.must(&set(None));
    let due = ends.plus(RETENTION_MARGIN);
    assert_eq!(may(&world, entry), Err(StillKept::SetAt(entry)));
    assert_eq!(may(&world, entry.plus(DAY)), Err(StillKept::Young(entry, 2 * DAY)));
    assert_eq!(may(&world, due), Err(StillKept::Unended(ends)));
    let due = due.plus(Duration::from_millis(1));
    assert_eq!(may(&world, due), Ok(()));
    world.must(&Command::HoldRenewals { ahead_millis: 9 });
    assert_eq!(may(&world, due), Err(StillKept::Held));
    world.must(&Command::ReleaseRenewals);
    // Nobody begins earlier again.
    world.happen(cluster_stream(), Event::HistoryTrimmed(Box::new(HistoryTrimmed { first_index: 2, ..claimed })));
    assert_eq!(world.state.cluster.retention.trimmed, Some(claimed));
    let forgotten = HistoryTrimmed { first_index: 4, ..claimed };
    world.happen(cluster_stream(), Event::HistoryTrimmed(Box::new(forgotten)));
    assert_eq!(may(&world, due), Err(StillKept::Forever), "all was to be kept when that was said");
}

#[test]
fn what_was_stamped_too_late_counts_as_of_where_log_time_went_back_to() {
    let mut world = world();
    let right = world.now;
    world.must(&set(Some(2 * DAY)));
    world.pass(4000 * DAY);
    let claimed = HistoryTrimmed { last_at: world.now, last_not_after: Timestamp::EPOCH, ..trimmed(&world) };
    world.happen(cluster_stream(), Event::HistoryTrimmed(Box::new(claimed)));
    world.must(&Command::RebaseTime { to: right });
    world.must(&Command::ReleaseRenewals);
    let due = right.plus(2 * DAY).plus(RETENTION_MARGIN);
    let cluster = &world.state.cluster;
    assert_eq!(cluster.may_delete(due.minus(Duration::from_millis(1))), Err(StillKept::Young(right, 2 * DAY)));
    assert_eq!(cluster.may_delete(due), Ok(()));
}

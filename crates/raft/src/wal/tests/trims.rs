//! Deleting the oldest segments: what stays reads, verifies and opens, wherever a power cut came.

use super::*;
use crate::wal::gaps::{Gaps, Judged};

const COUNT: u64 = 100;

/// The chain's value after these entries, the first of all among them.
fn chain_after(records: &[Record]) -> Chain {
    let link = |record: &Record| chain::Link { index: record.index, term: record.term, node: record.node, kind: 1 };
    let fold = |value, record: &Record| chain::next(&value, link(record), &record.payload);
    records.iter().fold(chain::genesis(&ME.cluster_id), fold)
}

/// The chain's value before an entry.
fn chain_before(index: u64) -> Chain {
    chain_after(&records(0, index, 1, 4000))
}

fn floor(first_index: u64) -> Floor {
    Floor { first_index, chain: chain_before(first_index) }
}

/// A log of several segments, all of it but the end purged.
async fn purged(seed: u64) -> (Rig, Wal) {
    let rig = Rig::new(seed);
    let (wal, _) = rig.open();
    append(&wal, &records(0, COUNT, 1, 4000)).await;
    done(|done| wal.purge(mark(COUNT - 10, 1), None, done)).await.unwrap();
    (rig, wal)
}

/// The two files that say where the log begins.
fn floor_files() -> [PathBuf; 2] {
    [floor::NAME, floor::COPY_NAME].map(|name| Path::new(DIRECTORY).join(name))
}

fn held(wal: &Wal, from: u64) -> Vec<Record> {
    wal.archive_read(from, u64::MAX, usize::MAX).unwrap()
}

#[tokio::test]
async fn what_is_wholly_below_the_floor_goes_and_the_rest_stays() {
    let (rig, wal) = purged(1).await;
    let before = rig.segments().len();
    let trimmed = wal.trim(floor(40)).unwrap();
    assert!(trimmed.segments > 0 && trimmed.octets > trimmed.segments * 60_000);
    assert_eq!(rig.segments().len() as u64, before as u64 - trimmed.segments);
    let first = wal.archive_first_index();
    assert!((26..=40).contains(&first), "the segment that holds the floor stays whole: {first}");
    assert_eq!(wal.trim(floor(40)).unwrap(), Trimmed::default(), "nothing is left to do");
    wal.trim(floor(30)).unwrap();
    assert_eq!(wal.floor(), Some(floor(40)), "a floor never falls");
    wal.close().await;
    let (wal, recovered) = rig.open();
    assert_eq!((wal.floor(), recovered.last), (Some(floor(40)), Some(mark(COUNT - 1, 1))));
    assert_eq!(held(&wal, 40), records(40, COUNT, 1, 4000));
    assert_eq!(wal.archive_read(0, 5, usize::MAX).unwrap(), []);
    append(&wal, &records(COUNT, COUNT + 20, 1, 4000)).await;
    wal.close().await;
    let report = rig.verify();
    assert_eq!((report.finding, report.floor), (None, Some(floor(40))));
    assert_eq!((report.first_index, report.next_index), (first, COUNT + 20));
}

#[tokio::test]
async fn what_is_live_stays_whatever_the_floor() {
    let (rig, wal) = purged(2).await;
    wal.trim(floor(COUNT)).unwrap();
    assert_eq!(live(&wal), records(COUNT - 9, COUNT, 1, 4000));
    assert!(wal.trim(floor(COUNT + 1)).is_err(), "the log does not reach that far");
    wal.close().await;
    assert_eq!(live(&rig.open().0), records(COUNT - 9, COUNT, 1, 4000));
    assert_eq!(rig.verify().finding, None);
    let nothing_purged = Rig::new(3);
    let (wal, _) = nothing_purged.open();
    append(&wal, &records(0, COUNT, 1, 4000)).await;
    assert_eq!(wal.trim(floor(50)).unwrap(), Trimmed::default());
    assert_eq!(held(&wal, 0).len() as u64, COUNT);
}

#[tokio::test]
async fn a_purge_mark_that_may_be_lost_lets_nothing_go() {
    let rig = Rig::new(10);
    let (wal, _) = rig.open();
    append(&wal, &records(0, COUNT, 1, 4000)).await;
    // Nobody waits until it is durable.
    wal.purge(mark(COUNT - 10, 1), None, Box::new(|_| ())).await;
    assert!(!wal.has_below(60));
    assert_eq!(wal.trim(floor(60)).unwrap(), Trimmed::default());
    rig.disk.crash();
    wal.close().await;
    let (wal, _) = rig.open();
    assert_eq!(live(&wal), records(0, COUNT, 1, 4000));
    done(|done| wal.purge(mark(COUNT - 10, 1), None, done)).await.unwrap();
    assert!(wal.has_below(60) && wal.trim(floor(60)).unwrap().segments > 0);
}

#[tokio::test]
async fn what_a_dead_process_had_written_is_made_durable_before_anything_goes() {
    let (rig, wal) = purged(11).await;
    rig.disk.kill();
    wal.close().await;
    let (wal, _) = rig.open();
    let before = rig.disk.syncs();
    wal.settle().unwrap();
    assert_eq!(rig.disk.syncs(), before + 1);
    assert!(wal.trim(floor(60)).unwrap().segments > 0);
    rig.disk.crash();
    wal.close().await;
    assert_eq!(live(&rig.open().0), records(COUNT - 9, COUNT, 1, 4000));
}

#[tokio::test]
async fn a_log_without_its_beginning_opens_only_where_a_floor_says_so() {
    let (rig, wal) = purged(4).await;
    let other = Floor { chain: [7; 32], ..floor(40) };
    wal.trim(floor(40)).unwrap();
    assert!(wal.trim(other).is_err(), "another history");
    wal.close().await;
    let refused = |change: &dyn Fn(&SimDisk)| {
        let changed = Rig::on(rig.disk.fork(1));
        change(&changed.disk);
        assert!(changed.verify().finding.is_some());
        changed.try_open().map(drop).unwrap_err()
    };
    let missing = refused(&|disk| floor_files().iter().for_each(|path| disk.remove(path).unwrap()));
    assert!(matches!(missing, WalError::Missing { .. }), "{missing}");
    let damaged = refused(&|disk| floor_files().iter().for_each(|path| disk.flip(path, 20, 1).unwrap()));
    assert!(matches!(damaged, WalError::Corrupt { .. }), "{damaged}");
    let [one, other] = floor_files();
    let damaged = refused(&|disk| disk.remove(&one).and_then(|()| disk.flip(&other, 20, 1)).unwrap());
    assert!(matches!(damaged, WalError::Corrupt { .. }), "{damaged}");
    let first = refused(&|disk| disk.remove(&rig.segments()[0]).unwrap());
    assert!(matches!(first, WalError::Missing { .. }), "{first}");
    let all = refused(&|disk| rig.segments().iter().for_each(|path| disk.remove(path).unwrap()));
    assert!(matches!(all, WalError::Missing { .. }), "{all}");
}

#[tokio::test]
async fn one_of_the_two_files_will_do_and_the_other_is_made_good() {
    let (rig, wal) = purged(12).await;
    assert!(wal.trim(floor(40)).unwrap().segments > 0);
    wal.close().await;
    let flip = |disk: &SimDisk, path: &Path| disk.flip(path, 20, 1).unwrap();
    let remove = |disk: &SimDisk, path: &Path| disk.remove(path).unwrap();
    let grow = |disk: &SimDisk, path: &Path| disk.write_atomic(path, &[0; 100], 0o600).unwrap();
    let changes: [fn(&SimDisk, &Path); 3] = [flip, remove, grow];
    let [one, other] = floor_files();
    for (bad, good) in [(&one, &other), (&other, &one)] {
        for change in changes {
            let changed = Rig::on(rig.disk.fork(1));
            change(&changed.disk, bad);
            assert_eq!((changed.verify().finding, changed.verify().floor), (None, Some(floor(40))));
            let (wal, _) = changed.open();
            assert_eq!((wal.floor(), held(&wal, 40)), (Some(floor(40)), records(40, COUNT, 1, 4000)));
            wal.trim(floor(40)).unwrap();
            wal.close().await;
            change(&changed.disk, good);
            assert_eq!(changed.open().0.floor(), Some(floor(40)), "{}", bad.display());
        }
    }
}

#[tokio::test]
async fn the_newer_of_the_two_files_counts_and_both_are_there_before_anything_goes() {
    for (place, stale) in floor_files().iter().enumerate() {
        let (rig, wal) = purged(13).await;
        wal.trim(floor(30)).unwrap();
        let before = rig.disk.read(stale, u64::MAX).unwrap();
        // The power goes between the first file and the second one: no segment was deleted yet.
        floor::write(&rig.disk, Path::new(DIRECTORY), &floor(70)).unwrap();
        rig.disk.write_atomic(stale, &before, 0o600).unwrap();
        wal.close().await;
        let (wal, _) = rig.open();
        assert_eq!((wal.floor(), rig.verify().floor), (Some(floor(70)), Some(floor(70))));
        assert!(wal.trim(floor(70)).unwrap().segments > 0);
        wal.close().await;
        rig.disk.flip(&floor_files()[1 - place], 20, 1).unwrap();
        let (wal, _) = rig.open();
        assert_eq!((wal.floor(), held(&wal, 70)), (Some(floor(70)), records(70, COUNT, 1, 4000)));
    }
}

#[tokio::test]
async fn two_files_that_contradict_each_other_are_refused() {
    let (rig, wal) = purged(14).await;
    wal.trim(floor(40)).unwrap();
    wal.close().await;
    let [_, copy] = floor_files();
    let before = rig.disk.read(&copy, u64::MAX).unwrap();
    floor::write(&rig.disk, Path::new(DIRECTORY), &Floor { chain: [7; 32], ..floor(40) }).unwrap();
    rig.disk.write_atomic(&copy, &before, 0o600).unwrap();
    assert!(rig.verify().finding.unwrap().what.contains("another chain"));
    assert!(matches!(rig.try_open().map(drop), Err(WalError::Corrupt { .. })));
}

/// The floor lies right where a segment ends, in a tail that is superseded two segments later or in the next one.
#[tokio::test]
async fn a_segment_begun_in_a_superseded_tail_never_comes_first_right_at_the_floor() {
    for place in [0_usize, 1] {
        let rig = Rig::new(15);
        let (wal, _) = rig.open();
        append(&wal, &records(0, 40, 1, 4000)).await;
        let ends: Vec<u64> = wal.segments().iter().filter_map(|segment| segment.end_index).collect();
        assert_eq!(ends.len(), 2);
        let kept = ends[place] - 5;
        done(|done| wal.truncate_after(Some(kept - 1), done)).await.unwrap();
        append(&wal, &records(kept, COUNT, 2, 4000)).await;
        done(|done| wal.purge(mark(COUNT - 10, 2), None, done)).await.unwrap();
        let history = [records(0, kept, 1, 4000), records(kept, COUNT, 2, 4000)].concat();
        let floor_at = |first_index: u64| {
            let chain = chain_after(&history[..first_index as usize]);
            Floor { first_index, chain }
        };
        let end = ends[place];
        assert_eq!(wal.trim(floor_at(end)).unwrap().segments, place as u64);
        assert!(!wal.has_below(end));
        // Right at the floor, and one entry after it.
        for first in [end, end + 1] {
            let trimmed = wal.trim(floor_at(first)).unwrap();
            assert_eq!(trimmed.segments, first - end, "floor at {first}");
            let copy = Rig::on(rig.disk.fork(1));
            let (wal, _) = copy.open();
            assert_eq!((wal.floor(), held(&wal, first)), (Some(floor_at(first)), history[first as usize..].to_vec()));
            wal.close().await;
            assert_eq!(copy.verify().finding, None, "floor at {first}");
        }
    }
}

#[tokio::test]
async fn a_segment_that_knows_no_chain_never_comes_first_right_at_the_floor() {
    let rig = Rig::new(16);
    let (wal, _) = rig.open();
    append(&wal, &records(0, 5, 1, 4000)).await;
    done(|done| wal.purge(mark(19, 1), None, done)).await.unwrap();
    append(&wal, &records(20, COUNT, 1, 4000)).await;
    done(|done| wal.purge(mark(COUNT - 10, 1), None, done)).await.unwrap();
    let end = wal.segments()[1].end_index.unwrap();
    assert_eq!(wal.trim(floor(end)).unwrap().segments, 1);
    wal.close().await;
    let (wal, _) = rig.open();
    assert_eq!(held(&wal, end), records(end, COUNT, 1, 4000));
    assert_eq!(wal.trim(floor(end + 1)).unwrap().segments, 1);
    wal.close().await;
    assert_eq!(held(&rig.open().0, end + 1), records(end + 1, COUNT, 1, 4000));
}

#[tokio::test]
async fn a_floor_that_the_entries_do_not_lead_to_is_found() {
    let (rig, wal) = purged(5).await;
    wal.trim(floor(40)).unwrap();
    wal.close().await;
    floor::write(&rig.disk, Path::new(DIRECTORY), &Floor { chain: [7; 32], ..floor(40) }).unwrap();
    assert!(rig.verify().finding.unwrap().what.contains("another chain"));
}

#[tokio::test]
async fn an_error_while_deleting_ends_deleting() {
    let (rig, wal) = purged(6).await;
    rig.disk.kill_after(5);
    assert!(wal.trim(floor(60)).is_err());
    rig.disk.kill();
    assert!(wal.trim(floor(60)).is_err());
}

/// Trims in as many lives as it takes.
#[tokio::test]
async fn trimming_survives_kills_and_power_cuts_at_every_step() {
    for power in [false, true] {
        let mut steps = 0;
        for operations in 1.. {
            let (rig, wal) = purged(100 + operations).await;
            rig.disk.kill_after(operations);
            let outcome = wal.trim(floor(70));
            if power {
                rig.disk.crash()
            } else {
                rig.disk.kill()
            }
            wal.close().await;
            let (wal, _) = rig.open();
            assert_eq!(held(&wal, 70), records(70, COUNT, 1, 4000), "after {operations} operations");
            let first = wal.archive_first_index();
            assert_eq!(held(&wal, first), records(first, COUNT, 1, 4000), "no hole after {operations} operations");
            assert!(first == 0 || wal.floor() == Some(floor(70)));
            wal.trim(floor(70)).unwrap();
            assert!(wal.archive_first_index() > 50);
            wal.close().await;
            assert_eq!(rig.verify().finding, None, "after {operations} operations");
            if outcome.is_ok() {
                break;
            }
            steps += 1;
        }
        assert!(steps > 10, "{steps}");
    }
}

#[tokio::test]
async fn a_log_that_begins_at_a_floor_says_so_from_its_first_segment_on() {
    let mut rig = Rig::new(7);
    rig.options.start = Some(floor(40));
    let (wal, recovered) = rig.open();
    assert!(recovered.fresh && wal.first_index() == 40);
    append(&wal, &records(40, 60, 1, 4000)).await;
    wal.close().await;
    rig.options.start = None;
    let (wal, recovered) = rig.open();
    assert_eq!((wal.floor(), recovered.last), (Some(floor(40)), Some(mark(59, 1))));
    assert_eq!(live(&wal), records(40, 60, 1, 4000));
    wal.close().await;
    let report = rig.verify();
    assert_eq!((report.finding, report.first_index, report.chain), (None, 40, Some(chain_before(60))));
}

fn backfill(rig: &Rig) -> Gaps {
    let seams = rig.seams();
    Gaps::open(seams.disk, &*seams.entropy, Path::new("/data/backfill"), ME).unwrap()
}

/// A log that jumps over entries 5 to 59, which `fetched` brings in portions of ten.
async fn jumped(seed: u64, fetched: u64) -> (Rig, Wal, Gaps) {
    let rig = Rig::new(seed);
    let (wal, _) = rig.open();
    append(&wal, &records(0, 5, 1, 4000)).await;
    let gaps = backfill(&rig);
    gaps.record(&wal, 5, 60, chain_before(60)).unwrap();
    done(|done| wal.purge(mark(59, 1), Some(chain_before(60)), done)).await.unwrap();
    append(&wal, &records(60, COUNT, 1, 4000)).await;
    done(|done| wal.purge(mark(COUNT - 10, 1), None, done)).await.unwrap();
    let gap = gaps.unfilled(0).unwrap();
    let mut at = gaps.progress(&gap).unwrap();
    while at.next_index < fetched {
        let to = (at.next_index + 10).min(60);
        at = gaps.add(at, &records(at.next_index, to, 1, 4000)).unwrap();
    }
    if at.next_index == 60 {
        assert_eq!(gaps.finish(&gap, at).unwrap(), Judged::Filled);
    }
    (rig, wal, gaps)
}

#[tokio::test]
async fn a_gap_across_the_floor_begins_there() {
    let (rig, wal, gaps) = jumped(8, 25).await;
    gaps.raise(&floor(30)).unwrap();
    let gap = gaps.unfilled(0).unwrap();
    assert_eq!((gap.from, gap.from_chain, gap.to), (30, chain_before(30), 60));
    let stale = crate::wal::gaps::Progress { next_index: 25, chain: chain_before(25) };
    assert!(gaps.add(stale, &records(25, 35, 1, 4000)).is_err(), "nobody waits for that any more");
    wal.trim(floor(30)).unwrap();
    let end = gaps.add(gaps.progress(&gap).unwrap(), &records(30, 60, 1, 4000)).unwrap();
    assert_eq!(gaps.finish(&gap, end).unwrap(), Judged::Filled);
    drop(gaps);
    wal.close().await;
    let (wal, _) = rig.open();
    let gaps = backfill(&rig);
    assert!(gaps.is_whole(&wal, 30, COUNT).unwrap() && gaps.unfilled(0).is_none());
    assert_eq!(gaps.chain_before(&wal, 45).unwrap(), Some(chain_before(45)));
    let report = rig.verify();
    assert_eq!((report.finding, report.absent), (None, vec![]));
}

#[tokio::test]
async fn what_filled_a_gap_below_the_floor_goes() {
    let (rig, wal, gaps) = jumped(9, 60).await;
    let files =
        || rig.disk.list(Path::new("/data/backfill")).unwrap().iter().filter_map(|it| segment::parse_name(it)).count();
    let before = files();
    gaps.raise(&floor(38)).unwrap();
    wal.trim(floor(38)).unwrap();
    assert!(files() < before && gaps.is_whole(&wal, 38, COUNT).unwrap());
    assert_eq!(rig.verify().finding, None);
    assert_eq!(rig.verify().absent, vec![]);
    // And with all of it.
    gaps.raise(&floor(80)).unwrap();
    wal.trim(floor(80)).unwrap();
    assert_eq!(files(), 0);
    drop(gaps);
    wal.close().await;
    let (wal, _) = rig.open();
    assert!(backfill(&rig).is_whole(&wal, 80, COUNT).unwrap());
    assert_eq!((rig.verify().finding, rig.verify().absent), (None, vec![]));
}

#[tokio::test]
async fn raising_gaps_survives_kills_at_every_step() {
    for operations in 1.. {
        let (rig, wal, gaps) = jumped(200 + operations, 60).await;
        rig.disk.kill_after(operations);
        let outcome = gaps.raise(&floor(38)).and_then(|()| wal.trim(floor(38)));
        rig.disk.crash();
        drop(gaps);
        wal.close().await;
        let (wal, _) = rig.open();
        let gaps = backfill(&rig);
        assert!(gaps.is_whole(&wal, 38, COUNT).unwrap(), "after {operations} operations");
        gaps.raise(&floor(38)).unwrap();
        wal.trim(floor(38)).unwrap();
        assert!(gaps.is_whole(&wal, 38, COUNT).unwrap());
        wal.close().await;
        assert_eq!((rig.verify().finding, rig.verify().absent), (None, vec![]), "after {operations} operations");
        if outcome.is_ok() {
            return;
        }
    }
}

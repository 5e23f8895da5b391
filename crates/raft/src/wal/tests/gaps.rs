//! Gaps filled on a simulated disk, with the process killed or the power cut at any operation.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::wal::floor::Floor;
use crate::wal::gaps::{Gap, Gaps, Judged, Progress};

const FROM: u64 = 5;
const TO: u64 = 60;

fn backfill() -> &'static Path {
    Path::new("/data/backfill")
}

fn open(rig: &Rig) -> io::Result<Gaps> {
    let seams = rig.seams();
    Gaps::open(seams.disk, &*seams.entropy, backfill(), ME)
}

/// The chain's value before an entry of the log that everybody agreed upon.
fn chain_before(index: u64) -> Chain {
    let link = |record: &Record| chain::Link { index: record.index, term: record.term, node: record.node, kind: 1 };
    let fold = |value, record: &Record| chain::next(&value, link(record), &record.payload);
    records(0, index, 1, 300).iter().fold(chain::genesis(&ME.cluster_id), fold)
}

/// A log that ends before the gap, and the gap recorded.
async fn jumped(rig: &Rig) -> (Wal, Gaps) {
    let (wal, _) = rig.open();
    append(&wal, &records(0, FROM, 1, 300)).await;
    let gaps = open(rig).unwrap();
    gaps.record(&wal, FROM, TO, chain_before(TO)).unwrap();
    done(|done| wal.purge(mark(TO - 1, 1), Some(chain_before(TO)), done)).await.unwrap();
    (wal, gaps)
}

fn held(gaps: &Gaps, wal: &Wal) -> Vec<Record> {
    let mut found = Vec::new();
    while let Some(record) = gaps.archive_read(wal, found.len() as u64, TO, 1000).unwrap().first() {
        found.push(record.clone());
    }
    found
}

#[tokio::test]
async fn a_gap_knows_the_chain_at_both_ends_for_good() {
    let rig = Rig::new(1);
    let (wal, gaps) = jumped(&rig).await;
    let gap = Gap { from: FROM, from_chain: chain_before(FROM), to: TO, to_chain: chain_before(TO), filled: false };
    assert_eq!(gaps.unfilled(0), Some(gap.clone()));
    // The next one begins where the first ended: its lower end is known from there.
    gaps.record(&wal, TO, TO + 9, [7; 32]).unwrap();
    gaps.record(&wal, TO, TO + 9, [7; 32]).unwrap();
    rig.disk.crash();
    let (wal, _) = rig.open();
    let gaps = open(&rig).unwrap();
    assert_eq!(gaps.unfilled(0), Some(gap.clone()));
    assert_eq!(held(&gaps, &wal).len() as u64, FROM);
    let end = gaps.add(gaps.progress(&gap).unwrap(), &records(FROM, TO, 1, 300)).unwrap();
    assert_eq!(gaps.finish(&gap, end).unwrap(), Judged::Filled);
    let next = gaps.unfilled(0).unwrap();
    assert_eq!((next.from, next.from_chain, next.to), (TO, chain_before(TO), TO + 9));
}

#[tokio::test]
async fn what_does_not_chain_is_thrown_away_whole() {
    let rig = Rig::new(2);
    let (wal, gaps) = jumped(&rig).await;
    let gap = gaps.unfilled(0).unwrap();
    let start = gaps.progress(&gap).unwrap();
    let mut altered = records(FROM, TO, 1, 300);
    altered[20].payload = Bytes::from_static(b"altered");
    let middle = gaps.add(start, &altered[..10]).unwrap();
    assert!(gaps.add(middle, &altered[11..]).is_err(), "entries that do not follow");
    let end = gaps.add(middle, &altered[10..]).unwrap();
    assert_eq!(held(&gaps, &wal).len() as u64, FROM, "nothing is shown before it is proved");
    assert_eq!(gaps.finish(&gap, end).unwrap(), Judged::DoesNotChain);
    assert_eq!(gaps.progress(&gap).unwrap(), start);
    // One that ends early is none either.
    let short = gaps.add(start, &records(FROM, TO - 1, 1, 300)).unwrap();
    assert_eq!(gaps.finish(&gap, short).unwrap(), Judged::DoesNotChain);
    assert_eq!(gaps.unfilled(0), Some(gap));
}

#[tokio::test]
async fn a_gap_that_is_divided_while_it_is_fetched_is_not_filled() {
    const FIRST: u64 = (FROM + TO) / 2;
    let rig = Rig::new(4);
    let (_, gaps) = jumped(&rig).await;
    let gap = gaps.unfilled(0).unwrap();
    let end = gaps.add(gaps.progress(&gap).unwrap(), &records(FROM, TO, 1, 300)).unwrap();
    gaps.divide(&Floor { first_index: FIRST, chain: chain_before(FIRST) }).unwrap();
    let filled = *gaps.changes().borrow();
    assert_eq!(gaps.finish(&gap, end).unwrap(), Judged::Divided);
    assert_eq!(*gaps.changes().borrow(), filled, "nobody is told of entries that are not there");
    // Each half is filled on its own.
    for (from, to) in [(FROM, FIRST), (FIRST, TO)] {
        let half = gaps.unfilled(0).unwrap();
        assert_eq!((half.from, half.to), (from, to));
        let at = gaps.progress(&half).unwrap();
        let end = gaps.add(at, &records(at.next_index, to, 1, 300)).unwrap();
        assert_eq!(gaps.finish(&half, end).unwrap(), Judged::Filled);
    }
    assert_eq!(gaps.unfilled(0), None);
}

#[tokio::test]
async fn a_damaged_segment_of_a_filled_gap_is_fetched_again() {
    let rig = Rig::new(3);
    let (_, gaps) = jumped(&rig).await;
    let gap = gaps.unfilled(0).unwrap();
    let start = gaps.progress(&gap).unwrap();
    let end = gaps.add(start, &records(FROM, TO, 1, 300)).unwrap();
    assert_eq!(gaps.finish(&gap, end).unwrap(), Judged::Filled);
    let segment = backfill().join(segment::file_name(FROM + 1));
    rig.disk.flip(&segment, 40, 1).unwrap();
    assert_eq!(open(&rig).unwrap().unfilled(0), Some(gap));
}

/// Fills a gap in as many lives as it takes.
#[tokio::test]
async fn a_gap_is_filled_through_kills_and_power_cuts() {
    let mut deaths = 0;
    for seed in 0..300 {
        let rig = Rig::new(1000 + seed);
        let mut rng = StdRng::seed_from_u64(seed);
        let (wal, gaps) = jumped(&rig).await;
        wal.close().await;
        drop((wal, gaps));
        let mut reached = FROM;
        for life in 0_u64.. {
            assert!(life < 200, "seed {seed}: no end");
            // Longer and longer: each life looks through what is there before it adds to it.
            rig.disk.kill_after(rng.random_range(1..40 + 10 * life));
            let outcome = fill(&rig, &mut rng);
            let power = rng.random_range(0..2) == 0;
            if power {
                rig.disk.crash()
            } else {
                rig.disk.kill()
            }
            let gaps = open(&rig).unwrap();
            if let Some(gap) = gaps.unfilled(0) {
                let kept = gaps.progress(&gap).unwrap();
                assert_eq!(kept.chain, chain_before(kept.next_index), "seed {seed}");
                let sure = outcome.unwrap_or_else(|sure| sure).max(reached);
                assert!(kept.next_index >= sure, "seed {seed}: {sure} was durable, {} is kept", kept.next_index);
                reached = sure;
                deaths += 1;
                continue;
            }
            let (wal, _) = rig.open();
            assert_eq!(held(&gaps, &wal), records(0, TO, 1, 300), "seed {seed}");
            wal.close().await;
            break;
        }
    }
    assert!(deaths > 300, "{deaths} deaths in the middle only");
}

/// Adds portions until the gap is filled or the disk is gone; answers how far it got for sure.
fn fill(rig: &Rig, rng: &mut StdRng) -> Result<u64, u64> {
    let mut sure = FROM;
    let mut work = || -> io::Result<()> {
        let gaps = open(rig)?;
        let Some(gap) = gaps.unfilled(0) else { return Ok(()) };
        let mut at: Progress = gaps.progress(&gap)?;
        while at.next_index < gap.to {
            let to = (at.next_index + rng.random_range(1..12)).min(gap.to);
            at = gaps.add(at, &records(at.next_index, to, 1, 300))?;
            sure = at.next_index;
        }
        assert_eq!(gaps.finish(&gap, at)?, Judged::Filled);
        Ok(())
    };
    match work() {
        Ok(()) => Ok(sure),
        Err(_) => Err(sure),
    }
}

#[tokio::test]
async fn verification_reads_what_fills_a_gap() {
    let rig = Rig::new(4);
    let (wal, gaps) = jumped(&rig).await;
    append(&wal, &records(TO, TO + 3, 1, 300)).await;
    wal.close().await;
    let report = rig.verify();
    assert_eq!((report.finding, report.absent, report.next_index), (None, vec![(FROM, TO - 1)], TO + 3));
    let gap = gaps.unfilled(0).unwrap();
    let middle = gaps.add(gaps.progress(&gap).unwrap(), &records(FROM, 40, 1, 300)).unwrap();
    assert_eq!(rig.verify().absent, vec![(40, TO - 1)]);
    let end = gaps.add(middle, &records(40, TO, 1, 300)).unwrap();
    assert_eq!(gaps.finish(&gap, end).unwrap(), Judged::Filled);
    let report = rig.verify();
    assert_eq!((report.finding, report.absent, report.entries), (None, vec![], TO + 3));
    for name in rig.disk.list(backfill()).unwrap().iter().filter(|name| segment::parse_name(name).is_some()) {
        let path = backfill().join(name);
        let size = rig.disk.open(&path, Open::Read).unwrap().len().unwrap();
        for offset in 0..size {
            rig.disk.flip(&path, offset, 0x10).unwrap();
            let finding = rig.verify().finding.unwrap_or_else(|| panic!("octet {offset} of {}", path.display()));
            assert!((FROM..=TO).contains(&finding.first_bad_index), "{finding:?}");
            rig.disk.flip(&path, offset, 0x10).unwrap();
        }
    }
    assert_eq!(rig.verify().finding, None);
}

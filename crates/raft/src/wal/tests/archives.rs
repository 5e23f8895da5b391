//! Purged entries stay readable, superseded ones never show, and seals say what a segment holds.

use super::*;

#[tokio::test]
async fn purged_entries_are_read_from_the_archive() {
    let mut rig = Rig::new(1);
    rig.options.not_after = Some(Arc::new(|record| Some(record.index * 1000)));
    let (wal, _) = rig.open();
    let all = records(0, 60, 1, 4000);
    for some in all.chunks(4) {
        append(&wal, some).await;
        done(|done| wal.purge(some[0].mark(), None, done)).await.unwrap();
    }
    for wal in [wal.clone(), {
        wal.close().await;
        rig.open().0
    }] {
        assert_eq!((wal.first_index(), wal.archive_first_index()), (57, 0));
        assert_eq!(live(&wal), all[57..]);
        assert_eq!(wal.read(0, 60, usize::MAX).unwrap(), [], "not live");
        let mut read = Vec::new();
        while let Some(record) = wal.archive_read(read.len() as u64, 60, 9000).unwrap().first().cloned() {
            read.push(record);
        }
        assert_eq!(read, all);
        assert_eq!(wal.archive_read(0, 57, usize::MAX).unwrap(), all[..57], "across segments");
        assert_eq!(wal.archive_read(3, 60, 9000).unwrap(), all[3..5], "two fit");
        assert_eq!(wal.archive_read(3, 60, 1).unwrap(), all[3..4], "one at least");
        assert_eq!(wal.archive_read(60, 70, usize::MAX).unwrap(), []);
        assert_eq!(wal.archive_read(5, 5, usize::MAX).unwrap(), []);
        let segments = wal.segments();
        assert!(segments.len() > 3);
        for (segment, next) in segments.iter().zip(&segments[1..]) {
            assert_eq!(segment.end_index, Some(next.start_index));
            assert_eq!(segment.not_after_millis, Some((next.start_index - 1) * 1000));
        }
        assert_eq!(segments[segments.len() - 1].end_index, None);
    }
}

#[tokio::test]
async fn superseded_entries_never_come_back_from_the_archive() {
    let rig = Rig::new(2);
    let (wal, _) = rig.open();
    // Entries 10..30 of term 1 fill segments; from 12 on another leader's take their place, in a later segment.
    append(&wal, &records(0, 30, 1, 4000)).await;
    done(|done| wal.truncate_after(Some(11), done)).await.unwrap();
    append(&wal, &records(12, 50, 2, 4000)).await;
    done(|done| wal.purge(mark(49, 2), None, done)).await.unwrap();
    let expected = [records(0, 12, 1, 4000), records(12, 50, 2, 4000)].concat();
    for wal in [wal.clone(), {
        wal.close().await;
        rig.open().0
    }] {
        assert_eq!(wal.archive_read(0, 50, usize::MAX).unwrap(), expected);
        assert_eq!(wal.archive_read(20, 50, 1).unwrap(), expected[20..21]);
    }
}

#[tokio::test]
async fn a_jump_leaves_a_gap_that_is_not_bridged() {
    let rig = Rig::new(3);
    let (wal, _) = rig.open();
    append(&wal, &records(0, 10, 1, 100)).await;
    done(|done| wal.purge(mark(99, 3), Some([7; 32]), done)).await.unwrap();
    assert_eq!((wal.first_index(), wal.last_mark()), (100, Some(mark(99, 3))));
    append(&wal, &records(100, 103, 3, 100)).await;
    done(|done| wal.purge(mark(101, 3), None, done)).await.unwrap();
    for wal in [wal.clone(), {
        wal.close().await;
        rig.open().0
    }] {
        assert_eq!(wal.archive_read(5, 200, usize::MAX).unwrap(), records(5, 10, 1, 100));
        assert_eq!(wal.archive_read(10, 200, usize::MAX).unwrap(), [], "never here");
        assert_eq!(wal.archive_read(100, 200, usize::MAX).unwrap(), records(100, 103, 3, 100));
    }
    let link =
        |record: Record| chain::Link { index: record.index, term: record.term, node: record.node, kind: record.kind };
    let next = |chain, record: Record| chain::next(&chain, link(record.clone()), &record.payload);
    let chain = records(100, 103, 3, 100).into_iter().fold([7; 32], next);
    let report = rig.verify();
    assert_eq!((report.finding, report.chain), (None, Some(chain)), "the chain goes on from the snapshot's value");
}

#[tokio::test]
async fn a_jump_without_a_chain_value_leaves_it_unknown_but_sound() {
    let rig = Rig::new(4);
    let (wal, _) = rig.open();
    done(|done| wal.purge(mark(99, 3), None, done)).await.unwrap();
    append(&wal, &records(100, 140, 3, 4000)).await;
    wal.close().await;
    assert_eq!((rig.verify().finding, rig.verify().chain), (None, None));
    assert_eq!(rig.open().1.last, Some(mark(139, 3)));
}

#[tokio::test]
async fn the_places_of_so_many_entries_stay_in_memory() {
    let rig = Rig::new(5);
    let (wal, _) = rig.open();
    let count = limits::WAL_INDEX_ENTRIES_KEPT as u64 + 3 * 15;
    append(&wal, &records(0, count, 1, 4000)).await;
    done(|done| wal.purge(mark(count - 1, 1), None, done)).await.unwrap();
    assert!(matches!(wal.inner.shared.archive().look_up(0, 1), archive::Lookup::NotLoaded(_)), "forgotten");
    assert_eq!(wal.archive_read(0, count, usize::MAX).unwrap().len() as u64, count);
    let not_loaded = (0..count)
        .filter(|index| matches!(wal.inner.shared.archive().look_up(*index, index + 1), archive::Lookup::NotLoaded(_)));
    // The segment being written counts besides.
    assert!((15..count as usize / 2).contains(&not_loaded.count()));
}

#[tokio::test]
async fn the_archive_opens_by_headers_and_seals_alone() {
    let rig = Rig::new(6);
    let (wal, _) = rig.open();
    append(&wal, &records(0, 100, 1, 4000)).await;
    done(|done| wal.purge(mark(99, 1), None, done)).await.unwrap();
    wal.close().await;
    // A sealed, archived segment that was not trimmed before the power went still opens.
    let path = rig.segments().remove(0);
    let file = rig.disk.open(&path, Open::Write).unwrap();
    file.set_len(SEGMENT_OCTETS).unwrap();
    file.sync_data().unwrap();
    rig.disk.flip(&rig.segments()[1], 30_000, 1).unwrap();
    let (wal, _) = rig.open();
    assert_eq!(wal.archive_read(0, 5, usize::MAX).unwrap(), records(0, 5, 1, 4000));
    assert!(wal.archive_read(20, 25, usize::MAX).is_err(), "damage in the archive is found when it is read");
    assert!(rig.verify().finding.is_some());
}

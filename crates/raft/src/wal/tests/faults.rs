//! Disks that fail: the log stops at the first error, and says early that space runs out.

use certwright_seams::sim::{Fault, Operation};

use super::model::{Step, submit};
use super::*;

fn fault(operation: Operation, path: &str) -> Fault {
    Fault { operation, path_contains: path.into(), after: 0, times: 1, kind: io::ErrorKind::Other }
}

#[tokio::test]
async fn the_first_write_or_sync_error_stops_everything() {
    let batches = [1, limits::WAL_BATCH_OCTETS_MAX];
    for (operation, batch_octets) in
        batches.map(|octets| [(Operation::Sync, octets), (Operation::Write, octets)]).concat()
    {
        let mut rig = Rig::new(1);
        rig.options.batch_octets = batch_octets;
        let (wal, _) = rig.open();
        let mut fatal = wal.fatal();
        append(&wal, &records(0, 2, 1, 10)).await;
        rig.disk.inject(fault(operation, ".seg"));
        // Two are queued together, in one batch or two: both must hear of it, and so must all that follow although the disk is well again.
        let (sender, first) = oneshot::channel();
        wal.append(records(2, 3, 1, 10), Box::new(move |result| drop(sender.send(result)))).await;
        assert!(done(|done| wal.save_vote(Bytes::new(), done)).await.is_err());
        assert!(first.await.unwrap().is_err());
        for step in [Step::Append(records(3, 4, 1, 1)), Step::Truncate(1), Step::Vote(1), Step::Committed(mark(0, 1))] {
            assert!(done(|done| submit(&wal, &step, done)).await.is_err(), "{step:?}");
        }
        fatal.changed().await.unwrap();
        assert!(fatal.borrow().as_deref().unwrap().contains("injected"));
        assert!(wal.check_space().is_err());
        wal.close().await;
        rig.disk.crash();
        let last = rig.open().1.last;
        assert_eq!(last, Some(mark(1, 1)), "{operation:?}: what failed is not on disk, what was acknowledged is");
    }
}

/// What failed to be synced can be read again by the next run, from the kernel's memory: it must be on the disk before
/// anything is written behind it.
#[tokio::test]
async fn what_was_not_synced_is_written_again_before_the_log_goes_on() {
    for (after, seed) in (0..24).flat_map(|after| (0..4).map(move |seed| (after, seed))) {
        let rig = Rig::new(seed);
        let (wal, _) = rig.open();
        rig.disk.inject(Fault { after, ..fault(Operation::Sync, "log/") });
        for index in 0..20 {
            let written = |done| wal.append(records(index, index + 1, 1, 4000), done);
            let voted = |done| wal.save_vote(Bytes::from(vec![index as u8; 8]), done);
            if done(written).await.is_err() || done(voted).await.is_err() {
                break;
            }
        }
        wal.close().await;
        rig.disk.heal();
        // The process alone was restarted.
        rig.disk.kill();
        let (wal, recovered) = rig.open();
        let next = recovered.last.map_or(0, |last| last.index + 1);
        append(&wal, &records(next, next + 2, 2, 10)).await;
        wal.close().await;
        rig.disk.crash();
        let (_, recovered) = rig.open();
        assert_eq!(recovered.last, Some(mark(next + 1, 2)), "sync {after} failed, seed {seed}");
    }
}

/// A write that fails in the middle leaves any part of its batch in the file.
#[tokio::test]
async fn a_short_write_stops_everything_and_what_it_left_does_no_harm() {
    let rig = Rig::new(9);
    let (wal, _) = rig.open();
    append(&wal, &records(0, 2, 1, 100)).await;
    let path = rig.segments().remove(0);
    // What the whole write would have put there.
    let twin = Rig::on(rig.disk.fork(1));
    let (other, _) = twin.open();
    append(&other, &records(2, 6, 1, 303)).await;
    let whole = twin.disk.read(&path, u64::MAX).unwrap();
    rig.disk.inject(fault(Operation::Write, ".seg"));
    assert!(done(|done| wal.append(records(2, 6, 1, 303), done)).await.is_err());
    assert!(wal.fatal().borrow().is_some());
    wal.close().await;
    let before = rig.disk.read(&path, u64::MAX).unwrap();
    let from = before.iter().zip(&whole).position(|(one, other)| one != other).unwrap();
    let to = segment::written_octets(&whole);
    for end in (from..=to).step_by(41) {
        let short = Rig::on(rig.disk.fork(end as u64));
        let file = short.disk.open(&path, Open::Write).unwrap();
        file.write_at(from as u64, &whole[from..end]).unwrap();
        file.sync_data().unwrap();
        let (wal, recovered) = short.open();
        let last = recovered.last.unwrap().index;
        assert_eq!(live(&wal), [records(0, 2, 1, 100), records(2, last + 1, 1, 303)].concat(), "{end} octets");
        append(&wal, &records(last + 1, last + 3, 2, 500)).await;
        short.disk.crash();
        let (wal, recovered) = short.open();
        assert_eq!(recovered.last, Some(mark(last + 2, 2)), "{end} octets");
        wal.close().await;
        assert_eq!(short.verify().finding, None, "{end} octets");
    }
}

#[tokio::test]
async fn an_error_while_going_over_to_the_next_segment_stops_everything() {
    let faults = [
        fault(Operation::Sync, "spare"),
        fault(Operation::Rename, "spare"),
        fault(Operation::SyncDir, "log"),
        fault(Operation::Open, ".seg"),
    ];
    for fault in faults {
        let rig = Rig::new(2);
        let (wal, _) = rig.open();
        append(&wal, &records(0, 15, 1, 4000)).await;
        rig.disk.inject(fault.clone());
        assert!(done(|done| wal.append(records(15, 20, 1, 4000), done)).await.is_err(), "{fault:?}");
        assert!(wal.fatal().borrow().is_some());
        wal.close().await;
        rig.disk.crash();
        rig.disk.heal();
        let (wal, recovered) = rig.open();
        assert!(recovered.last >= Some(mark(14, 1)), "{fault:?}");
        let next = recovered.last.unwrap().index + 1;
        append(&wal, &records(next, next + 20, 1, 4000)).await;
        assert_eq!(rig.verify().finding, None, "{fault:?}");
    }
}

#[tokio::test]
async fn lack_of_space_is_told_before_it_strikes_and_ends_when_there_is_room() {
    let rig = Rig::new(3);
    let (wal, _) = rig.open();
    rig.disk.set_capacity(Some(rig.disk.used()));
    wal.check_space().unwrap();
    append(&wal, &records(0, 17, 1, 4000)).await;
    assert_eq!(rig.segments().len(), 2);
    assert_eq!(wal.check_space().unwrap_err().kind(), io::ErrorKind::StorageFull);
    // What is under way still fits, and readers and votes go on.
    append(&wal, &records(17, 20, 1, 4000)).await;
    done(|done| wal.save_vote(Bytes::from_static(b"v"), done)).await.unwrap();
    assert_eq!(*wal.fatal().borrow(), None);
    rig.disk.set_capacity(None);
    assert!(wal.check_space().is_err(), "this call asks for another attempt");
    done(|done| wal.append(Vec::new(), done)).await.unwrap();
    wal.check_space().unwrap();
    append(&wal, &records(20, 60, 1, 4000)).await;
}

#[tokio::test]
async fn without_any_space_left_the_log_stops_and_keeps_what_it_has() {
    let rig = Rig::new(4);
    let (wal, _) = rig.open();
    rig.disk.set_capacity(Some(rig.disk.used()));
    let mut next = 0;
    while done(|done| wal.append(records(next, next + 1, 1, 4000), done)).await.is_ok() {
        next += 1;
    }
    assert!(next > 20, "{next}");
    assert!(wal.fatal().borrow().as_deref().unwrap().contains("full"));
    wal.close().await;
    rig.disk.crash();
    let (wal, recovered) = rig.open();
    assert_eq!(recovered.last, Some(mark(next - 1, 1)));
    assert!(wal.check_space().is_err());
}

#[tokio::test]
async fn a_read_error_is_never_the_end_of_the_log() {
    let rig = Rig::new(5);
    let (wal, _) = rig.open();
    append(&wal, &records(0, 40, 1, 4000)).await;
    wal.close().await;
    // Every single read of opening fails once.
    for after in 0.. {
        rig.disk.inject(Fault { after, ..fault(Operation::Read, ".seg") });
        match rig.try_open() {
            Err(WalError::Io { action: "read", .. }) => {}
            Err(error) => panic!("{error}"),
            Ok((wal, recovered)) => {
                assert!(after > 5, "opening reads at least every header and segment");
                assert_eq!(recovered.last, Some(mark(39, 1)));
                wal.close().await;
                break;
            }
        }
        rig.disk.heal();
    }
    rig.disk.heal();
    let mut rig = rig;
    rig.options.cache_octets = 0;
    let (wal, _) = rig.open();
    rig.disk.inject(fault(Operation::Read, ".seg"));
    assert!(wal.read(0, 40, usize::MAX).is_err(), "not a shorter answer");
    assert_eq!(wal.read(0, 40, usize::MAX).unwrap().len(), 40);
}

#[tokio::test]
async fn a_damaged_entry_is_an_error_not_an_answer() {
    let mut rig = Rig::new(6);
    rig.options.cache_octets = 0;
    let (wal, _) = rig.open();
    append(&wal, &records(0, 3, 1, 100)).await;
    rig.disk.flip(&rig.segments()[0], header::HEADER_OCTETS as u64 + 80, 1).unwrap();
    let error = wal.read(0, 3, usize::MAX).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(error.to_string().contains(".seg is damaged at offset 128"), "{error}");
    assert_eq!(wal.read(1, 3, usize::MAX).unwrap(), records(1, 3, 1, 100));
}

#[tokio::test]
async fn a_writer_that_panics_is_fatal() {
    let rig = Rig::new(7);
    let (wal, _) = rig.open();
    let mut fatal = wal.fatal();
    wal.append(records(0, 1, 1, 10), Box::new(|_| panic!("on purpose"))).await;
    fatal.changed().await.unwrap();
    assert!(fatal.borrow().as_deref().unwrap().contains("panicked"));
    assert!(done(|done| wal.append(records(1, 2, 1, 10), done)).await.is_err());
}

#[tokio::test]
async fn a_spare_segment_used_in_vain_is_zeroed_before_it_is_used_again() {
    let rig = Rig::new(8);
    let (wal, _) = rig.open();
    done(|done| wal.save_vote(Bytes::from(vec![7; limits::WAL_VOTE_OCTETS_MAX]), done)).await.unwrap();
    append(&wal, &records(0, 14, 1, 4000)).await;
    rig.disk.inject(fault(Operation::Rename, "spare"));
    assert!(done(|done| wal.append(records(14, 16, 1, 4000), done)).await.is_err());
    wal.close().await;
    rig.disk.kill();
    let (wal, recovered) = rig.open();
    done(|done| wal.save_vote(Bytes::from_static(b"small"), done)).await.unwrap();
    let next = recovered.last.unwrap().index + 1;
    append(&wal, &records(next, next + 1, 1, 500)).await;
    assert_eq!(rig.segments().len(), 2);
    wal.close().await;
    assert_eq!(rig.verify().finding, None, "no octets of the first attempt are left");
}

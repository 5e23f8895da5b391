//! Every operation is there after a restart, and shows at once before it.

use super::model::{Model, Step, submit};
use super::*;

#[tokio::test]
async fn a_new_log_is_empty_and_says_so() {
    let rig = Rig::new(1);
    let (wal, recovered) = rig.open();
    let empty = Recovered { fresh: true, vote: None, committed: None, purged: None, last: None, cut_octets: 0 };
    assert_eq!(recovered, empty);
    assert_eq!((wal.first_index(), wal.last_mark(), live(&wal)), (0, None, vec![]));
    wal.close().await;
    assert_eq!(rig.open().1, Recovered { fresh: false, ..empty });
}

#[tokio::test]
async fn every_operation_survives_a_restart_and_a_power_cut() {
    let steps = [
        Step::Append(records(0, 5, 1, 100)),
        Step::Vote(7),
        Step::Truncate(3),
        Step::Append(records(3, 9, 2, 3000)),
        Step::Committed(mark(6, 2)),
        Step::Purge(mark(4, 2)),
        Step::Append(records(9, 30, 3, 6000)),
        Step::Truncate(29),
        Step::Vote(8),
        Step::Purge(mark(50, 3)),
        Step::Append(records(51, 52, 4, 0)),
        Step::Truncate(51),
        Step::Append(records(51, 60, 5, 10)),
    ];
    let rig = Rig::new(2);
    let mut model = Model::default();
    for (number, step) in steps.iter().enumerate() {
        let (wal, _) = rig.open();
        assert_eq!(Model::of(&wal), model.seen(), "before step {number}");
        done(|done| submit(&wal, step, done)).await.unwrap();
        model.apply(step);
        assert_eq!(Model::of(&wal), model.seen(), "after step {number}");
        if number % 2 == 0 || matches!(step, Step::Committed(_)) {
            wal.close().await;
        } else {
            rig.disk.crash();
        }
        assert_eq!(rig.verify().finding, None, "after step {number}");
    }
}

#[tokio::test]
async fn entries_are_readable_before_they_are_durable() {
    let rig = Rig::new(3);
    let (wal, _) = rig.open();
    let (sender, mut receiver) = oneshot::channel();
    wal.append(records(0, 3, 1, 10), Box::new(move |result| drop(sender.send(result)))).await;
    assert!(receiver.try_recv().is_err(), "the writer has not run yet");
    assert_eq!(live(&wal), records(0, 3, 1, 10));
    wal.truncate_after(Some(0), Box::new(drop)).await;
    assert_eq!(wal.last_mark(), Some(mark(0, 1)), "the queued tail is gone for readers");
    assert!(receiver.await.unwrap().is_ok(), "its callback is called all the same");
}

#[tokio::test]
async fn a_replaced_entry_is_not_mistaken_for_its_predecessor_on_disk() {
    let mut rig = Rig::new(13);
    (rig.options.batch_octets, rig.options.cache_octets) = (1, 0);
    let (wal, _) = rig.open();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    // The first entry becomes durable when its successor in the same place is still queued.
    let (reader, reads) = (wal.clone(), Arc::clone(&seen));
    let read = move |_| *reads.lock().unwrap() = reader.read(0, 1, usize::MAX).unwrap();
    wal.append(records(0, 1, 1, 10), Box::new(read)).await;
    wal.truncate_after(None, Box::new(drop)).await;
    append(&wal, &records(0, 1, 2, 10)).await;
    assert_eq!(*seen.lock().unwrap(), records(0, 1, 2, 10));
    assert_eq!(live(&wal), records(0, 1, 2, 10));
}

#[tokio::test]
async fn callbacks_come_in_order_and_one_sync_carries_many() {
    let rig = Rig::new(4);
    let (wal, _) = rig.open();
    let (before, order) = (rig.disk.syncs(), Arc::new(std::sync::Mutex::new(Vec::new())));
    for index in 0..50 {
        let order = Arc::clone(&order);
        wal.append(records(index, index + 1, 1, 10), Box::new(move |_| order.lock().unwrap().push(index))).await;
    }
    done(|done| wal.save_vote(Bytes::new(), done)).await.unwrap();
    assert_eq!(*order.lock().unwrap(), (0..50).collect::<Vec<_>>());
    assert_eq!(rig.disk.syncs() - before, 1);
}

#[tokio::test]
async fn a_batch_is_bounded() {
    let mut rig = Rig::new(5);
    rig.options.batch_octets = 1000;
    let (wal, _) = rig.open();
    let before = rig.disk.syncs();
    for index in 0..10 {
        wal.append(records(index, index + 1, 1, 600), Box::new(drop)).await;
    }
    done(|done| wal.append(Vec::new(), done)).await.unwrap();
    assert_eq!(rig.disk.syncs() - before, 5, "two entries reach the bound");
}

#[tokio::test]
async fn the_queue_is_bounded() {
    let mut rig = Rig::new(6);
    rig.options.queue_octets = 2000;
    let (wal, _) = rig.open();
    let many = async {
        for index in 0..100 {
            wal.append(records(index, index + 1, 1, 900), Box::new(drop)).await;
        }
    };
    let mut many = std::pin::pin!(many);
    let polled = std::future::poll_fn(|context| std::task::Poll::Ready(many.as_mut().poll(context).is_pending())).await;
    assert!(polled, "callers wait for the writer");
    assert_eq!(wal.last_mark(), Some(mark(1, 1)), "two entries fit the queue");
    many.await;
    done(|done| wal.append(records(100, 101, 1, 5000), done)).await.unwrap();
    assert_eq!(wal.last_mark(), Some(mark(100, 1)), "more than the whole queue passes alone");
}

#[tokio::test]
async fn a_committed_mark_costs_no_sync_and_survives_the_process() {
    let rig = Rig::new(7);
    let (wal, _) = rig.open();
    append(&wal, &records(0, 5, 1, 10)).await;
    let before = rig.disk.syncs();
    done(|done| wal.save_committed(Some(mark(3, 1)), done)).await.unwrap();
    assert_eq!(rig.disk.syncs(), before);
    rig.disk.kill();
    let (wal, recovered) = rig.open();
    assert_eq!(recovered.committed, Some(mark(3, 1)));
    done(|done| wal.save_committed(Some(mark(99, 1)), done)).await.unwrap();
    assert_eq!(wal.committed(), Some(mark(4, 1)), "never beyond the last entry");
    wal.close().await;
    assert_eq!(rig.open().1.committed, Some(mark(4, 1)));
}

#[tokio::test]
async fn operations_that_contradict_the_log_are_refused_and_harmless() {
    let rig = Rig::new(8);
    let (wal, _) = rig.open();
    append(&wal, &records(0, 5, 1, 10)).await;
    done(|done| wal.purge(mark(2, 1), None, done)).await.unwrap();
    let refused = |result: io::Result<()>| assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    refused(done(|done| wal.append(records(6, 7, 1, 10), done)).await);
    refused(done(|done| wal.append(records(4, 5, 1, 10), done)).await);
    let gap = [record(5, 1, 1), record(7, 1, 1)];
    refused(done(|done| wal.append(gap.to_vec(), done)).await);
    refused(done(|done| wal.truncate_after(Some(1), done)).await);
    refused(done(|done| wal.purge(mark(u64::MAX, 1), None, done)).await);
    done(|done| wal.purge(mark(1, 1), None, done)).await.unwrap();
    assert_eq!((wal.purged_mark(), live(&wal)), (Some(mark(2, 1)), records(3, 5, 1, 10)));
    assert_eq!(*wal.fatal().borrow(), None);
    append(&wal, &records(5, 6, 1, 10)).await;
}

#[tokio::test]
async fn bounds_exceeded_by_one_are_refused() {
    let rig = Rig::new(9);
    let (wal, _) = rig.open();
    let most = rig.options.payload_octets_max();
    let refused = |result: io::Result<()>| assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    refused(done(|done| wal.append(records(0, 1, 1, most + 1), done)).await);
    append(&wal, &records(0, 2, 1, most)).await;
    let vote = |octets: usize| Bytes::from(vec![7; octets]);
    refused(done(|done| wal.save_vote(vote(limits::WAL_VOTE_OCTETS_MAX + 1), done)).await);
    done(|done| wal.save_vote(vote(limits::WAL_VOTE_OCTETS_MAX), done)).await.unwrap();
    append(&wal, &records(2, 4, 1, most)).await;
    wal.close().await;
    assert_eq!(live(&rig.open().0), records(0, 4, 1, most));
    assert_eq!(WalOptions::new(limits::WAL_SEGMENT_OCTETS_MAX).payload_octets_max(), limits::WAL_FRAME_OCTETS_MAX);
    for octets in [limits::WAL_SEGMENT_OCTETS_MIN - 1, limits::WAL_SEGMENT_OCTETS_MAX + 1] {
        let rig = Rig { options: WalOptions::new(octets), ..Rig::new(1) };
        assert!(matches!(rig.try_open(), Err(WalError::Options(_))));
    }
}

#[tokio::test]
async fn old_entries_are_read_from_disk_and_the_cache_is_bounded() {
    let mut rig = Rig::new(10);
    rig.options.cache_octets = 4000;
    let (wal, _) = rig.open();
    let all = records(0, 60, 1, 3000);
    for some in all.chunks(7) {
        append(&wal, some).await;
    }
    assert!(rig.segments().len() > 2);
    for wal in [wal.clone(), {
        wal.close().await;
        rig.open().0
    }] {
        assert_eq!(live(&wal), all);
        assert_eq!(wal.read(10, 20, usize::MAX).unwrap(), all[10..20]);
        assert_eq!(wal.read(10, 20, 6000).unwrap(), all[10..12], "two fit");
        assert_eq!(wal.read(10, 20, 1).unwrap(), all[10..11], "one at least");
        for (from, to) in [(20, 10), (5, 5), (60, 70), (u64::MAX, u64::MAX)] {
            assert_eq!(wal.read(from, to, usize::MAX).unwrap(), [], "{from}..{to}");
        }
        let cached = wal.inner.shared.live().find(0, 60, usize::MAX);
        let here = cached.iter().filter(|found| matches!(found, Found::Here(_))).count();
        assert_eq!(here, 1, "one record fits the cache");
    }
}

#[tokio::test]
async fn two_processes_cannot_share_a_log() {
    let rig = Rig::new(11);
    let (wal, _) = rig.open();
    let error = rig.try_open().map(|_| ()).unwrap_err();
    assert!(matches!(error, WalError::Locked { .. }) && error.to_string().contains("another process"), "{error}");
    wal.close().await;
    rig.try_open().map(|_| ()).unwrap();
}

#[tokio::test]
async fn after_closing_nothing_is_accepted() {
    let rig = Rig::new(12);
    let (wal, _) = rig.open();
    wal.close().await;
    wal.close().await;
    let error = done(|done| wal.append(records(0, 1, 1, 1), done)).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotConnected);
}

/// The same code with real files, threads and syncs.
#[tokio::test(flavor = "multi_thread")]
async fn it_works_on_the_machine_itself() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let seams = Seams::system();
    let samples = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut options = WalOptions::new(SEGMENT_OCTETS);
    options.observer = Some({
        let samples = Arc::clone(&samples);
        Arc::new(move |sample| samples.lock().unwrap().push(sample))
    });
    let all = records(0, 100, 1, 2000);
    let (wal, _) = Wal::open(&seams, &path, ME, options.clone()).unwrap();
    for some in all.chunks(9) {
        append(&wal, some).await;
    }
    assert!(matches!(Wal::open(&seams, &path, ME, options.clone()), Err(WalError::Locked { .. })));
    wal.close().await;
    let (wal, recovered) = Wal::open(&seams, &path, ME, options).unwrap();
    assert_eq!((recovered.last, live(&wal)), (Some(mark(99, 1)), all));
    assert_eq!(verify_at(&path).finding, None);
    let samples = samples.lock().unwrap();
    // The last one says where the log ends, as it is closed.
    let [entries @ .., end] = &samples[..] else { panic!("nothing was synced") };
    assert_eq!(entries.iter().map(|sample| sample.frames).sum::<usize>(), 100);
    assert!(entries.iter().all(|sample| sample.octets > 2000) && end.frames == 1);
}

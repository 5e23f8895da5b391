//! Torn tails are cut, everything else refuses to open and is found by verification.

use super::*;

/// A closed log of three segments with some of everything, and its disk.
async fn log_of_three() -> Rig {
    let rig = Rig::new(1);
    let (wal, _) = rig.open();
    for index in 0..35 {
        append(&wal, &records(index, index + 1, 1, 4000)).await;
    }
    done(|done| wal.save_vote(Bytes::from_static(b"vote"), done)).await.unwrap();
    done(|done| wal.truncate_after(Some(33), done)).await.unwrap();
    append(&wal, &records(34, 36, 2, 700)).await;
    wal.close().await;
    assert_eq!(rig.segments().len(), 3);
    rig
}

/// Ends the log as `kill -9` does: it has no time to say where it ends.
async fn kill(rig: &Rig, wal: &Wal) {
    rig.disk.kill();
    wal.close().await;
}

fn refusal(rig: &Rig) -> String {
    rig.try_open().map(|_| ()).expect_err("must refuse").to_string()
}

#[tokio::test]
async fn a_last_batch_cut_anywhere_leaves_what_was_acknowledged() {
    let rig = Rig::new(2);
    let (wal, _) = rig.open();
    append(&wal, &records(0, 3, 1, 55)).await;
    let path = rig.segments().remove(0);
    let before = wal_end(&rig, &path);
    append(&wal, &records(3, 6, 1, 303)).await;
    kill(&rig, &wal).await;
    let after = wal_end(&rig, &path);
    for end in before..=after {
        let torn = Rig::on(rig.disk.fork(end));
        zero(&torn.disk, &path, end, after - end);
        let (wal, recovered) = torn.open();
        let last = recovered.last.unwrap().index;
        assert!(last >= 2, "cut at {end}: an acknowledged entry is gone");
        assert_eq!(live(&wal), [records(0, 3, 1, 55), records(3, last + 1, 1, 303)].concat(), "cut at {end}");
        let whole = if last == 2 { before } else { before + (last - 2) * frame::entry_octets(303) as u64 };
        assert_eq!(end == after, last == 5, "cut at {end}");
        assert!(recovered.cut_octets <= end - whole, "cut at {end}");
        // What comes next must not run into remains of the torn batch.
        append(&wal, &records(last + 1, last + 2, 2, 20)).await;
        torn.disk.crash();
        let (wal, recovered) = torn.open();
        assert_eq!((recovered.last, recovered.cut_octets), (Some(mark(last + 1, 2)), 0), "cut at {end}");
        wal.close().await;
        // The same with the file itself cut short.
        let short = Rig::on(rig.disk.fork(end));
        short.disk.open(&path, Open::Write).unwrap().set_len(end).unwrap();
        let (wal, recovered) = short.open();
        assert_eq!(recovered.last.unwrap().index, last, "file cut at {end}");
        append(&wal, &records(last + 1, last + 3, 2, 2000)).await;
        wal.close().await;
        assert_eq!((short.verify().finding, short.open().1.last), (None, Some(mark(last + 2, 2))));
    }
}

/// The first octet after the last frame.
fn wal_end(rig: &Rig, path: &Path) -> u64 {
    let octets = rig.disk.read(path, u64::MAX).unwrap();
    segment::written_octets(&octets).next_multiple_of(frame::ALIGN) as u64
}

fn zero(disk: &SimDisk, path: &Path, offset: u64, octets: u64) {
    let file = disk.open(path, Open::Write).unwrap();
    file.write_at(offset, &vec![0; octets as usize]).unwrap();
    file.sync_data().unwrap();
}

#[tokio::test]
async fn remains_of_a_torn_batch_are_never_taken_for_later_frames() {
    // Three equal frames torn in the first; then one frame of the same size is written: the old second would fit.
    let rig = Rig::new(3);
    let (wal, _) = rig.open();
    append(&wal, &records(0, 1, 1, 600)).await;
    let path = rig.segments().remove(0);
    let start = wal_end(&rig, &path);
    append(&wal, &records(1, 4, 1, 600)).await;
    kill(&rig, &wal).await;
    let sector = start.next_multiple_of(512);
    zero(&rig.disk, &path, start, sector - start);
    let (wal, recovered) = rig.open();
    assert_eq!(recovered.last, Some(mark(0, 1)));
    assert!(recovered.cut_octets > 0);
    append(&wal, &records(1, 2, 2, 600)).await;
    rig.disk.crash();
    assert_eq!(rig.open().1.last, Some(mark(1, 2)), "no truncated entry comes back");
}

#[tokio::test]
async fn damage_inside_the_last_batch_that_no_power_cut_makes_is_refused() {
    let rig = Rig::new(4);
    let (wal, _) = rig.open();
    append(&wal, &records(0, 1, 1, 600)).await;
    let path = rig.segments().remove(0);
    let start = wal_end(&rig, &path);
    append(&wal, &records(1, 4, 1, 600)).await;
    kill(&rig, &wal).await;
    rig.disk.flip(&path, start + 100, 1).unwrap();
    let text = refusal(&rig);
    assert!(text.contains("same batch") && text.contains(path.to_str().unwrap()), "{text}");
}

#[tokio::test]
async fn a_garbled_middle_is_refused() {
    let rig = Rig::new(5);
    let (wal, _) = rig.open();
    append(&wal, &records(0, 1, 1, 600)).await;
    let path = rig.segments().remove(0);
    let middle = wal_end(&rig, &path);
    append(&wal, &records(1, 2, 1, 600)).await;
    let last = wal_end(&rig, &path);
    append(&wal, &records(2, 3, 1, 600)).await;
    wal.close().await;
    for offset in [middle, middle + 9, middle + 30, middle + 300, last - 1] {
        let garbled = Rig::on(rig.disk.fork(1));
        garbled.disk.flip(&path, offset, 0x10).unwrap();
        let text = refusal(&garbled);
        assert!(text.contains(&format!("damaged at offset {middle}")) && text.contains("wipe"), "{text}");
        let finding = garbled.verify().finding.unwrap();
        assert_eq!((finding.offset, finding.first_bad_index), (middle, 1));
    }
    // A hole of zeros, as lost sectors leave it, is damage as well: the batch behind it proves that it was durable.
    let holed = Rig::on(rig.disk.fork(1));
    zero(&holed.disk, &path, middle, last - middle);
    assert!(refusal(&holed).contains("was written after it was durable"));
    let rig = log_of_three().await;
    for segment in &rig.segments()[..2] {
        for offset in [header::HEADER_OCTETS as u64 + 3, 30_000] {
            let garbled = Rig::on(rig.disk.fork(1));
            garbled.disk.flip(segment, offset, 0x10).unwrap();
            assert!(refusal(&garbled).contains("a later segment exists"));
        }
    }
}

#[tokio::test]
async fn nothing_is_changed_by_refusing() {
    let rig = log_of_three().await;
    let segments = rig.segments();
    rig.disk.flip(&segments[0], 30_000, 1).unwrap();
    zero(&rig.disk, &segments[2], wal_end(&rig, &segments[2]) - 8, 8);
    let content = || segments.iter().map(|path| rig.disk.read(path, u64::MAX).unwrap()).collect::<Vec<_>>();
    let before = content();
    refusal(&rig);
    assert!(before == content());
}

#[tokio::test]
async fn a_missing_segment_is_refused() {
    let rig = log_of_three().await;
    for (missing, path) in rig.segments().iter().enumerate() {
        let holed = Rig::on(rig.disk.fork(1));
        holed.disk.remove(path).unwrap();
        let error = holed.try_open().map(|_| ()).unwrap_err();
        assert!(matches!(error, WalError::Missing { .. }) && error.to_string().contains("put it back"), "{error}");
        assert!(holed.verify().finding.is_some(), "segment {missing}");
    }
}

#[tokio::test]
async fn another_cluster_node_epoch_or_version_is_refused() {
    let rig = log_of_three().await;
    let others = [
        ("cluster", Identity { cluster_id: [0xc2; 16], ..ME }),
        ("node", Identity { node_id: 4, ..ME }),
        ("epoch", Identity { epoch: 2, ..ME }),
    ];
    for (what, identity) in others {
        let error =
            Wal::open(&rig.seams(), Path::new(DIRECTORY), identity, rig.options.clone()).map(|_| ()).unwrap_err();
        assert!(matches!(error, WalError::Foreign { what: found, .. } if found == what), "{error}");
    }
    let newer = rig.disk.open(&rig.segments()[1], Open::Write).unwrap();
    newer.write_at(11, &[9]).unwrap();
    assert!(refusal(&rig).contains("format version 9"));
}

#[tokio::test]
async fn a_segment_under_another_name_or_cut_in_its_header_is_refused() {
    let rig = log_of_three().await;
    let segments = rig.segments();
    let renamed = Rig::on(rig.disk.fork(1));
    renamed.disk.rename(&segments[2], &Path::new(DIRECTORY).join(segment::file_name(1000))).unwrap();
    assert!(refusal(&renamed).contains("begins with frame"));
    let short = Rig::on(rig.disk.fork(1));
    short.disk.open(&segments[2], Open::Write).unwrap().set_len(50).unwrap();
    assert!(refusal(&short).contains("ends within its header"));
}

#[tokio::test]
async fn verification_finds_every_flipped_octet() {
    let rig = log_of_three().await;
    let report = rig.verify();
    assert_eq!((report.finding, report.segments, report.entries), (None, 3, 37));
    assert_eq!((report.identity, report.first_index, report.next_index), (Some(ME), 0, 36));
    let live: Vec<Record> = [records(0, 34, 1, 4000), records(34, 36, 2, 700)].concat();
    let link = |record: &Record| {
        let Record { index, term, node, kind, .. } = *record;
        chain::Link { index, term, node, kind }
    };
    let start = chain::genesis(&ME.cluster_id);
    let expected = live.iter().fold(start, |chain, record| chain::next(&chain, link(record), &record.payload));
    assert_eq!(report.chain, Some(expected), "the chain is over what was not superseded");
    for path in rig.segments() {
        let size = rig.disk.open(&path, Open::Read).unwrap().len().unwrap();
        // Every octet of headers, heads and the tail; a stride through the long payloads.
        let offsets = (0..size).filter(|offset| *offset < 400 || offset % 97 == 0 || size - offset < 300);
        for offset in offsets {
            rig.disk.flip(&path, offset, 0x40).unwrap();
            let found = rig.verify().finding;
            assert!(found.is_some(), "octet {offset} of {}", path.display());
            rig.disk.flip(&path, offset, 0x40).unwrap();
        }
    }
    assert_eq!(rig.verify().finding, None);
}

#[tokio::test]
async fn verification_finds_an_altered_entry_with_a_good_checksum() {
    let rig = log_of_three().await;
    let path = rig.segments().remove(0);
    let octets = rig.disk.read(&path, u64::MAX).unwrap();
    let salt = SegmentHeader::decode(octets[..header::HEADER_OCTETS].try_into().unwrap()).unwrap().salt;
    let mut read = frame::decode(&octets[header::HEADER_OCTETS..], salt).unwrap();
    let frame::Frame::Entry(record) = &mut read.frame else { panic!("the first frame is an entry") };
    record.term = 77;
    let mut forged = Vec::new();
    frame::encode(&read.frame, read.place, salt, &mut forged);
    rig.disk.open(&path, Open::Write).unwrap().write_at(header::HEADER_OCTETS as u64, &forged).unwrap();
    let finding = rig.verify().finding.unwrap();
    assert_eq!(finding.first_bad_index, 0, "{finding:?}");
    assert!(finding.what.contains("chain"), "{finding:?}");
    assert!(refusal(&rig).contains("chain"), "the log does not open with it either");
}

//! Verification of a small log: every octet changed, every entry dropped, exchanged or altered under good checksums.

use super::super::frame::Frame;
use super::*;

/// A closed log of two segments with some of everything, and its disk.
async fn small_log() -> Rig {
    let rig = Rig::new(11);
    let (wal, _) = rig.open();
    done(|done| wal.save_vote(Bytes::from_static(b"vote"), done)).await.unwrap();
    append(&wal, &records(0, 6, 1, 40)).await;
    done(|done| wal.truncate_after(Some(3), done)).await.unwrap();
    append(&wal, &records(4, 7, 2, 30)).await;
    append(&wal, &records(7, 10, 2, 15_000)).await;
    done(|done| wal.save_committed(Some(mark(8, 2)), done)).await.unwrap();
    done(|done| wal.purge(mark(2, 1), None, done)).await.unwrap();
    append(&wal, &records(10, 12, 3, 15_000)).await;
    append(&wal, &records(12, 15, 3, 25)).await;
    done(|done| wal.save_committed(Some(mark(14, 3)), done)).await.unwrap();
    wal.close().await;
    assert_eq!(rig.segments().len(), 2);
    rig
}

/// The entries that verification comes across and that are not superseded.
fn entries(rig: &Rig) -> (Vec<Record>, Report) {
    let mut found: Vec<Record> = Vec::new();
    let report = rig.verify_seeing(&mut |seen| {
        match seen {
            Seen::Entry(record, _) => found.push(record.clone()),
            Seen::Superseded(next) => found.retain(|record| record.index < next),
            Seen::Segment(..) | Seen::Jumped(..) => {}
        }
        Ok(())
    });
    (found, report)
}

#[tokio::test]
async fn every_octet_counts_or_is_written_anew() {
    let rig = small_log().await;
    let (sound, report) = entries(&rig);
    assert_eq!((report.finding.as_ref(), report.next_index, sound.len()), (None, 15, 15));
    let names = rig.disk.list(Path::new(DIRECTORY)).unwrap();
    let mut octets = 0;
    for path in names.iter().map(|name| Path::new(DIRECTORY).join(name)) {
        let size = rig.disk.open(&path, Open::Read).unwrap().len().unwrap();
        let is_spare = path.ends_with(spare::NAME);
        for offset in 0..size {
            rig.disk.flip(&path, offset, 1 << (offset % 8)).unwrap();
            let report = rig.verify();
            rig.disk.flip(&path, offset, 1 << (offset % 8)).unwrap();
            let written_anew = is_spare && offset < limits::WAL_SEGMENT_RESERVE_OCTETS;
            assert_eq!(report.finding.is_none(), written_anew, "octet {offset} of {}", path.display());
            octets += 1;
        }
    }
    assert!(octets > 3 * 64 * 1024 - 30_000, "{octets} octets of two segments and the next one");
    assert_eq!(rig.verify().finding, None);
}

#[tokio::test]
async fn what_does_not_count_does_no_harm() {
    let rig = small_log().await;
    let spare = Path::new(DIRECTORY).join(spare::NAME);
    for offset in [0, 100, limits::WAL_SEGMENT_RESERVE_OCTETS - 1] {
        rig.disk.flip(&spare, offset, 0xff).unwrap();
    }
    let (wal, _) = rig.open();
    append(&wal, &records(15, 30, 3, 15_000)).await;
    wal.close().await;
    assert_eq!((rig.verify().finding, rig.verify().next_index), (None, 30));
}

/// All frames of a log, segment by segment.
struct Frames(Vec<(SegmentHeader, Vec<Frame>)>);

impl Frames {
    fn of(rig: &Rig) -> Self {
        let read = |path: PathBuf| {
            let octets = rig.disk.read(&path, u64::MAX).unwrap();
            let header = SegmentHeader::decode(octets[..header::HEADER_OCTETS].try_into().unwrap()).unwrap();
            let mut frames = Vec::new();
            let keep = |_, read: frame::Read| {
                frames.push(read.frame);
                Ok::<(), ()>(())
            };
            segment::Segment { path, header }.walk(&octets, keep).unwrap();
            (header, frames)
        };
        Self(rig.segments().into_iter().map(read).collect())
    }

    /// The same log with these frames: sequences, file names and every checksum as they must be.
    fn forge(self, rig: &Rig) -> Rig {
        let forged = Rig::on(rig.disk.fork(1));
        for path in forged.segments() {
            forged.disk.remove(&path).unwrap();
        }
        let mut sequence = 1;
        for (header, frames) in self.0 {
            let header = SegmentHeader { first_sequence: sequence, ..header };
            let mut octets = header.encode().to_vec();
            for frame in &frames {
                frame::encode(frame, frame::Place { sequence, batch: sequence }, header.salt, &mut octets);
                sequence += 1;
            }
            let path = Path::new(DIRECTORY).join(segment::file_name(header.first_sequence));
            forged.disk.open(&path, Open::CreateNew(0o600)).unwrap().write_at(0, &octets).unwrap();
        }
        forged
    }

    /// The entries that are not superseded.
    fn entries(&mut self) -> Vec<&mut Record> {
        let mut found: Vec<&mut Record> = Vec::new();
        for frame in self.0.iter_mut().flat_map(|(_, frames)| frames) {
            match frame {
                Frame::Entry(record) => found.push(record),
                Frame::Truncate(point) => found.retain(|record| record.index < point.next_index),
                _ => {}
            }
        }
        found
    }

    fn drop_entry(&mut self, index: u64, term: u64) {
        for (_, frames) in &mut self.0 {
            frames.retain(|frame| !matches!(frame, Frame::Entry(it) if (it.index, it.term) == (index, term)));
        }
    }
}

#[tokio::test]
async fn entries_dropped_exchanged_or_altered_under_good_checksums_are_found() {
    let rig = small_log().await;
    assert_eq!(entries(&Frames::of(&rig).forge(&rig)).1.finding, None, "a forgery that changes nothing is none");
    let count = Frames::of(&rig).entries().len();
    let found = |frames: Frames, what: String| {
        let finding = frames.forge(&rig).verify().finding;
        assert!(finding.is_some(), "{what}");
        finding.unwrap().first_bad_index
    };
    for one in 0..count {
        for other in one + 1..count {
            // Whole, and under the other's number.
            let mut frames = Frames::of(&rig);
            let mut list = frames.entries();
            let (front, back) = list.split_at_mut(other);
            std::mem::swap(&mut *front[one], &mut *back[0]);
            assert_eq!(found(frames, format!("entries {one} and {other} exchanged")), one as u64);
            let mut frames = Frames::of(&rig);
            let mut list = frames.entries();
            let (front, back) = list.split_at_mut(other);
            let (front, back) = (&mut front[one], &mut back[0]);
            std::mem::swap(&mut front.payload, &mut back.payload);
            std::mem::swap(&mut front.term, &mut back.term);
            let bad = found(frames, format!("contents of {one} and {other} exchanged"));
            assert!(bad <= one as u64, "{bad} for {one} and {other}");
        }
        let mut frames = Frames::of(&rig);
        let term = frames.entries()[one].term;
        frames.drop_entry(one as u64, term);
        found(frames, format!("entry {one} dropped"));
        // The later ones close up.
        let mut frames = Frames::of(&rig);
        frames.drop_entry(one as u64, term);
        let later = frames.entries();
        later.into_iter().filter(|record| record.index > one as u64).for_each(|record| record.index -= 1);
        found(frames, format!("entry {one} dropped, later ones closed up"));
        let mut frames = Frames::of(&rig);
        frames.entries()[one].payload = Bytes::from_static(b"altered");
        found(frames, format!("entry {one} altered"));
    }
}

#[tokio::test]
async fn superseded_entries_are_no_part_of_the_log() {
    let rig = small_log().await;
    let mut frames = Frames::of(&rig);
    let superseded = frames.0.iter_mut().flat_map(|(_, frames)| frames).find_map(|frame| match frame {
        Frame::Entry(record) if (record.index, record.term) == (5, 1) => Some(record),
        _ => None,
    });
    superseded.unwrap().payload = Bytes::from_static(b"altered");
    let forged = frames.forge(&rig);
    let ((before, _), (after, report)) = (entries(&rig), entries(&forged));
    assert_eq!((after, report.finding), (before, None));
}

#[tokio::test]
async fn a_log_that_ends_before_what_was_committed_is_found() {
    let rig = Rig::new(12);
    let (wal, _) = rig.open();
    append(&wal, &records(0, 3, 1, 40)).await;
    done(|done| wal.save_committed(Some(mark(2, 1)), done)).await.unwrap();
    rig.disk.kill();
    let mut frames = Frames::of(&rig);
    frames.drop_entry(2, 1);
    let finding = frames.forge(&rig).verify().finding.unwrap();
    assert_eq!(finding.first_bad_index, 2);
    assert!(finding.what.contains("entry 2 was committed"), "{}", finding.what);
    drop(wal);
}

#[tokio::test]
async fn a_log_in_use_is_verified_as_far_as_it_is_sound() {
    let rig = Rig::new(13);
    let (wal, _) = rig.open();
    append(&wal, &records(0, 20, 1, 4000)).await;
    let verify = || verify(&rig.disk.boot(), Path::new(DIRECTORY)).unwrap();
    let report = verify();
    assert_eq!((report.in_use, report.finding, report.segments, report.next_index), (true, None, 2, 20));
    // A frame that is being written.
    let last = rig.segments().remove(1);
    let octets = rig.disk.read(&last, u64::MAX).unwrap();
    rig.disk.flip(&last, segment::written_octets(&octets) as u64 - 1, 1).unwrap();
    let report = verify();
    assert_eq!((report.finding, report.next_index), (None, 19));
    rig.disk.flip(&rig.segments()[0], 30_000, 1).unwrap();
    assert!(verify().finding.is_some(), "what is sealed is judged");
    rig.disk.flip(&rig.segments()[0], 30_000, 1).unwrap();
    rig.disk.kill();
    let report = verify();
    assert!(!report.in_use && report.finding.unwrap().what.contains("torn"));
    drop(wal);
}

#[tokio::test]
async fn while_it_verifies_nobody_starts() {
    let rig = small_log().await;
    let places = Places { log: Path::new(DIRECTORY), backfill: None };
    let mut refused = 0;
    let mut see = |_: Seen<'_>| {
        refused += usize::from(matches!(rig.try_open(), Err(WalError::Locked { .. })));
        Ok(())
    };
    let report = verify_seeing(&rig.disk.boot(), places, &mut see).unwrap();
    assert_eq!((report.in_use, report.finding), (false, None));
    assert!(refused > 15);
    // A copy without the lock is verified like any other, and nothing is written to it.
    rig.disk.remove(&Path::new(DIRECTORY).join(LOCK_NAME)).unwrap();
    assert_eq!(verify(&rig.disk.boot(), Path::new(DIRECTORY)).unwrap().finding, None);
    assert!(!rig.disk.exists(&Path::new(DIRECTORY).join(LOCK_NAME)).unwrap());
}

#[tokio::test]
async fn what_the_caller_objects_to_is_a_finding() {
    let rig = small_log().await;
    let report = rig.verify_seeing(&mut |seen| match seen {
        Seen::Entry(record, Some(_)) if record.index == 9 => Err("not this one".into()),
        _ => Ok(()),
    });
    let finding = report.finding.unwrap();
    assert_eq!((finding.first_bad_index, finding.what.as_str()), (9, "not this one"));
}

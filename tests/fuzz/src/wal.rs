//! The write-ahead log: a small sound log edited octet by octet, and segments forged with good checksums.
//!
//! It refuses an altered log: without forged checksums, whatever is still read is what was written, in its place.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use certwright_raft::wal::{Identity, LogMark, Record, Recovered, Wal, WalError, WalOptions, verify};
use certwright_seams::Seams;
use certwright_seams::disk::{Disk, Open};
use certwright_seams::net::TcpNet;
use certwright_seams::sim::{InlineExec, SeededEntropy, SimClock, SimDisk};
use tokio::runtime::Runtime;

use crate::octets::Octets;
use crate::verdict::took;

mod forge;

pub(crate) use forge::{forged, forged_seeds};

const DIRECTORY: &str = "/data/log";
const SEGMENT_OCTETS: u64 = certwright_raft::limits::WAL_SEGMENT_OCTETS_MIN;
pub(crate) const ME: Identity = Identity { cluster_id: [0xc1; 16], node_id: 3, epoch: 1 };
/// Edits of one input.
const EDITS_MAX: usize = 8;

thread_local! {
    static RUNTIME: Runtime =
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
}

/// A log, and all entries that it ever held, by index.
struct Base {
    files: Vec<(PathBuf, Vec<u8>)>,
    entries: Vec<Record>,
    /// Where the last batch begins in the last file, and the first entry in it or behind it.
    last_batch: (usize, u64),
}

/// The first entry that was not purged.
const FIRST: u64 = 4;

impl Base {
    /// Entries up to this one must be there if recovery takes the log for one: a power cut may have torn the last batch, so
    /// that may be cut where it alone differs. Nothing is promised of a log of other files or lengths, nor where the last
    /// batch and anything before it differ: no later frame says that it was ever there.
    fn durable(&self, files: &[(PathBuf, Vec<u8>)]) -> u64 {
        let shape = |files: &[(PathBuf, Vec<u8>)]| -> Vec<_> {
            files.iter().map(|(path, octets)| (path.clone(), octets.len())).collect()
        };
        if shape(files) != shape(&self.files) {
            return FIRST;
        }
        let (start, first_in_it) = self.last_batch;
        let (mut is_altered, mut is_torn) = (false, false);
        for (number, ((_, now), (_, before))) in files.iter().zip(&self.files).enumerate() {
            let end = if number + 1 == files.len() { start } else { now.len() };
            is_altered |= now[..end] != before[..end];
            is_torn |= now[end..] != before[end..];
        }
        match (is_altered, is_torn) {
            (true, true) => FIRST,
            (false, true) => first_in_it,
            (_, false) => self.entries.len() as u64,
        }
    }
}

/// Where the last batch of a segment begins, and the first entry in it, if there is one: by the format's tables.
fn last_batch(octets: &[u8]) -> (usize, Option<u64>) {
    let number = |at: usize| u64::from_be_bytes(octets[at..at + 8].try_into().expect("eight octets"));
    let (mut at, mut last, mut found) = (forge::HEADER_OCTETS, 0, (forge::HEADER_OCTETS, None));
    while octets[at + 4] != 0 {
        let length = u32::from_be_bytes(octets[at..at + 4].try_into().expect("four octets")) as usize;
        let batch = number(at + 16);
        if batch != last {
            (last, found) = (batch, (at, None));
        }
        let payload = at + forge::HEAD_OCTETS;
        if octets[at + 4] == forge::ENTRY {
            found.1 = found.1.or(Some(number(payload)));
        }
        at = payload + length.next_multiple_of(8);
    }
    found
}

static BASE: LazyLock<Base> = LazyLock::new(base);

fn seams(disk: &SimDisk) -> Seams {
    Seams {
        clock: Arc::new(SimClock::new(0)),
        entropy: Arc::new(SeededEntropy::new(7)),
        net: Arc::new(TcpNet),
        disk: Arc::new(disk.boot()),
        exec: Arc::new(InlineExec::default()),
    }
}

fn open(disk: &SimDisk) -> Result<(Wal, Recovered), WalError> {
    Wal::open(&seams(disk), Path::new(DIRECTORY), ME, WalOptions::new(SEGMENT_OCTETS))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.with(|runtime| runtime.block_on(future))
}

fn disk_of(files: &[(PathBuf, Vec<u8>)]) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new(DIRECTORY), 0o700).expect("a new disk");
    for (path, octets) in files {
        let file = disk.open(path, Open::Create(0o600)).expect("a new disk");
        file.write_at(0, octets).expect("a new disk");
    }
    disk
}

/// Two segments: entries, a truncation, marks, votes.
fn base() -> Base {
    let disk = disk_of(&[]);
    let mut entries = Vec::new();
    block_on(async {
        let (wal, _) = open(&disk).expect("a new log");
        wal.save_vote(Bytes::from_static(b"vote"), done()).await;
        for number in 0..24_u64 {
            let (term, size) = (1 + number / 10, if number % 3 == 0 { 9_000 } else { 40 + number as usize });
            let record = Record { index: number, term, node: 0, kind: 1, payload: vec![number as u8 | 1; size].into() };
            wal.append(vec![record.clone()], done()).await;
            entries.push(record);
            if number == 12 {
                wal.truncate_after(Some(12), done()).await;
                wal.save_committed(Some(LogMark { index: 9, term: 1, node: 0 }), done()).await;
            }
            if number == 18 {
                wal.purge(LogMark { index: 3, term: 1, node: 0 }, None, done()).await;
                wal.save_vote(Bytes::from_static(b"another vote"), done()).await;
            }
        }
        // Durable, and never closed in good order: the last segment has no seal that would prove its entries.
        let (sender, durable) = tokio::sync::oneshot::channel();
        wal.truncate_after(Some(23), Box::new(move |result| drop(sender.send(result)))).await;
        durable.await.expect("the writer answers").expect("the simulated disk does not fail");
    });
    let names = disk.list(Path::new(DIRECTORY)).expect("the log is there");
    let segments = names.into_iter().filter(|name| name.extension().is_some_and(|it| it == "seg"));
    let read = |name: PathBuf| {
        let path = Path::new(DIRECTORY).join(name);
        let octets = disk.read(&path, u64::MAX).expect("the log is there");
        (path, octets)
    };
    let files: Vec<_> = segments.map(read).collect();
    assert!(files.len() >= 2, "one segment has nothing to be exchanged with");
    let (start, first_in_it) = last_batch(&files.last().expect("there are some").1);
    Base { files, last_batch: (start, first_in_it.unwrap_or(entries.len() as u64)), entries }
}

fn done() -> certwright_raft::wal::Done {
    Box::new(|result| result.expect("the simulated disk does not fail"))
}

/// Edits the log as the input says, then recovers and verifies it.
pub(crate) fn edited(input: &[u8]) {
    let base = &*BASE;
    let mut files = base.files.clone();
    let mut input = Octets(input);
    for _ in 0..EDITS_MAX {
        if input.is_empty() || files.is_empty() {
            break;
        }
        edit(&mut files, &mut input);
    }
    let is_prefix = |records: &[Record]| records.iter().all(|it| base.entries.get(it.index as usize) == Some(it));
    judge(&files, &is_prefix, FIRST..base.durable(&files));
}

/// Where in a file: near its beginning, near the end of what is written, or anywhere.
fn place(octets: &[u8], input: &mut Octets<'_>) -> usize {
    let at = usize::from(input.u16());
    let written = octets.iter().rposition(|octet| *octet != 0).map_or(0, |last| last + 1);
    let at = if input.u8().is_multiple_of(2) { at } else { written.saturating_sub(at % 512) };
    at.min(octets.len().saturating_sub(1))
}

fn edit(files: &mut Vec<(PathBuf, Vec<u8>)>, input: &mut Octets<'_>) {
    let (kind, which, count) = (input.u8() % 9, usize::from(input.u8()) % files.len(), files.len());
    let octets = &mut files[which].1;
    if octets.is_empty() {
        return;
    }
    let at = place(octets, input);
    match kind {
        0 => octets[at] ^= input.u8().max(1),
        1 => octets.truncate(at),
        2 => {
            let end = (at + usize::from(input.u16())).min(octets.len());
            octets[at..end].fill(0);
        }
        3 => {
            let new = input.slice();
            let end = (at + new.len()).min(octets.len());
            octets[at..end].copy_from_slice(&new[..end - at]);
        }
        4 => {
            // A piece of this or another file over it: frames out of place with good checksums.
            let (from, from_at, len) =
                (usize::from(input.u8()) % count, usize::from(input.u16()), usize::from(input.u16()));
            let source = files[from].1.clone();
            let piece = source.get(from_at..(from_at + len).min(source.len())).unwrap_or_default();
            let octets = &mut files[which].1;
            let end = (at + piece.len()).min(octets.len());
            octets[at..end].copy_from_slice(&piece[..end - at]);
        }
        5 => drop(files.remove(which)),
        6 => {
            let other = usize::from(input.u8()) % count;
            let swapped = std::mem::take(&mut files[which].1);
            let swapped = std::mem::replace(&mut files[other].1, swapped);
            files[which].1 = if which == other { Vec::new() } else { swapped };
        }
        7 => octets.extend_from_slice(input.slice()),
        _ => drop(octets.drain(at..(at + usize::from(input.u8())).min(octets.len()))),
    }
}

/// Recovers twice and verifies, and holds one against the other.
fn judge(files: &[(PathBuf, Vec<u8>)], is_known: &dyn Fn(&[Record]) -> bool, durable: Range<u64>) {
    let disk = disk_of(files);
    let report = verify(&disk.boot(), Path::new(DIRECTORY)).expect("the simulated disk does not fail");
    if let Some(finding) = &report.finding {
        assert!(!finding.what.is_empty());
    }
    let log = block_on(async {
        let (wal, recovered) = match open(&disk) {
            Ok(opened) => opened,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return Err(error);
            }
        };
        let live = wal.read(wal.first_index(), u64::MAX, usize::MAX).expect("what recovery took can be read");
        assert!(live.windows(2).all(|pair| pair[0].index + 1 == pair[1].index && pair[0].term <= pair[1].term));
        assert!(is_known(&live), "entries that nobody wrote");
        let mut kept = durable.clone();
        assert!(kept.all(|index| live.binary_search_by_key(&index, |it| it.index).is_ok()), "{durable:?} is not whole");
        let archived = wal.archive_read(wal.archive_first_index(), u64::MAX, usize::MAX);
        assert!(archived.is_err() || archived.is_ok_and(|entries| is_known(&entries)));
        wal.close().await;
        Ok((recovered, live))
    });
    match log {
        // What verifies opens: recovery is the more lenient of the two.
        Err(error) => assert!(report.finding.is_some() || report.identity != Some(ME), "{error}"),
        Ok((recovered, live)) => {
            once_more(&disk, &recovered, &live);
            if recovered.cut_octets == 0 && !live.is_empty() {
                took();
            }
        }
    }
}

/// What was recovered is there the next time, and nothing is cut again.
fn once_more(disk: &SimDisk, recovered: &Recovered, live: &[Record]) {
    disk.kill();
    let (same, again) = block_on(async {
        let (wal, same) = open(disk).expect("what was recovered opens");
        let again = wal.read(wal.first_index(), u64::MAX, usize::MAX).expect("what was recovered can be read");
        wal.close().await;
        (same, again)
    });
    assert_eq!(again, live);
    let marks = |it: &Recovered| (it.vote.clone(), it.committed, it.purged, it.last);
    assert_eq!((marks(&same), same.cut_octets), (marks(recovered), 0));
}

pub(crate) fn edited_seeds() -> Vec<Vec<u8>> {
    vec![
        vec![],
        vec![0, 0, 0, 20, 0, 1],
        vec![0, 1, 1, 20, 0, 1],
        vec![0, 2, 0, 40, 1, 1],
        vec![1, 2, 0, 40, 1],
        vec![2, 2, 0, 60, 1, 0, 60],
        vec![4, 2, 0, 0, 1, 2, 0, 128, 0, 64],
        // An octet of an entry in the last segment.
        vec![0, 1, 0, 40, 1, 1],
        vec![0, 1, 0, 100, 1, 1],
        vec![5, 1],
        vec![6, 0, 0, 0, 0, 1],
        vec![7, 2, 0, 0, 0, 0, 4, 1, 2, 3, 4],
    ]
}

//! Gaps that snapshots left in this node's archive, with the chain's value at both ends, and the sealed segments that
//! fill them.
//!
//! It refuses to show an entry of a gap before all of them chain from one end to the other, and to keep a node from
//! starting for want of history: what is not sound here is fetched again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use certwright_seams::Entropy;
use certwright_seams::disk::{Disk, Open};
use prost::Message;
use tokio::sync::watch;

use super::archive::{self, Archive};
use super::frame::{self, Frame, Place, Seal};
use super::header::{ChainPoint, SegmentHeader};
use super::salts::Salts;
use super::segment::{self, Segment, parse_name};
use super::spare::FILE_MODE;
use super::writer::write_seal;
use super::{DIRECTORY_MODE, Floor, Identity, Record, Wal};
use crate::chain::{self, Chain, Link};
use crate::consensus::record::{decode, encode};
use crate::limits::{GAPS_OCTETS_MAX, READ_OCTETS_MAX};

/// Holds the list of gaps.
const LIST_NAME: &str = "gaps";
/// A segment before it is whole.
const DRAFT_NAME: &str = "draft";

/// Entries that are not in this node's own log: `from` up to `to`, exclusive, and the chain's value before each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Gap {
    pub(crate) from: u64,
    pub(crate) from_chain: Chain,
    pub(crate) to: u64,
    pub(crate) to_chain: Chain,
    /// All of it is here and proved.
    pub(crate) filled: bool,
}

/// What became of a gap that was fetched to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Judged {
    /// It is shown.
    Filled,
    /// What was fetched is no part of the log.
    DoesNotChain,
    /// It is no gap any more: [`Gaps::divide`] made two of it meanwhile.
    Divided,
}

/// How far a gap is filled with what is not proved yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Progress {
    pub(crate) next_index: u64,
    pub(crate) chain: Chain,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct ListForm {
    #[prost(message, repeated, tag = "1")]
    gaps: Vec<GapForm>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct GapForm {
    #[prost(uint64, tag = "1")]
    from_index: u64,
    #[prost(bytes = "bytes", tag = "2")]
    from_chain: Bytes,
    #[prost(uint64, tag = "3")]
    to_index: u64,
    #[prost(bytes = "bytes", tag = "4")]
    to_chain: Bytes,
    #[prost(bool, tag = "5")]
    filled: bool,
}

impl From<&Gap> for GapForm {
    fn from(gap: &Gap) -> Self {
        Self {
            from_index: gap.from,
            from_chain: Bytes::copy_from_slice(&gap.from_chain),
            to_index: gap.to,
            to_chain: Bytes::copy_from_slice(&gap.to_chain),
            filled: gap.filled,
        }
    }
}

impl GapForm {
    fn gap(self) -> Option<Gap> {
        let (from_chain, to_chain) = (self.from_chain[..].try_into().ok()?, self.to_chain[..].try_into().ok()?);
        Some(Gap { from: self.from_index, from_chain, to: self.to_index, to_chain, filled: self.filled })
    }
}

/// The gaps of one node. All calls block on the disk.
pub(crate) struct Gaps {
    disk: Arc<dyn Disk>,
    salts: Salts,
    directory: PathBuf,
    identity: Identity,
    list: Mutex<Vec<Gap>>,
    /// What fills the gaps that are filled.
    archive: Mutex<Archive>,
    /// How many gaps were filled in this run; told of new gaps, too.
    changes: watch::Sender<u64>,
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each critical section replaces one value by another.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gaps {
    /// Opens the directory, or makes it.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        entropy: &dyn Entropy,
        directory: &Path,
        identity: Identity,
    ) -> io::Result<Self> {
        disk.create_dir_durable(directory, DIRECTORY_MODE)?;
        let list = read_list(&*disk, &directory.join(LIST_NAME))?;
        let (list, archive) = (Mutex::new(list), Mutex::default());
        let changes = watch::Sender::new(0);
        let salts = Salts::new(entropy);
        let gaps = Self { disk, salts, directory: directory.to_path_buf(), identity, list, archive, changes };
        gaps.load();
        Ok(gaps)
    }

    /// Told when a gap was recorded or filled; the value says how many were filled.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// A gap that is to be filled, each in its turn: nobody may have what one of them lacks.
    pub(crate) fn unfilled(&self, turn: usize) -> Option<Gap> {
        let list = guard(&self.list);
        let unfilled: Vec<&Gap> = list.iter().filter(|gap| !gap.filled).collect();
        unfilled.get(turn % unfilled.len().max(1)).map(|gap| (*gap).clone())
    }

    /// Whether everything before that entry, from the first of all, is still to come from peers.
    pub(crate) fn lacks_all_before(&self, first_index: u64) -> bool {
        guard(&self.list).iter().any(|gap| !gap.filled && gap.from == 0 && gap.to >= first_index)
    }

    /// Whether that entry is still to come from peers.
    pub(crate) fn lacks(&self, index: u64) -> bool {
        guard(&self.list).iter().any(|gap| !gap.filled && (gap.from..gap.to).contains(&index))
    }

    /// Remembers that a snapshot jumps from the end of the entries before `from` to `to`, durably. To be called before
    /// the log goes on after the snapshot.
    pub(crate) fn record(&self, wal: &Wal, from: u64, to: u64, to_chain: Chain) -> io::Result<()> {
        if from >= to || guard(&self.list).iter().any(|gap| gap.from == from && gap.to == to) {
            return Ok(());
        }
        let Some(from_chain) = self.chain_before(wal, from)? else {
            tracing::warn!(from, to, "the chain before a gap is not known: the gap stays");
            return Ok(());
        };
        self.change(|list| list.push(Gap { from, from_chain, to, to_chain, filled: false }))?;
        self.changes.send_modify(|_| {});
        Ok(())
    }

    /// The chain's value before an entry, from the nearest point where it is known; `None` when entries between are not
    /// here. Reads at most a segment, if none is missing.
    pub(crate) fn chain_before(&self, wal: &Wal, next_index: u64) -> io::Result<Option<Chain>> {
        let ends = guard(&self.list).iter().map(|gap| (gap.to, gap.to_chain)).collect::<Vec<_>>();
        let mut anchors = wal.anchors();
        anchors.extend(ends);
        anchors.extend(guard(&self.archive).anchors());
        anchors.retain(|(index, _)| *index <= next_index);
        anchors.sort_unstable_by_key(|(index, _)| std::cmp::Reverse(*index));
        // Whatever is missing after the nearest one is missing after those before it as well.
        match anchors.first() {
            Some((index, chain)) => self.fold(wal, Progress { next_index: *index, chain: *chain }, next_index),
            None => Ok(None),
        }
    }

    fn fold(&self, wal: &Wal, mut at: Progress, to: u64) -> io::Result<Option<Chain>> {
        while at.next_index < to {
            let records = self.archive_read(wal, at.next_index, to, READ_OCTETS_MAX)?;
            if records.is_empty() {
                return Ok(None);
            }
            for record in &records {
                at = after(at, record)?;
            }
        }
        Ok(Some(at.chain))
    }

    /// Entries of the log and its archive, those that were fetched from peers included; otherwise as
    /// [`Wal::archive_read`].
    pub(crate) fn archive_read(&self, wal: &Wal, from: u64, to: u64, octets_max: usize) -> io::Result<Vec<Record>> {
        let records = wal.archive_read(from, to, octets_max)?;
        if !records.is_empty() || from >= to {
            return Ok(records);
        }
        archive::read(&*self.disk, || guard(&self.archive), (from, to), octets_max)
    }

    /// Whether every entry from one index up to another (exclusive) can be read. Reads them all.
    pub(crate) fn is_whole(&self, wal: &Wal, mut from: u64, to: u64) -> io::Result<bool> {
        while from < to {
            let run = self.archive_read(wal, from, to, READ_OCTETS_MAX)?;
            if run.is_empty() {
                return Ok(false);
            }
            from += run.len() as u64;
        }
        Ok(true)
    }

    /// How far the gap is filled with what earlier runs fetched; removes what does not belong to it.
    pub(crate) fn progress(&self, gap: &Gap) -> io::Result<Progress> {
        let mut at = Progress { next_index: gap.from, chain: gap.from_chain };
        let mut whole = Vec::new();
        while at.next_index < gap.to {
            // One that goes on beyond the end was fetched for a longer gap.
            let fits = |seal: &Seal| seal.end.next_index <= gap.to;
            let Some((segment, seal)) = self.sealed(at).filter(|(_, seal)| fits(seal)) else { break };
            whole.push(segment.header.first_sequence);
            let Some(chain) = seal.end.chain else { break };
            at = Progress { next_index: seal.end.next_index, chain };
        }
        self.remove(gap, &whole)?;
        Ok(at)
    }

    /// The segment that begins there, if it is whole.
    fn sealed(&self, at: Progress) -> Option<(Segment, Seal)> {
        let sequence = sequence_of(at.next_index);
        let path = self.directory.join(segment::file_name(sequence));
        let segment = segment::read_header(&*self.disk, path, sequence, Some(self.identity)).ok()?;
        let start = ChainPoint { next_index: at.next_index, chain: Some(at.chain) };
        let (_, seal) = segment.read_seal(&*self.disk).ok().flatten()?;
        (segment.header.start == start && seal.end.next_index > at.next_index).then_some((segment, seal))
    }

    /// Removes every segment of a gap but those.
    fn remove(&self, gap: &Gap, but: &[u64]) -> io::Result<()> {
        let sequences = sequence_of(gap.from)..sequence_of(gap.to);
        for name in self.disk.list(&self.directory)? {
            if parse_name(&name).is_some_and(|it| sequences.contains(&it) && !but.contains(&it)) {
                self.disk.remove(&self.directory.join(name))?;
            }
        }
        Ok(())
    }

    /// Divides an unfilled gap at a floor that the log speaks of, durably: whoever let go of what lies below still gives what
    /// lies above.
    pub(crate) fn divide(&self, floor: &Floor) -> io::Result<()> {
        let first = floor.first_index;
        let is_across = |gap: &Gap| !gap.filled && gap.from < first && first < gap.to;
        if !guard(&self.list).iter().any(is_across) {
            return Ok(());
        }
        self.change(|list| {
            let mut above = Vec::new();
            for gap in list.iter_mut().filter(|gap| is_across(gap)) {
                above.push(Gap { from: first, from_chain: floor.chain, ..gap.clone() });
                (gap.to, gap.to_chain) = (first, floor.chain);
            }
            list.append(&mut above);
        })?;
        self.changes.send_modify(|_| {});
        Ok(())
    }

    /// Forgets the gaps below a floor and what filled them; one across it begins at the floor, or with the segment that leads
    /// across it. The list is durable before anything is deleted.
    pub(crate) fn raise(&self, floor: &Floor) -> io::Result<()> {
        let first = floor.first_index;
        if guard(&self.list).iter().all(|gap| gap.from >= first) {
            return self.sweep();
        }
        let across = |gap: &Gap| {
            let (mut at, mut end) = (Progress { next_index: gap.from, chain: gap.from_chain }, None);
            while let Some((_, seal)) = self.sealed(at).filter(|(_, seal)| seal.end.next_index <= first) {
                let Some(chain) = seal.end.chain else { break };
                at = Progress { next_index: seal.end.next_index, chain };
                end = Some(at);
            }
            end
        };
        let mut is_closed = false;
        self.change(|list| {
            is_closed = list.iter().any(|gap| !gap.filled && gap.to <= first);
            list.retain(|gap| gap.to > first);
            for gap in list.iter_mut().filter(|gap| gap.from < first) {
                let begins = match gap.filled {
                    true => across(gap),
                    false => Some(Progress { next_index: first, chain: floor.chain }),
                };
                if let Some(Progress { next_index, chain }) = begins {
                    (gap.from, gap.from_chain) = (next_index, chain);
                }
            }
        })?;
        self.load();
        self.sweep()?;
        // What nobody waits for any more is as good as filled.
        self.changes.send_modify(|filled| *filled += u64::from(is_closed));
        Ok(())
    }

    /// Whether a gap begins before that index with something that is not needed.
    pub(crate) fn has_below(&self, first_index: u64) -> bool {
        guard(&self.list).iter().any(|gap| gap.to <= first_index || !gap.filled && gap.from < first_index)
    }

    /// Removes what belongs to no gap.
    fn sweep(&self) -> io::Result<()> {
        let gaps = guard(&self.list).clone();
        let belongs =
            |sequence: u64| gaps.iter().any(|gap| (sequence_of(gap.from)..sequence_of(gap.to)).contains(&sequence));
        for name in self.disk.list(&self.directory)? {
            if parse_name(&name).is_some_and(|sequence| !belongs(sequence)) {
                self.disk.remove(&self.directory.join(name))?;
            }
        }
        Ok(())
    }

    /// Adds entries that continue what is there as one more sealed segment, durably. Nobody sees them yet.
    pub(crate) fn add(&self, at: Progress, records: &[Record]) -> io::Result<Progress> {
        if !self.lacks(at.next_index) {
            return Err(io::Error::other("the gap is not there any more"));
        }
        let header = SegmentHeader {
            identity: self.identity,
            first_sequence: sequence_of(at.next_index),
            start: ChainPoint { next_index: at.next_index, chain: Some(at.chain) },
            opening_frames: 0,
            salt: self.salts.next(),
        };
        let (mut octets, mut end) = (header.encode().to_vec(), at);
        for (record, sequence) in records.iter().zip(header.first_sequence..) {
            end = after(end, record)?;
            let place = Place { sequence, batch: header.first_sequence };
            frame::encode(&Frame::Entry(record.clone()), place, header.salt, &mut octets);
        }
        let draft = self.directory.join(DRAFT_NAME);
        let file = self.disk.open(&draft, Open::Create(FILE_MODE))?;
        file.set_len(0)?;
        file.write_at(0, &octets)?;
        let point = ChainPoint { next_index: end.next_index, chain: Some(end.chain) };
        let seal = Seal { end: point, low: at.next_index, not_after: None };
        let sequence = header.first_sequence + records.len() as u64;
        write_seal(&*file, &header, octets.len() as u64, sequence, seal)?;
        drop(file);
        self.disk.rename(&draft, &self.directory.join(segment::file_name(header.first_sequence)))?;
        self.disk.sync_dir(&self.directory)?;
        Ok(end)
    }

    /// Judges a gap that was fetched to its end: shows it when it chains, throws it away when it does not.
    pub(crate) fn finish(&self, gap: &Gap, end: Progress) -> io::Result<Judged> {
        if (end.next_index, end.chain) != (gap.to, gap.to_chain) {
            self.remove(gap, &[])?;
            return Ok(Judged::DoesNotChain);
        }
        let mut judged = Judged::Divided;
        self.change(|list| {
            for known in list.iter_mut().filter(|known| known.from == gap.from && known.to == gap.to) {
                (known.filled, judged) = (true, Judged::Filled);
            }
        })?;
        if judged == Judged::Filled {
            self.load();
            self.changes.send_modify(|filled| *filled += 1);
        }
        Ok(judged)
    }

    /// Octets that may still be written here.
    pub(crate) fn available(&self) -> io::Result<u64> {
        self.disk.available(&self.directory)
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Gap>)) -> io::Result<()> {
        let mut list = guard(&self.list);
        let mut changed = list.clone();
        change(&mut changed);
        changed.sort_unstable_by_key(|gap| gap.from);
        let form = ListForm { gaps: changed.iter().map(GapForm::from).collect() };
        self.disk.write_atomic(&self.directory.join(LIST_NAME), &encode(&form), FILE_MODE)?;
        *list = changed;
        Ok(())
    }

    /// Takes the segments of filled gaps into the archive. A gap that is not whole any more is to be filled again.
    fn load(&self) {
        let mut archive = Archive::default();
        let mut list = guard(&self.list);
        for gap in list.iter_mut().filter(|gap| gap.filled) {
            let mut at = Progress { next_index: gap.from, chain: gap.from_chain };
            let mut found = Vec::new();
            while let Some((segment, seal)) = self.sealed(at) {
                let Some(chain) = seal.end.chain else { break };
                at = Progress { next_index: seal.end.next_index, chain };
                found.push((Arc::new(segment), seal));
                if at.next_index >= gap.to {
                    break;
                }
            }
            gap.filled = (at.next_index, at.chain) == (gap.to, gap.to_chain);
            if !gap.filled {
                tracing::warn!(from = gap.from, to = gap.to, "what filled a gap is damaged: it is fetched again");
                continue;
            }
            for (segment, seal) in found {
                let low = segment.header.start.next_index;
                archive.add(segment, low, Some(seal), None);
            }
        }
        *guard(&self.archive) = archive;
    }
}

/// Names a segment's file: no log has an entry of the greatest number.
pub(super) fn sequence_of(index: u64) -> u64 {
    index.saturating_add(1)
}

/// Where the chain stands after the next entry.
fn after(at: Progress, record: &Record) -> io::Result<Progress> {
    let Record { index, term, node, kind, ref payload } = *record;
    if index != at.next_index {
        let text = format!("entry {index} stands where entry {} belongs", at.next_index);
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let chain = chain::next(&at.chain, Link { index, term, node, kind }, payload);
    Ok(Progress { next_index: index + 1, chain })
}

fn read_list(disk: &dyn Disk, path: &Path) -> io::Result<Vec<Gap>> {
    if !disk.exists(path)? {
        return Ok(Vec::new());
    }
    let octets = Bytes::from(disk.read(path, GAPS_OCTETS_MAX)?);
    let form: io::Result<ListForm> = decode("list of gaps", &octets);
    let list = form.ok().and_then(|form| form.gaps.into_iter().map(GapForm::gap).collect::<Option<Vec<_>>>());
    Ok(list.unwrap_or_else(|| {
        tracing::error!(path = %path.display(), "the list of gaps is damaged: they stay");
        Vec::new()
    }))
}

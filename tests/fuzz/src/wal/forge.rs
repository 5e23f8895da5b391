//! Segments with good checksums and any content: what a fuzzer alone would never get past a CRC with.
//!
//! It refuses the product's own encoder: the format is written here a second time, from its tables.

use std::path::{Path, PathBuf};

use certwright_raft::chain::{self, Chain, Link};

use super::{DIRECTORY, ME, SEGMENT_OCTETS, judge};
use crate::octets::Octets;

pub(super) const HEADER_OCTETS: usize = 128;
pub(super) const HEAD_OCTETS: usize = 32;
/// The kind of a frame that holds an entry.
pub(super) const ENTRY: u8 = 1;
/// Frames of one input.
const FRAMES_MAX: usize = 64;

/// A log as it is forged: the product's rules, until an input deviates.
struct Forge {
    files: Vec<(PathBuf, Vec<u8>)>,
    octets: Vec<u8>,
    sequence: u64,
    batch: u64,
    salt: u64,
    /// The chain before each entry; the last one is that of the next.
    chains: Vec<Chain>,
    low: u64,
    term: u64,
}

impl Forge {
    fn new() -> Self {
        let mut forge = Self {
            files: Vec::new(),
            octets: Vec::new(),
            sequence: 1,
            batch: 1,
            salt: 0x0102_0304_0506_0708,
            chains: vec![chain::genesis(&ME.cluster_id)],
            low: 0,
            term: 1,
        };
        forge.begin(0);
        forge
    }

    fn next_index(&self) -> u64 {
        self.chains.len() as u64 - 1
    }

    fn point(next_index: u64, chain: Option<Chain>) -> Vec<u8> {
        let known = [u8::from(chain.is_some())];
        [&next_index.to_be_bytes()[..], &known, &chain.unwrap_or_default()].concat()
    }

    fn end(&self) -> Vec<u8> {
        Self::point(self.next_index(), self.chains.last().copied())
    }

    /// Begins a segment.
    fn begin(&mut self, opening_frames: u32) {
        let mut header = b"CWRTLOG\n".to_vec();
        header.extend_from_slice(&1_u32.to_be_bytes());
        header.extend_from_slice(&(HEADER_OCTETS as u32).to_be_bytes());
        header.extend_from_slice(&ME.cluster_id);
        header.extend_from_slice(&[ME.node_id, ME.epoch, self.sequence].map(u64::to_be_bytes).concat());
        header.extend_from_slice(&self.end());
        header.extend_from_slice(&[0; 3]);
        header.extend_from_slice(&opening_frames.to_be_bytes());
        header.extend_from_slice(&self.salt.to_be_bytes());
        header.extend_from_slice(&[0; 12]);
        header.extend_from_slice(&crc32fast::hash(&header).to_be_bytes());
        let name = format!("{:020}.seg", self.sequence);
        self.files.push((Path::new(DIRECTORY).join(name), Vec::new()));
        (self.octets, self.low, self.batch) = (header, self.next_index(), self.sequence);
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) {
        let mut head = (payload.len() as u32).to_be_bytes().to_vec();
        head.extend_from_slice(&[kind, 0, 0, 0]);
        head.extend_from_slice(&[self.sequence, self.batch].map(u64::to_be_bytes).concat());
        let salted = |octets: &[&[u8]]| {
            let mut hasher = crc32fast::Hasher::new();
            hasher.update(&self.salt.to_be_bytes());
            octets.iter().for_each(|part| hasher.update(part));
            hasher.finalize().to_be_bytes()
        };
        head.extend_from_slice(&salted(&[&head]));
        let padding = vec![0; payload.len().next_multiple_of(8) - payload.len()];
        head.extend_from_slice(&salted(&[&head, payload, &padding]));
        debug_assert_eq!(head.len(), HEAD_OCTETS);
        self.octets.extend_from_slice(&[&head, payload, &padding[..]].concat());
        self.sequence += 1;
    }

    fn entry(&mut self, index: u64, kind: u8, payload: &[u8]) {
        let body = [&[index, self.term, 0].map(u64::to_be_bytes).concat()[..], &[kind], payload].concat();
        self.frame(ENTRY, &body);
        if let Some(last) = self.chains.last().filter(|_| index == self.next_index()) {
            let next = chain::next(last, Link { index, term: self.term, node: 0, kind }, payload);
            self.chains.push(next);
        }
    }

    fn truncate(&mut self, to: u64) {
        let chain = self.chains.get(to as usize).copied();
        self.frame(2, &Self::point(to, chain));
        self.chains.truncate((to as usize).saturating_add(1).max(1));
        self.low = self.low.min(to);
    }

    fn purge(&mut self, to: u64) {
        let chain = self.chains.get((to as usize).saturating_add(1)).copied();
        let mark = [to, self.term, 0].map(u64::to_be_bytes).concat();
        self.frame(4, &[mark, Self::point(to.wrapping_add(1), chain)].concat());
    }

    fn seal(&mut self) {
        let body = [&self.end()[..], &self.low.to_be_bytes(), &[0; 9]].concat();
        self.frame(6, &body);
    }

    /// Ends the segment as it is.
    fn finish(&mut self, is_trimmed: bool) {
        if !is_trimmed && self.octets.len() < SEGMENT_OCTETS as usize {
            self.octets.resize(SEGMENT_OCTETS as usize, 0);
        }
        if let Some((_, octets)) = self.files.last_mut() {
            *octets = std::mem::take(&mut self.octets);
        }
    }

    fn step(&mut self, input: &mut Octets<'_>) {
        let op = input.u8();
        if op & 0x80 != 0 {
            self.batch = self.sequence;
        }
        let chosen = op & 0x40 != 0;
        match op % 9 {
            0 | 1 => {
                let index = if chosen { input.number() } else { self.next_index() };
                let kind = input.u8();
                self.term = self.term.saturating_add(u64::from(kind >> 7));
                let payload = input.slice();
                self.entry(index, kind & 0x7f, payload);
            }
            2 => {
                let to = input.number();
                self.truncate(if chosen { to } else { to.min(self.next_index()) });
            }
            3 => {
                let vote = input.slice();
                self.frame(3, vote);
            }
            4 => {
                let to = input.number();
                self.purge(if chosen { to } else { to.min(self.next_index().saturating_sub(1)) });
            }
            5 if chosen => self.frame(5, &[]),
            5 => {
                let mark = [input.number(), self.term, 0].map(u64::to_be_bytes).concat();
                self.frame(5, &mark);
            }
            6 => {
                // As the writer goes over to the next segment.
                self.batch = if chosen { self.batch } else { self.sequence };
                self.seal();
                self.finish(true);
                self.begin(0);
            }
            7 => {
                let kind = input.u8();
                let payload = input.slice();
                self.frame(kind, payload);
            }
            _ => {
                // What no writer does: a gap in the numbers, a batch of the past, octets between frames.
                self.sequence = self.sequence.wrapping_add(input.number()).max(1);
                self.batch = self.batch.saturating_sub(input.number());
                let noise = input.slice();
                self.octets.extend_from_slice(noise);
            }
        }
    }
}

/// A log of frames with good checksums.
pub(crate) fn forged(input: &[u8]) {
    let mut input = Octets(input);
    let mut forge = Forge::new();
    for _ in 0..FRAMES_MAX {
        if input.is_empty() || forge.files.len() > 4 || forge.octets.len() > SEGMENT_OCTETS as usize {
            break;
        }
        forge.step(&mut input);
    }
    forge.finish(false);
    judge(&forge.files, &|_| true, 0..0);
}

pub(crate) fn forged_seeds() -> Vec<Vec<u8>> {
    let entry = |op: u8| [&[op, 1, 0, 4][..], b"data"].concat();
    let entries = |many: usize| [entry(0x80 + 7), entry(0)].concat().repeat(many);
    // 0x80 begins a batch; 0x87 = 135 is an entry (135 % 9 == 0), 0x89 = 137 a truncation, and so on.
    let batch = |kind: u8| (0x80..=0xbf).find(|op| op % 9 == kind).unwrap_or_default();
    let log = [
        vec![batch(3), 0, 4, 1, 2, 3, 4],
        [vec![batch(0), 1, 0, 2, 7, 7]].concat(),
        [vec![batch(1), 1, 0, 2, 8, 8]].concat(),
        vec![batch(2), 1],
        [vec![batch(0), 0x81, 0, 2, 9, 9]].concat(),
        vec![batch(5), 0],
        vec![batch(4), 0],
        vec![batch(6)],
        [vec![batch(0), 1, 0, 2, 7, 7]].concat(),
    ];
    vec![
        entries(1),
        entries(4),
        log.concat(),
        log[..4].concat(),
        [log.concat(), vec![batch(6)], log.concat()].concat(),
        [log[1].clone(), vec![batch(8), 1, 0, 0, 0], log[2].clone()].concat(),
        [log[1].clone(), vec![batch(7), 9, 0, 1, 1]].concat(),
    ]
}

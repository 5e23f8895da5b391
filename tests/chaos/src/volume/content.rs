//! What a file holds, in pages that are shared until they are written: what is seen and what is kept differ by little.
//!
//! It refuses to know what was synced.

use std::collections::BTreeMap;
use std::sync::Arc;

use memchr::memmem;

const PAGE_OCTETS: u64 = 4096;
/// What a disk writes whole or not at all.
pub const SECTOR_OCTETS: u64 = 512;

type Page = [u8; PAGE_OCTETS as usize];

/// Octets of a file; pages that nobody wrote are zero.
#[derive(Clone, Default)]
pub struct Content {
    pages: BTreeMap<u64, Arc<Page>>,
    size: u64,
}

impl Content {
    /// How long it is.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Octets from there, fewer at the end.
    pub fn read(&self, offset: u64, length: u64) -> Vec<u8> {
        let end = self.size.min(offset.saturating_add(length));
        let mut octets = vec![0; end.saturating_sub(offset) as usize];
        let mut at = offset;
        while at < end {
            let (page, within) = (at / PAGE_OCTETS, at % PAGE_OCTETS);
            let count = (PAGE_OCTETS - within).min(end - at);
            if let Some(found) = self.pages.get(&page) {
                octets[(at - offset) as usize..][..count as usize]
                    .copy_from_slice(&found[within as usize..][..count as usize]);
            }
            at += count;
        }
        octets
    }

    /// Writes octets, growing as needed.
    pub fn write(&mut self, offset: u64, octets: &[u8]) {
        let mut at = offset;
        let mut rest = octets;
        while !rest.is_empty() {
            let (page, within) = (at / PAGE_OCTETS, (at % PAGE_OCTETS) as usize);
            let (now, later) = rest.split_at(rest.len().min(PAGE_OCTETS as usize - within));
            let page = self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE_OCTETS as usize]));
            Arc::make_mut(page)[within..][..now.len()].copy_from_slice(now);
            at += now.len() as u64;
            rest = later;
        }
        self.size = self.size.max(at);
    }

    /// Whether these octets are somewhere in it.
    pub fn contains(&self, octets: &[u8]) -> bool {
        let mut run: Vec<u8> = Vec::new();
        let mut next = 0;
        for (number, page) in &self.pages {
            if *number != next {
                run.clear();
            }
            run.extend_from_slice(&page[..]);
            if memmem::find(&run, octets).is_some() {
                return true;
            }
            // What may be the beginning of it stays.
            run.drain(..run.len() - octets.len().min(run.len()));
            next = number + 1;
        }
        false
    }

    /// Cuts or grows it.
    pub fn resize(&mut self, size: u64) {
        self.pages.split_off(&size.div_ceil(PAGE_OCTETS));
        if let Some(last) = self.pages.get_mut(&(size / PAGE_OCTETS)) {
            Arc::make_mut(last)[(size % PAGE_OCTETS) as usize..].fill(0);
        }
        self.size = size;
    }
}

/// One thing that was done to a file since it was synced.
#[derive(Clone)]
pub enum Change {
    /// Octets were written there.
    Write(u64, Vec<u8>),
    /// It was cut or grown.
    Resize(u64),
}

impl Change {
    /// Does it.
    pub fn apply(&self, content: &mut Content) {
        match self {
            Self::Write(offset, octets) => content.write(*offset, octets),
            Self::Resize(size) => content.resize(*size),
        }
    }

    /// The sector of a piece; a change of size has none.
    pub fn sector(&self) -> Option<u64> {
        match self {
            Self::Write(offset, _) => Some(offset / SECTOR_OCTETS),
            Self::Resize(_) => None,
        }
    }

    /// The same in pieces that reach the disk whole or not at all.
    pub fn sectors(&self) -> Vec<Self> {
        let Self::Write(offset, octets) = self else { return vec![self.clone()] };
        let (mut pieces, mut at, mut rest) = (Vec::new(), *offset, &octets[..]);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min((SECTOR_OCTETS - at % SECTOR_OCTETS) as usize));
            pieces.push(Self::Write(at, now.to_vec()));
            at += now.len() as u64;
            rest = later;
        }
        pieces
    }
}

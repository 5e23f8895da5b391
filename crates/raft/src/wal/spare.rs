//! The next segment file, preallocated and zeroed before it is needed, so that running out of space is known early.
//!
//! It refuses to hold stale octets: a file that cannot be shown to be zeroed is made anew.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use certwright_core::mutant::{self, Mutant};
use certwright_seams::disk::{Disk, Open};

use super::frame::{self, Frame, Place};
use super::header::{HEADER_OCTETS, SegmentHeader};
use super::segment::{self, Segment};
use crate::limits;

pub(super) const NAME: &str = "spare";
/// Only the owner reads the log.
pub(super) const FILE_MODE: u32 = 0o600;

/// The preallocated file in a log's directory.
pub(super) struct Spare {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    octets: u64,
    ready: bool,
}

impl Spare {
    /// Nothing prepared yet: [`prepare`](Self::prepare) does it.
    pub(super) fn new(disk: Arc<dyn Disk>, directory: &Path, octets: u64) -> Self {
        Self { disk, directory: directory.to_path_buf(), octets, ready: false }
    }

    /// Makes the file ready: of full size, zeroed, durable. Harmless to repeat.
    pub(super) fn prepare(&mut self) -> io::Result<()> {
        if self.ready {
            return Ok(());
        }
        let path = self.directory.join(NAME);
        let file = self.disk.open(&path, Open::Create(FILE_MODE))?;
        if file.len()? == self.octets {
            // An earlier run may have written its header and opening frames, but died before it came into use.
            file.write_at(0, &vec![0; limits::WAL_SEGMENT_RESERVE_OCTETS as usize])?;
        } else {
            file.set_len(0)?;
            file.preallocate(self.octets)?;
        }
        file.sync_data()?;
        if !mutant::is(Mutant::SkipDirectoryFsync) {
            self.disk.sync_dir(&self.directory)?;
        }
        self.ready = true;
        Ok(())
    }

    /// Turns the file into a segment that begins with the given frames: all of it durable, then renamed, so that a
    /// segment file always has a sound header and sound opening frames. Answers with the offset after them.
    pub(super) fn activate(&mut self, header: SegmentHeader, opening: &[Frame]) -> io::Result<(Segment, u64)> {
        self.prepare()?;
        self.ready = false;
        let mut octets = header.encode().to_vec();
        for (frame, sequence) in opening.iter().zip(header.first_sequence..) {
            frame::encode(frame, Place { sequence, batch: header.first_sequence }, header.salt, &mut octets);
        }
        debug_assert!(octets.len() >= HEADER_OCTETS && octets.len() < limits::WAL_SEGMENT_RESERVE_OCTETS as usize);
        let spare = self.directory.join(NAME);
        let file = self.disk.open(&spare, Open::Write)?;
        file.write_at(0, &octets)?;
        file.sync_data()?;
        let path = self.directory.join(segment::file_name(header.first_sequence));
        self.disk.rename(&spare, &path)?;
        if !mutant::is(Mutant::SkipDirectoryFsync) {
            self.disk.sync_dir(&self.directory)?;
        }
        Ok((Segment { path, header }, octets.len() as u64))
    }
}

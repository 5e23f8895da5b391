//! The file format: magic, version, frames with a checksum each, and a digest over everything at the end.
//!
//! It refuses to interpret frames; it only guarantees that they are those that were written.
//!
//! | what | octets |
//! |---|---|
//! | magic `CWRTSNP\n` | 8 |
//! | format version, big-endian | 4 |
//! | frames: kind 1, length 4 big-endian, CRC-32 of kind, length and data 4 big-endian, data | 9 + length |
//! | last frame: kind 4, data is SHA-256 of every octet before it | 41 |

use std::io;

use aws_lc_rs::digest::{Context, SHA256};
use certwright_seams::disk::File;

use crate::limits::SNAPSHOT_CHUNK_OCTETS_MAX;

/// The format this program writes and the only one it reads.
pub(crate) const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"CWRTSNP\n";
const FRAME_HEAD_OCTETS: usize = 9;
/// Collected before one write.
const BUFFER_OCTETS: usize = 256 * 1024;

/// What a frame holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    /// What the snapshot covers; the first frame.
    Header = 1,
    /// Rows of the deduplication table.
    Dedup = 2,
    /// A chunk of the folded state.
    State = 3,
    /// The digest of everything before it; the last frame.
    Footer = 4,
}

impl Kind {
    fn from_octet(octet: u8) -> Option<Self> {
        [Self::Header, Self::Dedup, Self::State, Self::Footer].into_iter().find(|kind| *kind as u8 == octet)
    }
}

fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("snapshot: {}", what.into()))
}

fn checksum(kind: u8, length: u32, data: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(&length.to_be_bytes());
    hasher.update(data);
    hasher.finalize()
}

/// Writes one file from front to back.
pub(crate) struct Writer<'a> {
    file: &'a dyn File,
    offset: u64,
    buffer: Vec<u8>,
    digest: Context,
}

impl<'a> Writer<'a> {
    /// Starts an empty file.
    pub(crate) fn new(file: &'a dyn File) -> Self {
        let mut writer = Self { file, offset: 0, buffer: Vec::new(), digest: Context::new(&SHA256) };
        writer.octets(&MAGIC);
        writer.octets(&VERSION.to_be_bytes());
        writer
    }

    fn octets(&mut self, octets: &[u8]) {
        self.digest.update(octets);
        self.buffer.extend_from_slice(octets);
    }

    /// Adds a frame of at most [`SNAPSHOT_CHUNK_OCTETS_MAX`] octets.
    pub(crate) fn frame(&mut self, kind: Kind, data: &[u8]) -> io::Result<()> {
        if data.len() > SNAPSHOT_CHUNK_OCTETS_MAX {
            return Err(damaged(format!("a chunk of {} octets", data.len())));
        }
        let (kind, length) = (kind as u8, data.len() as u32);
        self.octets(&[kind]);
        self.octets(&length.to_be_bytes());
        self.octets(&checksum(kind, length, data).to_be_bytes());
        self.octets(data);
        if self.buffer.len() >= BUFFER_OCTETS {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.write_at(self.offset, &self.buffer)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Adds the footer, makes everything durable and returns the file's size.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        let digest = self.digest.clone().finish();
        self.frame(Kind::Footer, digest.as_ref())?;
        self.write()?;
        self.file.sync_data()?;
        Ok(self.offset)
    }
}

/// Octets of the digest that a file ends with.
pub(crate) const DIGEST_OCTETS: usize = 32;

/// The digest that a file ends with, as it stands there: no two snapshots have the same.
pub(crate) fn digest_at_end(file: &dyn File) -> io::Result<[u8; DIGEST_OCTETS]> {
    let mut digest = [0; DIGEST_OCTETS];
    let start = file.len()?.checked_sub(DIGEST_OCTETS as u64).ok_or_else(|| damaged("it is too short"))?;
    match file.read_at(start, &mut digest)? {
        DIGEST_OCTETS => Ok(digest),
        _ => Err(damaged("it shrank while it was read")),
    }
}

/// Whether a file of whatever version matches the digest at its end, before which its last frame's head stands.
fn is_whole(file: &dyn File, len: u64) -> io::Result<bool> {
    let Some(end) = len.checked_sub((FRAME_HEAD_OCTETS + DIGEST_OCTETS) as u64) else { return Ok(false) };
    let (mut digest, mut offset) = (Context::new(&SHA256), 0);
    let mut buffer = vec![0; BUFFER_OCTETS];
    while offset < end {
        let wanted = (end - offset).min(BUFFER_OCTETS as u64) as usize;
        let read = file.read_at(offset, &mut buffer[..wanted])?;
        if read == 0 {
            return Ok(false);
        }
        digest.update(&buffer[..read]);
        offset += read as u64;
    }
    Ok(digest.finish().as_ref() == digest_at_end(file)?)
}

/// How many octets from the beginning are whole frames that match their checksums.
pub(crate) fn whole_octets(file: &dyn File) -> io::Result<u64> {
    let mut whole = 0;
    let mut walk = || {
        let mut reader = Reader::new(file)?;
        while reader.frame()?.is_some() {
            whole = reader.offset;
        }
        whole = reader.offset;
        Ok(())
    };
    match walk() {
        Err(error) if io::Error::kind(&error) != io::ErrorKind::InvalidData => Err(error),
        _ => Ok(whole),
    }
}

/// Reads one file from front to back.
pub(crate) struct Reader<'a> {
    file: &'a dyn File,
    len: u64,
    offset: u64,
    digest: Context,
    finished: bool,
}

impl<'a> Reader<'a> {
    /// Checks magic and version.
    pub(crate) fn new(file: &'a dyn File) -> io::Result<Self> {
        let len = file.len()?;
        let mut reader = Self { file, len, offset: 0, digest: Context::new(&SHA256), finished: false };
        let head = reader.take(12)?;
        if head[..8] != MAGIC {
            return Err(damaged("it does not begin as one"));
        }
        let version = u32::from_be_bytes(head[8..].try_into().expect("12 - 8 = 4"));
        if version != VERSION {
            let text = format!("format version {version}, this program reads {VERSION}");
            return Err(if is_whole(file, len)? {
                io::Error::new(io::ErrorKind::Unsupported, text)
            } else {
                damaged(text)
            });
        }
        reader.digest.update(&head);
        Ok(reader)
    }

    fn take(&mut self, octets: usize) -> io::Result<Vec<u8>> {
        if self.len - self.offset < octets as u64 {
            return Err(damaged(format!("it ends at {} in the middle of a frame", self.len)));
        }
        let mut buffer = vec![0; octets];
        if self.file.read_at(self.offset, &mut buffer)? != octets {
            return Err(damaged("it shrank while it was read"));
        }
        self.offset += octets as u64;
        Ok(buffer)
    }

    /// The next frame; `None` after the footer, once the digest of the whole file has been verified.
    pub(crate) fn frame(&mut self) -> io::Result<Option<(Kind, Vec<u8>)>> {
        if self.finished {
            return Ok(None);
        }
        let head = self.take(FRAME_HEAD_OCTETS)?;
        let length = u32::from_be_bytes(head[1..5].try_into().expect("5 - 1 = 4"));
        let sum = u32::from_be_bytes(head[5..9].try_into().expect("9 - 5 = 4"));
        if length as usize > SNAPSHOT_CHUNK_OCTETS_MAX {
            return Err(damaged(format!("a chunk of {length} octets at {}", self.offset)));
        }
        let data = self.take(length as usize)?;
        if checksum(head[0], length, &data) != sum {
            return Err(damaged(format!("a chunk before {} does not match its checksum", self.offset)));
        }
        match Kind::from_octet(head[0]) {
            None => Err(damaged(format!("a chunk of unknown kind {}", head[0]))),
            Some(Kind::Footer) => self.verify(&data).map(|()| None),
            Some(kind) => {
                self.digest.update(&head);
                self.digest.update(&data);
                Ok(Some((kind, data)))
            }
        }
    }

    fn verify(&mut self, expected: &[u8]) -> io::Result<()> {
        if self.digest.clone().finish().as_ref() != expected {
            return Err(damaged("it does not match its digest"));
        }
        if self.offset != self.len {
            return Err(damaged("something follows its end"));
        }
        self.finished = true;
        Ok(())
    }
}

//! Reads a backup from front to back.
//!
//! It refuses to show a frame before its octets verified, and to take an end for granted: a file that stops anywhere but
//! behind its last frame is damaged.

use std::path::Path;

use certwright_core::ids::ClusterId;
use certwright_core::time::Timestamp;
use certwright_core::{Format, Reason, Rejection};
use certwright_custody::CustodyError;
use certwright_custody::backup::{BackupKey, HEADER_OCTETS, Opener, SEALED_CHUNK_OCTETS};
use certwright_proto::storage::v1;
use certwright_raft::chain::Chain;
use certwright_raft::wal::Record;
use certwright_seams::Disk;
use certwright_seams::disk::{File, Open};
use prost::Message;
use zeroize::{Zeroize as _, Zeroizing};

use super::{FRAME_HEAD_OCTETS, FRAME_OCTETS_MAX, Kind, VERSION_TRIMMED, VERSION_WHOLE, damaged};
use crate::data_dir::file_failed;

/// What a backup says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Its epoch.
    pub epoch: u64,
    /// The server that wrote it.
    pub server: String,
    /// When, by that server's clock.
    pub created: Timestamp,
    /// The first entry in it; 0 unless older ones were let go. The snapshot that history begins with stands before it.
    pub first_index: u64,
    /// The last entry in it; the snapshot stands there.
    pub last_index: u64,
    /// Log time after it.
    pub at: Timestamp,
    /// The hash chain after it.
    pub last_chain: Chain,
    /// The newest node id given out.
    pub last_node_id: u64,
}

/// What a backup holds, in this order.
pub enum Part {
    /// A data key, wrapped to the recipient.
    DataKey(v1::BackupDataKey),
    /// Octets of the snapshot file that history begins with.
    Base(Zeroizing<Vec<u8>>),
    /// An entry.
    Entry(Record),
    /// Octets of the snapshot file.
    Snapshot(Zeroizing<Vec<u8>>),
}

/// A backup, opened.
pub struct Reader {
    file: Box<dyn File>,
    len: u64,
    offset: u64,
    opener: Opener,
    plain: Zeroizing<Vec<u8>>,
    taken: usize,
    seen: v1::BackupEnd,
    header: Header,
}

impl Reader {
    /// Opens a file with the recipient's key; `BACKUP_KEY_WRONG` when it does not fit.
    pub fn open(disk: &dyn Disk, path: &Path, key: &BackupKey) -> Result<Self, Rejection> {
        let failed = |error| file_failed("read", path, error);
        let file = disk.open(path, Open::Read).map_err(failed)?;
        let len = file.len().map_err(failed)?;
        let mut head = vec![0; HEADER_OCTETS];
        let read = file.read_at(0, &mut head).map_err(failed)?;
        let opener = Opener::begin(key, &head[..read]).map_err(|error| match error {
            CustodyError::Unopenable(_) => Rejection::new(
                Reason::BackupKeyWrong,
                format!("{} does not open with this key, or its first octets are damaged", path.display()),
            ),
            error => damaged(error),
        })?;
        let (plain, seen) = (Zeroizing::new(Vec::new()), v1::BackupEnd::default());
        let offset = HEADER_OCTETS as u64;
        let mut reader = Self { file, len, offset, opener, plain, taken: 0, seen, header: Header::empty() };
        reader.header = match reader.frame()? {
            (Kind::Header, data) => Header::read(&data)?,
            _ => return Err(damaged("it does not begin with a header")),
        };
        Ok(reader)
    }

    /// What it says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next part; `None` at the end, once everything was there.
    pub fn part(&mut self) -> Result<Option<Part>, Rejection> {
        let (kind, data) = self.frame()?;
        Ok(Some(match kind {
            Kind::Header => return Err(damaged("a second header")),
            Kind::DataKey => Part::DataKey(decode(&data)?),
            Kind::Entry => {
                self.seen.entries += 1;
                let v1::BackupEntry { index, term, kind, payload } = decode(&data)?;
                let kind = u8::try_from(kind).map_err(|_| damaged("an entry of an unknown kind"))?;
                Part::Entry(Record { index, term, node: 0, kind, payload })
            }
            Kind::Base if self.header.first_index == 0 || self.seen.entries > 0 => {
                return Err(damaged("a snapshot where history does not begin"));
            }
            Kind::Base => {
                self.seen.base_octets += data.len() as u64;
                Part::Base(data)
            }
            Kind::Snapshot => {
                self.seen.snapshot_octets += data.len() as u64;
                Part::Snapshot(data)
            }
            Kind::End => {
                let end: v1::BackupEnd = decode(&data)?;
                if end != self.seen || self.offset != self.len || self.taken != self.plain.len() {
                    return Err(damaged("its end does not fit what came before"));
                }
                return Ok(None);
            }
        }))
    }

    fn frame(&mut self) -> Result<(Kind, Zeroizing<Vec<u8>>), Rejection> {
        let head = self.take(FRAME_HEAD_OCTETS)?;
        let kind = Kind::from_octet(head[0]).ok_or_else(|| damaged("a frame of an unknown kind"))?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > FRAME_OCTETS_MAX {
            return Err(damaged(format!("a frame of {length} octets")));
        }
        Ok((kind, self.take(length)?))
    }

    fn take(&mut self, octets: usize) -> Result<Zeroizing<Vec<u8>>, Rejection> {
        while self.plain.len() - self.taken < octets {
            self.fill()?;
        }
        let taken = Zeroizing::new(self.plain[self.taken..self.taken + octets].to_vec());
        self.taken += octets;
        Ok(taken)
    }

    /// Opens one more chunk.
    fn fill(&mut self) -> Result<(), Rejection> {
        let left = self.len - self.offset;
        if left == 0 {
            return Err(damaged("it ends in the middle"));
        }
        let size = left.min(SEALED_CHUNK_OCTETS as u64) as usize;
        let mut sealed = vec![0; size];
        let read = self.file.read_at(self.offset, &mut sealed);
        let read = read.map_err(|error| Rejection::new(Reason::FileFailed, format!("the backup: {error}")))?;
        if read != size {
            return Err(damaged("it shrank while it was read"));
        }
        self.offset += size as u64;
        let opened = self.opener.open(sealed, self.offset == self.len).map_err(damaged)?;
        let rest = Zeroizing::new(self.plain[self.taken..].to_vec());
        self.plain.zeroize();
        self.plain.extend_from_slice(&rest);
        self.plain.extend_from_slice(&opened);
        self.taken = 0;
        Ok(())
    }
}

fn decode<M: Message + Default>(data: &[u8]) -> Result<M, Rejection> {
    M::decode(data).map_err(damaged)
}

impl Header {
    fn empty() -> Self {
        Self {
            cluster_id: ClusterId([0; 16]),
            epoch: 0,
            server: String::new(),
            created: Timestamp::EPOCH,
            first_index: 0,
            last_index: 0,
            at: Timestamp::EPOCH,
            last_chain: [0; 32],
            last_node_id: 0,
        }
    }

    fn read(data: &[u8]) -> Result<Self, Rejection> {
        let form: v1::BackupHeader = decode(data)?;
        if form.version > VERSION_TRIMMED {
            let message = format!("it is of version {}, this program reads {VERSION_TRIMMED}", form.version);
            return Err(Rejection::new(Reason::NotYetSupported, message));
        }
        if form.format > Format::NEWEST.0 {
            let message = format!("its log is of format {}, this program reads {}", form.format, Format::NEWEST);
            return Err(Rejection::new(Reason::BuildTooOld, message));
        }
        if form.version != if form.first_index > 0 { VERSION_TRIMMED } else { VERSION_WHOLE } {
            return Err(damaged("its version does not fit what it says of its beginning"));
        }
        let chain = |octets: &[u8]| octets.try_into().map_err(|_| damaged("a chain value is malformed"));
        Ok(Self {
            cluster_id: ClusterId(form.cluster_id[..].try_into().map_err(|_| damaged("its cluster id is malformed"))?),
            epoch: form.epoch,
            server: form.server,
            created: Timestamp::from_millis(form.created_millis),
            first_index: form.first_index,
            last_index: form.last_index,
            at: Timestamp::from_millis(form.at_millis),
            last_chain: chain(&form.last_chain)?,
            last_node_id: form.last_node_id,
        })
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn a_log_of_a_newer_build_is_no_damage() {
        let of = |format| v1::BackupHeader {
            version: VERSION_WHOLE,
            cluster_id: vec![1; 16].into(),
            last_chain: vec![2; 32].into(),
            format,
            ..v1::BackupHeader::default()
        };
        for known in [0, Format::NEWEST.0] {
            assert!(Header::read(&of(known).encode_to_vec()).is_ok(), "{known}");
        }
        let Err(refused) = Header::read(&of(Format::NEWEST.0 + 1).encode_to_vec()) else { panic!("it is newer") };
        assert_eq!(refused.reason, Reason::BuildTooOld);
    }
}

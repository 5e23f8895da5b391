//! Writes a backup, piece by piece: header, data keys, what history begins with, entries, snapshot, end.
//!
//! It refuses to hold more than a piece in memory, and to write what this server could not open itself.

use std::sync::Arc;

use certwright_core::State;
use certwright_core::ids::{ClusterId, NodeId};
use certwright_core::{Reason, Rejection};
use certwright_custody::NodeSeal;
use certwright_custody::backup::{Recipient, Sealer};
use certwright_proto::storage::v1;
use certwright_raft::{Log, Source};
use certwright_seams::Seams;
use certwright_seams::exec::compute;
use prost::Message;

use super::{FRAME_HEAD_OCTETS, Kind, VERSION_TRIMMED, VERSION_WHOLE, unsealed};
use crate::doors::{Doors, read_failed};

/// The pool on which pieces are read and sealed.
const POOL: &str = "backup";
/// Octets of the snapshot in one frame.
const SNAPSHOT_PIECE_OCTETS: usize = 1024 * 1024;

/// Who writes.
pub(crate) struct Writer {
    pub(crate) log: Log<State>,
    pub(crate) seal: Arc<NodeSeal>,
    pub(crate) seams: Seams,
    pub(crate) cluster: ClusterId,
    pub(crate) epoch: u64,
    pub(crate) node_id: NodeId,
    pub(crate) name: String,
}

impl Writer {
    pub(crate) fn of(doors: &Doors) -> Self {
        Self {
            log: doors.log.clone(),
            seal: doors.itself.seal.clone(),
            seams: doors.seams.clone(),
            cluster: doors.cluster,
            epoch: doors.epoch,
            node_id: doors.node_id,
            name: doors.name.to_string(),
        }
    }

    /// Cuts what is to be written. The first piece is the file's beginning.
    pub(crate) async fn begin(&self, recipient: &Recipient) -> Result<Pieces, Rejection> {
        let source = self.log.source().await.map_err(read_failed)?;
        let (sealer, out) = Sealer::begin(recipient, &*self.seams.entropy).map_err(unsealed)?;
        let next = if source.begins.is_some() { Next::Base(0) } else { Next::Entry(0) };
        let mut writing = Writing { source, sealer, out, next, written: v1::BackupEnd::default() };
        writing.message(Kind::Header, &self.header(&writing.source))?;
        for key in self.data_keys(&writing.source, recipient)? {
            writing.message(Kind::DataKey, &key)?;
        }
        Ok(Pieces { writing: Some(writing), seams: self.seams.clone() })
    }

    fn header(&self, source: &Source<State>) -> v1::BackupHeader {
        v1::BackupHeader {
            version: if source.begins.is_some() { VERSION_TRIMMED } else { VERSION_WHOLE },
            cluster_id: self.cluster.0.to_vec().into(),
            epoch: self.epoch,
            server: self.name.clone(),
            created_millis: self.seams.clock.wall_millis(),
            first_index: source.first_index(),
            last_index: source.last.index,
            last_term: source.last.term,
            last_chain: source.chain.to_vec().into(),
            at_millis: source.at.millis(),
            last_node_id: source.state.cluster.last_node_id,
            format: source.state.cluster.format.0,
        }
    }

    /// The data keys that something in the copy may be sealed under.
    fn data_keys(&self, source: &Source<State>, recipient: &Recipient) -> Result<Vec<v1::BackupDataKey>, Rejection> {
        let cluster = &source.state.cluster;
        let not_ready = |what: String| Rejection::new(Reason::NotReady, format!("{what}: ask another server"));
        let held = cluster.nodes.get(&self.node_id).map(|node| &node.wrapped);
        let held = held.filter(|held| held.contains_key(&cluster.data_key_id));
        let held = held.ok_or_else(|| not_ready("this server has not got the data key yet".to_owned()))?;
        let rewrap = |(id, wrapped): (&u64, &Vec<u8>)| {
            let key = self.seal.unwrap(self.cluster, self.node_id, *id, wrapped);
            let key = key.map_err(|error| not_ready(format!("this server cannot open data key {id} ({error})")))?;
            let wrapped = recipient.wrap(&key, self.cluster).map_err(unsealed)?;
            Ok(v1::BackupDataKey { data_key_id: *id, wrapped: wrapped.into() })
        };
        held.iter().map(rewrap).collect()
    }
}

/// The pieces of one backup.
pub(crate) struct Pieces {
    writing: Option<Writing>,
    seams: Seams,
}

impl Pieces {
    /// The next octets of the file; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, Rejection> {
        loop {
            let Some(writing) = self.writing.take() else { return Ok(None) };
            let (writing, out) = compute(&*self.seams.exec, POOL, move || writing.step()).await?;
            self.writing = writing;
            if !out.is_empty() {
                return Ok(Some(out));
            }
        }
    }
}

/// What is written next.
enum Next {
    /// What history begins with, from this offset on.
    Base(u64),
    /// The entries from this index on.
    Entry(u64),
    /// The snapshot from this offset on.
    Snapshot(u64),
}

struct Writing {
    source: Source<State>,
    sealer: Sealer,
    out: Vec<u8>,
    next: Next,
    written: v1::BackupEnd,
}

impl Writing {
    fn frame(&mut self, kind: Kind, data: &[u8]) -> Result<(), Rejection> {
        let mut head = [0; FRAME_HEAD_OCTETS];
        head[0] = kind as u8;
        head[1..].copy_from_slice(&u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
        self.sealer.push(&head, &mut self.out).map_err(unsealed)?;
        self.sealer.push(data, &mut self.out).map_err(unsealed)
    }

    fn message(&mut self, kind: Kind, message: &impl Message) -> Result<(), Rejection> {
        self.frame(kind, &message.encode_to_vec())
    }

    /// One piece; itself again unless that was the last.
    fn step(mut self) -> Result<(Option<Self>, Vec<u8>), Rejection> {
        let failed = |error: std::io::Error| Rejection::new(Reason::StorageFailed, error.to_string());
        match self.next {
            Next::Base(offset) => {
                let mut buffer = vec![0; SNAPSHOT_PIECE_OCTETS];
                let read = self.source.base(offset, &mut buffer).map_err(failed)?;
                self.written.base_octets += read as u64;
                if read > 0 {
                    self.frame(Kind::Base, &buffer[..read])?;
                }
                let first = self.source.first_index();
                self.next = if read > 0 { Next::Base(offset + read as u64) } else { Next::Entry(first) };
            }
            Next::Entry(from) if from > self.source.last.index => self.next = Next::Snapshot(0),
            Next::Entry(from) => {
                let records = self.source.entries(from).map_err(failed)?;
                self.next = Next::Entry(from + records.len() as u64);
                for record in records {
                    self.written.entries += 1;
                    let (index, term, kind) = (record.index, record.term, record.kind.into());
                    self.message(Kind::Entry, &v1::BackupEntry { index, term, kind, payload: record.payload })?;
                }
            }
            Next::Snapshot(offset) => {
                let mut buffer = vec![0; SNAPSHOT_PIECE_OCTETS];
                let read = self.source.snapshot(offset, &mut buffer).map_err(failed)?;
                self.written.snapshot_octets += read as u64;
                if read == 0 {
                    let end = self.written;
                    self.message(Kind::End, &end)?;
                    let Self { sealer, mut out, .. } = self;
                    sealer.finish(&mut out).map_err(unsealed)?;
                    return Ok((None, out));
                }
                self.frame(Kind::Snapshot, &buffer[..read])?;
                self.next = Next::Snapshot(offset + read as u64);
            }
        }
        let out = std::mem::take(&mut self.out);
        Ok((Some(self), out))
    }
}

//! What a snapshot file holds: a header, the deduplication table and the folded state.
//!
//! It refuses snapshots of another cluster or epoch.

use std::io;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use certwright_core::log::{Codec, CodecError, Fold, Position};
use certwright_core::mutant::{self, Mutant};
use certwright_core::time::Timestamp;
use certwright_seams::disk::File;
use prost::Message;

use super::format::{Kind, Reader, Writer};
use crate::chain::Chain;
use crate::consensus::SnapshotMeta;
use crate::consensus::record::{SnapshotMetaForm, decode, encode};
use crate::fold::dedup::{Dedup, decode_rows};
use crate::fold::replica::{Replica, ReplicaCut};

/// Whose snapshots these are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Owner {
    pub(crate) cluster_id: [u8; 16],
    pub(crate) epoch: u64,
}

/// The header frame.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct HeaderForm {
    #[prost(bytes = "bytes", tag = "1")]
    cluster_id: Bytes,
    #[prost(uint64, tag = "2")]
    epoch: u64,
    #[prost(message, optional, tag = "3")]
    meta: Option<SnapshotMetaForm>,
    #[prost(bytes = "bytes", tag = "4")]
    chain: Bytes,
    #[prost(uint64, tag = "5")]
    at_millis: u64,
    #[prost(message, optional, tag = "6")]
    position: Option<PositionForm>,
    #[prost(uint64, repeated, tag = "7")]
    removed: Vec<u64>,
    #[prost(message, repeated, tag = "8")]
    refused: Vec<PositionForm>,
    #[prost(uint64, tag = "9")]
    rebased: u64,
}

/// A position.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct PositionForm {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(uint32, tag = "2")]
    ordinal: u32,
}

impl From<Position> for PositionForm {
    fn from(position: Position) -> Self {
        Self { index: position.index, ordinal: position.ordinal }
    }
}

impl From<PositionForm> for Position {
    fn from(form: PositionForm) -> Self {
        Self { index: form.index, ordinal: form.ordinal }
    }
}

/// Octets that are as they were written, but not for this build: no damage, and no reason to use anything else instead.
fn foreign(error: CodecError) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, error)
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("snapshot: {what}"))
}

fn header<C>(owner: Owner, cut: &ReplicaCut<C>) -> HeaderForm {
    let meta = SnapshotMeta { last_log_id: cut.applied, last_membership: cut.membership.clone() };
    HeaderForm {
        cluster_id: Bytes::copy_from_slice(&owner.cluster_id),
        epoch: owner.epoch,
        meta: Some((&meta).into()),
        chain: Bytes::copy_from_slice(&cut.chain),
        at_millis: cut.at.millis(),
        position: Some(cut.position.into()),
        removed: cut.removed.iter().copied().collect(),
        refused: cut.refused.iter().map(|&position| position.into()).collect(),
        rebased: cut.rebased,
    }
}

/// Writes a cut; the file is durable when this returns its size.
pub(crate) fn write<F: Fold>(
    file: &dyn File,
    owner: Owner,
    codec: &dyn Codec<F>,
    cut: &ReplicaCut<F::Cut>,
) -> io::Result<u64> {
    let mut writer = Writer::new(file);
    let mut header = header(owner, cut);
    if mutant::is(Mutant::SnapshotForgetsRemoved) {
        header.removed.clear();
    }
    writer.frame(Kind::Header, &encode(&header))?;
    let mut failed = Ok(());
    let mut emit = |kind: Kind, chunk: &[u8]| {
        if failed.is_ok() {
            failed = writer.frame(kind, chunk);
        }
    };
    if !mutant::is(Mutant::SnapshotForgetsRequests) {
        cut.dedup.encode(&mut |chunk| emit(Kind::Dedup, chunk));
    }
    codec.encode_cut(&cut.state, &mut |chunk| emit(Kind::State, chunk));
    failed?;
    writer.finish()
}

fn read_header(reader: &mut Reader<'_>, owner: Owner) -> io::Result<HeaderForm> {
    let Some((Kind::Header, data)) = reader.frame()? else { return Err(damaged("it has no header")) };
    let header: HeaderForm = decode("snapshot header", &data.into())?;
    if header.cluster_id.as_ref() != owner.cluster_id {
        return Err(damaged("it belongs to another cluster"));
    }
    if header.epoch != owner.epoch {
        return Err(damaged("it belongs to another epoch of the cluster"));
    }
    Ok(header)
}

/// What a snapshot covers, without reading further than its header.
pub(crate) fn read_meta(file: &dyn File, owner: Owner) -> io::Result<SnapshotMeta> {
    read_header(&mut Reader::new(file)?, owner)?.meta.unwrap_or_default().try_into()
}

/// Where a snapshot stands.
pub(crate) struct Extent {
    /// The index after the last entry in it.
    pub(crate) next_index: u64,
    /// The chain's value there.
    pub(crate) chain: Chain,
    /// Log time.
    pub(crate) at: Timestamp,
}

/// Where a snapshot stands, without reading further than its header.
pub(crate) fn read_extent(file: &dyn File, owner: Owner) -> io::Result<Extent> {
    let header = read_header(&mut Reader::new(file)?, owner)?;
    let meta: SnapshotMeta = header.meta.unwrap_or_default().try_into()?;
    let chain = header.chain.as_ref().try_into().map_err(|_| damaged("its chain value is malformed"))?;
    let next_index = meta.last_log_id.as_ref().map_or(0, |last| last.index() + 1);
    Ok(Extent { next_index, chain, at: Timestamp::from_millis(header.at_millis) })
}

/// The chunks of the state, as an iterator; remembers what stopped it.
struct StateChunks<'a, 'b> {
    reader: &'a mut Reader<'b>,
    first: Option<Vec<u8>>,
    stopped: io::Result<()>,
}

impl Iterator for StateChunks<'_, '_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        if self.stopped.is_err() {
            return None;
        }
        match self.reader.frame() {
            Ok(Some((Kind::State, chunk))) => Some(chunk),
            Ok(None) => None,
            Ok(Some(_)) => {
                self.stopped = Err(damaged("its chunks are out of order"));
                None
            }
            Err(error) => {
                self.stopped = Err(error);
                None
            }
        }
    }
}

/// Reads, verifies and rebuilds a replica; nothing of it is visible before the whole file verified. `InvalidData` is damage;
/// `Unsupported` is a whole file of a build that writes what this one cannot read.
pub(crate) fn read<F: Fold>(file: &dyn File, owner: Owner, codec: &dyn Codec<F>) -> io::Result<Replica<F>> {
    let mut reader = Reader::new(file)?;
    let header = read_header(&mut reader, owner)?;
    let mut rows = Vec::new();
    let first = loop {
        match reader.frame()? {
            Some((Kind::Dedup, chunk)) => {
                rows.extend(decode_rows(&chunk).map_err(|error| damaged(&error.to_string()))?)
            }
            Some((Kind::State, chunk)) => break Some(chunk),
            Some(_) => return Err(damaged("its chunks are out of order")),
            None => break None,
        }
    };
    let mut chunks = StateChunks { reader: &mut reader, first, stopped: Ok(()) };
    let state = codec.decode_cut(&mut chunks);
    // A codec may stop before the end; the rest is read all the same, because the digest stands at the end.
    chunks.by_ref().for_each(drop);
    chunks.stopped?;
    let state = state.map_err(foreign)?;
    let meta: SnapshotMeta = header.meta.unwrap_or_default().try_into()?;
    Ok(Replica {
        state,
        applied: meta.last_log_id,
        position: header.position.map_or(Position::START, Position::from),
        at: Timestamp::from_millis(header.at_millis),
        rebased: header.rebased,
        chain: header.chain.as_ref().try_into().map_err(|_| damaged("its chain value is malformed"))?,
        membership: meta.last_membership,
        removed: header.removed.into_iter().collect(),
        refused: header.refused.into_iter().map(Position::from).collect(),
        dedup: Dedup::rebuild(rows),
    })
}

/// SHA-256 over the encoded cut: equal on every replica at the same index.
pub(crate) fn digest<F: Fold>(codec: &dyn Codec<F>, cut: &F::Cut) -> [u8; 32] {
    hash(|emit| codec.encode_cut(cut, emit))
}

/// SHA-256 over all that a snapshot of this cut would hold, without writing it.
pub(crate) fn fingerprint<F: Fold>(owner: Owner, codec: &dyn Codec<F>, cut: &ReplicaCut<F::Cut>) -> [u8; 32] {
    hash(|emit| {
        emit(&encode(&header(owner, cut)));
        cut.dedup.encode(emit);
        codec.encode_cut(&cut.state, emit);
    })
}

/// The form of [`essence`]; what the log says of a state names it, and a build that changes it keeps this one.
pub const DIGEST_VERSION: u32 = 1;

/// SHA-256 over all that a replica holds, whoever owns it: equal in every build for the same history, however chunks and files
/// are made. It covers, each behind its length in 8 octets: a word, the header of a snapshot without its owner, the rows of
/// remembered requests, another word, the pieces of the state.
pub(crate) fn essence<F: Fold>(codec: &dyn Codec<F>, cut: &ReplicaCut<F::Cut>) -> [u8; 32] {
    hash(|emit| {
        emit(b"certwright history, form 1");
        emit(&encode(&header(Owner { cluster_id: [0; 16], epoch: 0 }, cut)));
        cut.dedup.encode_pieces(emit);
        emit(b"state");
        codec.encode_pieces(&cut.state, emit);
    })
}

/// SHA-256 over chunks, each behind its length.
fn hash(chunks: impl FnOnce(&mut dyn FnMut(&[u8]))) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    chunks(&mut |chunk| {
        context.update(&(chunk.len() as u64).to_be_bytes());
        context.update(chunk);
    });
    context.finish().as_ref().try_into().expect("SHA-256 gives 32 octets")
}

#[cfg(test)]
mod tests;

//! What a backup holds, read and verified without restoring it: the estate at its end, or at an earlier moment.
//!
//! It refuses moments after the backup's end, and a snapshot that is not what the entries fold to.

use std::path::Path;

use certwright_core::spec::IssuerKind;
use certwright_core::state::Cluster;
use certwright_core::time::Timestamp;
use certwright_core::{Reason, Rejection, State};
use certwright_custody::backup::BackupKey;
use certwright_issuance::chain as authorities;
use certwright_proto::api::authority::authority_to_message;
use certwright_proto::api::certificate::certificate_to_message;
use certwright_proto::api::estate::agent_to_message;
use certwright_proto::api::issuer::issuer_to_message;
use certwright_proto::manifest::Resource;
use certwright_proto::storage::{DomainCodec, decode_entry};
use certwright_raft::wal::{Record, Seen};
use certwright_raft::{Folded, chain};
use certwright_seams::Disk;

use super::damaged;
use super::read::{Header, Part, Reader};
use crate::log_check::tally::{Tally, UNTOLD};

/// Which state is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// The newest.
    End,
    /// After this entry.
    Index(u64),
    /// After the last entry that was written no later, by the time that held at the backup's end.
    Time(Timestamp),
}

/// What was found.
pub struct Survey {
    /// What the backup says of itself.
    pub header: Header,
    /// Events in it.
    pub events: u64,
    /// Signed checkpoints that say what the chain was.
    pub checkpoints: u64,
    folded: Folded<State>,
}

impl Survey {
    /// The estate at its end.
    pub fn state(&self) -> &State {
        self.folded.state()
    }
}

/// Reads all of it and verifies entries, chain, checkpoints and that the entries fold to the snapshot's index.
pub fn read(disk: &dyn Disk, path: &Path, key: &BackupKey) -> Result<Survey, Rejection> {
    let mut reader = Reader::open(disk, path, key)?;
    let header = reader.header().clone();
    let keys = |wrapped: certwright_proto::storage::v1::BackupDataKey| {
        key.unwrap(header.cluster_id, wrapped.data_key_id, &wrapped.wrapped).map(drop).map_err(damaged)
    };
    let (mut folded, mut next) = beginning(&mut reader, &header, keys)?;
    let mut chain = folded.chain();
    let mut tally = Tally::after(&folded);
    let mut octets = Vec::new();
    while let Some(part) = next {
        match part {
            Part::DataKey(wrapped) => keys(wrapped)?,
            Part::Base(_) => return Err(damaged("a second beginning")),
            Part::Entry(record) => {
                let (index, term, kind) = (record.index, record.term, record.kind);
                chain = chain::next(&chain, chain::Link { index, term, node: 0, kind }, &record.payload);
                tally.see(Seen::Entry(&record, Some(chain))).map_err(damaged)?;
                folded.apply(record, &DomainCodec).map_err(damaged)?;
            }
            Part::Snapshot(data) => octets.extend_from_slice(&data),
        }
        next = reader.part()?;
    }
    if chain != header.last_chain {
        return Err(damaged("its entries do not chain to its end"));
    }
    let held = Folded::read(&InMemory(octets), header.cluster_id.0, header.epoch, &DomainCodec).map_err(damaged)?;
    if held.chain() != chain || !folded.equals(&held, &DomainCodec) {
        return Err(damaged("its snapshot is not what its entries fold to"));
    }
    if !tally.is_told(None) {
        return Err(damaged(UNTOLD));
    }
    let (checkpoints, _) = tally.checkpoints();
    Ok(Survey { header, events: tally.events(), checkpoints, folded: held })
}

/// What history begins with, and the first part after it.
fn beginning(
    reader: &mut Reader,
    header: &Header,
    keys: impl Fn(certwright_proto::storage::v1::BackupDataKey) -> Result<(), Rejection>,
) -> Result<(Folded<State>, Option<Part>), Rejection> {
    let mut octets = Vec::new();
    let first = loop {
        match reader.part()? {
            Some(Part::DataKey(wrapped)) => keys(wrapped)?,
            Some(Part::Base(data)) => octets.extend_from_slice(&data),
            part => break part,
        }
    };
    if header.first_index == 0 {
        return Ok((Folded::genesis(&header.cluster_id.0), first));
    }
    let base = Folded::read(&InMemory(octets), header.cluster_id.0, header.epoch, &DomainCodec).map_err(damaged)?;
    if base.floor().first_index != header.first_index {
        return Err(damaged("the snapshot that it begins with stands elsewhere than it says"));
    }
    Ok((base, first))
}

/// The estate as it was at a moment.
pub fn as_of(disk: &dyn Disk, path: &Path, key: &BackupKey, moment: Moment) -> Result<Folded<State>, Rejection> {
    if moment == Moment::End {
        return read(disk, path, key).map(|survey| survey.folded);
    }
    let mut reader = Reader::open(disk, path, key)?;
    let header = reader.header().clone();
    // What says where history begins, and that log time was set back, may come after that moment.
    let cluster = match moment {
        Moment::Index(_) if header.first_index == 0 => Cluster::default(),
        _ => read(disk, path, key)?.folded.state().cluster.clone(),
    };
    let too_old = |what: String| Err(Rejection::new(Reason::TokenTooOld, what));
    if matches!(moment, Moment::Index(index) if index > header.last_index) {
        return too_old(format!("the backup ends with entry {}", header.last_index));
    }
    let (mut folded, mut next) = beginning(&mut reader, &header, |_| Ok(()))?;
    // What history begins with may be of when log time was ahead.
    let begins_at = cluster.corrected(folded.last().map_or(0, |last| last.index), folded.at());
    let is_before = match moment {
        Moment::Index(index) => index + 1 < folded.floor().first_index,
        Moment::Time(time) => header.first_index > 0 && time < begins_at,
        Moment::End => false,
    };
    if is_before {
        return too_old(format!(
            "the history in the backup begins with entry {}, after {begins_at}: look into an older backup",
            header.first_index
        ));
    }
    let mut is_over = false;
    while let Some(part) = next {
        if let Part::Entry(record) = part {
            is_over = is_over || is_after(&record, moment, &cluster)?;
            if !is_over {
                folded.apply(record, &DomainCodec).map_err(damaged)?;
            }
        }
        next = reader.part()?;
    }
    Ok(folded)
}

/// Whether an entry is later than that moment in the log of that cluster.
fn is_after(record: &Record, moment: Moment, cluster: &Cluster) -> Result<bool, Rejection> {
    match moment {
        Moment::End => Ok(false),
        Moment::Index(index) => Ok(record.index > index),
        Moment::Time(time) if record.has_transactions() => {
            let entry = decode_entry::<State>(&DomainCodec, record.payload.clone()).map_err(damaged)?;
            Ok(cluster.corrected(record.index, entry.at) > time)
        }
        Moment::Time(_) => Ok(false),
    }
}

/// Everything in a state that a manifest can say, in the order in which it can be applied.
pub fn resources(state: &State, at: Timestamp) -> Vec<Resource> {
    let above = |parent: Option<&_>| parent.and_then(|parent| authorities::of(state, parent).ok()).unwrap_or_default();
    let authority = |it: &certwright_core::state::Authority| authority_to_message(it, &above(it.spec.parent.as_ref()));
    let issuer = |it: &certwright_core::state::Issuer| {
        let ready = matches!(&it.spec.kind, IssuerKind::Ca { authority } if authorities::of(state, authority).is_ok());
        issuer_to_message(it, ready)
    };
    let agent =
        |it: &certwright_core::state::Agent| agent_to_message(it, false, state.instances_of_agent(&it.name) as u32);
    let mut all: Vec<Resource> = state.authorities.iter().map(|it| Resource::Authority(authority(it))).collect();
    all.extend(state.issuers.iter().map(|it| Resource::Issuer(issuer(it))));
    all.extend(state.agents.iter().map(|it| Resource::Agent(agent(it))));
    let certificate = |it| Resource::Certificate(Box::new(certificate_to_message(it, at)));
    all.extend(state.certificates.iter().map(certificate));
    all
}

/// A snapshot that was read already.
struct InMemory(Vec<u8>);

impl certwright_seams::disk::File for InMemory {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.0.get(offset..)).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn len(&self) -> std::io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn write_at(&self, _: u64, _: &[u8]) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn sync_data(&self) -> std::io::Result<()> {
        Ok(())
    }

    fn preallocate(&self, _: u64) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn set_len(&self, _: u64) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn lock(&self) -> std::io::Result<()> {
        Ok(())
    }
}

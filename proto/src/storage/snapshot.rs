//! Cuts as chunks: records in a fixed order, packed up to a bound, and the cut rebuilt from them.
//!
//! It refuses records out of place: instances without their certificate, a state without its cluster.

use bytes::{BufMut, BytesMut};
use certwright_core::Format;
use certwright_core::log::CodecError;
use certwright_core::state::{Certificate, Cluster, Cut, Instance};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use super::aggregates;
use super::v1::{self, record::Kind};
use super::wire::{broken, need, read_as};
use lanes::map_in_order;

mod lanes;

/// Octets of a chunk, at most: a chunk is one frame of the stream that carries snapshots.
pub const CHUNK_OCTETS_MAX: usize = 1024 * 1024;

/// Field number of `Chunk.records`.
const RECORDS: u32 = 2;

/// Emits the cut; equal cuts emit equal chunks.
pub(super) fn encode(cut: &Cut, emit: &mut dyn FnMut(&[u8])) {
    let mut packer = Packer::new(cut.cluster.format, emit);
    each_record(cut, &mut |kind| packer.push(kind));
    packer.flush();
}

/// Emits the format, then every record by itself.
pub(super) fn encode_pieces(cut: &Cut, emit: &mut dyn FnMut(&[u8])) {
    emit(&cut.cluster.format.0.to_be_bytes());
    each_record(cut, &mut |kind| emit(&v1::Record { kind: Some(kind) }.encode_to_vec()));
}

/// All records in their order.
fn each_record(cut: &Cut, push: &mut dyn FnMut(Kind)) {
    push(Kind::Cluster(aggregates::encode_cluster(&cut.cluster, cut.applied)));
    for node in cut.cluster.nodes.values() {
        push(Kind::Node(node.into()));
    }
    for (name, identity) in &cut.cluster.administrators {
        let identity = Some(identity.into());
        push(Kind::Administrator(v1::AdministratorRecord { name: name.to_string(), identity }));
    }
    cut.tokens.iter().for_each(|token| push(Kind::Token(token.into())));
    cut.agents.iter().for_each(|agent| push(Kind::Agent(agent.into())));
    cut.issuers.iter().for_each(|issuer| push(Kind::Issuer(issuer.into())));
    cut.authorities.iter().for_each(|authority| push(Kind::Authority(authority.into())));
    for certificate in cut.certificates.iter() {
        push(Kind::Certificate(certificate.into()));
        certificate.instances.iter().for_each(|instance| push(Kind::Instance(instance.into())));
    }
}

/// Packs records into chunks without encoding any of them twice.
struct Packer<'a> {
    format: Format,
    emit: &'a mut dyn FnMut(&[u8]),
    chunk: BytesMut,
}

impl<'a> Packer<'a> {
    fn new(format: Format, emit: &'a mut dyn FnMut(&[u8])) -> Self {
        Self { format, emit, chunk: BytesMut::new() }
    }

    fn push(&mut self, kind: Kind) {
        let record = v1::Record { kind: Some(kind) };
        let len = record.encoded_len();
        if self.chunk.len() + 1 + encoded_len_varint(len as u64) + len > CHUNK_OCTETS_MAX {
            self.flush();
        }
        if self.chunk.is_empty() {
            self.chunk.put(&v1::Chunk { version: self.format.0, records: Vec::new() }.encode_to_vec()[..]);
        }
        encode_key(RECORDS, WireType::LengthDelimited, &mut self.chunk);
        encode_varint(len as u64, &mut self.chunk);
        record.encode_raw(&mut self.chunk);
    }

    fn flush(&mut self) {
        if !self.chunk.is_empty() {
            (self.emit)(&self.chunk);
            self.chunk.clear();
        }
    }
}

/// Rebuilds the cut. To read a chunk takes longer than to put its records where they belong: all cores read.
pub(super) fn decode(chunks: &mut dyn Iterator<Item = Vec<u8>>) -> Result<Cut, CodecError> {
    let mut unpacker = Unpacker::default();
    map_in_order(chunks, |chunk| read_chunk(&chunk), |chunk| unpacker.add(chunk?))?;
    unpacker.finish()
}

/// A record as it was read; of most kinds there are too few to do more about it yet.
enum Item {
    /// With the number of its instances. Those that are not in it follow, in the next chunks.
    Certificate(Certificate, usize),
    /// Of the certificate that the chunk before ended with.
    Instance(Instance),
    Other(Box<Kind>),
}

fn read_chunk(chunk: &[u8]) -> Result<(Format, Vec<Item>), CodecError> {
    let (chunk, format) = read_as("snapshot chunk", chunk, |chunk: &v1::Chunk| chunk.version)?;
    let mut left = chunk.records.len();
    let mut items = Vec::with_capacity(left);
    for record in chunk.records {
        left -= 1;
        let item = read_record(need("snapshot record", record.kind)?)?;
        match (item, items.last_mut()) {
            (Item::Instance(instance), Some(Item::Certificate(certificate, _))) => certificate.instances.push(instance),
            (item, last) => {
                // Whoever is complete before the next one comes has no places that nothing fills.
                if let Some(Item::Certificate(certificate, instances)) = last {
                    is_complete(certificate, *instances)?;
                }
                items.push(item);
                if let Some(Item::Certificate(certificate, instances)) = items.last_mut() {
                    certificate.instances.reserve_exact(left.min(*instances));
                }
            }
        }
    }
    Ok((format, items))
}

fn is_complete(certificate: &Certificate, instances: usize) -> Result<(), CodecError> {
    match certificate.instances.len() {
        held if held == instances => Ok(()),
        held => Err(broken("snapshot", format!("{held} instances of {} where {instances} belong", certificate.name))),
    }
}

fn read_record(kind: Kind) -> Result<Item, CodecError> {
    Ok(match kind {
        Kind::Certificate(certificate) => {
            let instances = certificate.instances as usize;
            Item::Certificate(certificate.try_into()?, instances)
        }
        Kind::Instance(instance) => Item::Instance(instance.try_into()?),
        other => Item::Other(Box::new(other)),
    })
}

/// Collects records; a certificate is complete when its instances have come.
#[derive(Default)]
struct Unpacker {
    cut: Cut,
    format: Option<Format>,
    cluster_seen: bool,
    certificate: Option<(Certificate, usize)>,
}

impl Unpacker {
    fn add(&mut self, (format, items): (Format, Vec<Item>)) -> Result<(), CodecError> {
        if *self.format.get_or_insert(format) != format {
            return Err(broken("snapshot", "chunks of two formats"));
        }
        for item in items {
            match item {
                Item::Certificate(certificate, instances) => {
                    self.complete_certificate()?;
                    self.certificate = Some((certificate, instances));
                }
                Item::Instance(instance) => self.push_instance(instance)?,
                Item::Other(kind) => {
                    self.complete_certificate()?;
                    self.push(*kind)?;
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, kind: Kind) -> Result<(), CodecError> {
        match kind {
            Kind::Cluster(cluster) => self.push_cluster(cluster)?,
            Kind::Node(node) => {
                let node = aggregates::decode_node(node)?;
                self.cut.cluster.nodes.insert(node.record.id, node);
            }
            Kind::Administrator(administrator) => {
                let (name, identity) = aggregates::decode_administrator(administrator)?;
                self.cut.cluster.administrators.insert(name, identity);
            }
            Kind::Token(token) => drop(self.cut.tokens.insert(token.try_into()?)),
            Kind::Agent(agent) => drop(self.cut.agents.insert(agent.try_into()?)),
            Kind::Issuer(issuer) => drop(self.cut.issuers.insert(issuer.try_into()?)),
            Kind::Authority(authority) => drop(self.cut.authorities.insert(authority.try_into()?)),
            Kind::Certificate(_) | Kind::Instance(_) => unreachable!("`read_record` leaves none of these"),
        }
        Ok(())
    }

    fn push_cluster(&mut self, record: v1::ClusterRecord) -> Result<(), CodecError> {
        if std::mem::replace(&mut self.cluster_seen, true) {
            return Err(broken("snapshot", "the cluster twice"));
        }
        let (cluster, applied) = aggregates::decode_cluster(record)?;
        let Cluster { nodes, administrators, .. } = std::mem::take(&mut self.cut.cluster);
        self.cut.cluster = Cluster { nodes, administrators, ..cluster };
        self.cut.applied = applied;
        Ok(())
    }

    fn push_instance(&mut self, instance: Instance) -> Result<(), CodecError> {
        let Some((certificate, _)) = &mut self.certificate else {
            return Err(broken("snapshot", "an instance without its certificate"));
        };
        certificate.instances.push(instance);
        Ok(())
    }

    fn complete_certificate(&mut self) -> Result<(), CodecError> {
        let Some((certificate, instances)) = self.certificate.take() else { return Ok(()) };
        is_complete(&certificate, instances)?;
        self.cut.certificates.insert(certificate);
        Ok(())
    }

    fn finish(mut self) -> Result<Cut, CodecError> {
        self.complete_certificate()?;
        if !self.cluster_seen {
            return Err(broken("snapshot", "the cluster is absent"));
        }
        self.cut.cluster.format = self.format.unwrap_or_default();
        Ok(self.cut)
    }
}

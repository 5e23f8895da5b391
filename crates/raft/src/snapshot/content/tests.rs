//! Snapshot files: golden octets, round trips, damage, strangers.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use certwright_core::log::Position;
use certwright_seams::disk::{Disk, Open};
use certwright_seams::sim::SimDisk;

use super::*;
use crate::consensus::{Entry, EntryPayload, LogId, Payload, log_id};
use crate::fold::toy::{Toy, codec, say};
use crate::limits::SNAPSHOT_CHUNK_OCTETS_MAX;
use crate::snapshot::format::VERSION;
use crate::snapshot::{SnapshotFile, Snapshots};

const OWNER: Owner = Owner { cluster_id: [0xc1; 16], epoch: 4 };

fn replica() -> Replica<Toy> {
    let mut replica = Replica::genesis(&OWNER.cluster_id);
    replica.apply(&Entry { log_id: log_id(0, 0), payload: EntryPayload::Blank }, None);
    for (index, transaction) in [say(1, "a", Some(0), "one"), say(2, "loose", None, "two")].into_iter().enumerate() {
        let mut builder = certwright_proto::storage::EntryBuilder::new();
        builder.push(&certwright_proto::storage::encode_transaction(&*codec(), &transaction));
        let payload = builder.finish(Timestamp::from_millis(1000 + index as u64));
        let decoded = certwright_proto::storage::decode_entry(&*codec(), payload.clone()).unwrap();
        let entry = Entry { log_id: log_id(1, 1 + index as u64), payload: EntryPayload::Normal(Payload(payload)) };
        replica.apply(&entry, Some(decoded));
    }
    replica
}

struct Files {
    disk: SimDisk,
}

impl Files {
    fn new() -> Self {
        Self { disk: SimDisk::new(1) }
    }

    fn write(&self, replica: &Replica<Toy>) -> Vec<u8> {
        let path = Path::new("/snapshot");
        let file = self.disk.open(path, Open::Create(0o600)).unwrap();
        file.set_len(0).unwrap();
        write(&*file, OWNER, &*codec(), &replica.cut()).unwrap();
        self.disk.read(path, 1 << 20).unwrap()
    }

    fn read(&self, octets: &[u8], owner: Owner) -> io::Result<Replica<Toy>> {
        let file = self.disk.open(Path::new("/copy"), Open::Create(0o600)).unwrap();
        file.set_len(0).unwrap();
        file.write_at(0, octets).unwrap();
        read(&*file, owner, &*codec())
    }
}

#[test]
fn a_replica_comes_back_as_it_was_cut() {
    let files = Files::new();
    let mut replica = replica();
    replica.rebased = 2;
    let back = files.read(&files.write(&replica), OWNER).unwrap();
    assert_eq!((&back.state, back.rebased), (&replica.state, replica.rebased));
    assert_eq!((back.applied, back.position, back.at), (replica.applied, replica.position, replica.at));
    assert_eq!((back.chain, back.membership), (replica.chain, replica.membership));
    assert_eq!((back.removed, back.refused), (replica.removed, replica.refused));
    assert_eq!(back.dedup.find("system", say(2, "", None, "").request_id).unwrap().1, replica.position);
}

/// What the log says of a state, and every server compares before it deletes: this never changes.
#[test]
fn golden_essence() {
    let header = [
        "01",   // version octet
        "0a10", // nobody's
        &"00".repeat(16),
        "1a0a0a040801100212021200", // covers 1.2; no membership yet
        "2220",                     // chain
        &hex::encode(replica().chain),
        "28e907",   // at
        "32020802", // position
    ]
    .concat();
    let row = |number: &str, word: &str, at: &str| {
        let (id, digest) = ("00".repeat(15) + number, word.to_owned() + &"00".repeat(13));
        format!("0a0673797374656d1210{id}1a10{digest}20{number}30{at}")
    };
    let mut pieces = vec![b"certwright history, form 1".to_vec()];
    let stored = [header, row("01", "6f6e65", "e807"), row("02", "74776f", "e907")];
    pieces.extend(stored.iter().map(|octets| hex::decode(octets).unwrap()));
    pieces.extend([b"state".to_vec(), b"a\none".to_vec(), b"\ntwo".to_vec()]);
    let hashed: Vec<u8> =
        pieces.iter().flat_map(|piece| [&(piece.len() as u64).to_be_bytes()[..], piece].concat()).collect();
    let expected = aws_lc_rs::digest::digest(&SHA256, &hashed);
    assert_eq!(&essence(&*codec(), &replica().cut())[..], expected.as_ref());
    assert_eq!(DIGEST_VERSION, 1);
}

#[test]
fn golden_file() {
    let octets = Files::new().write(&replica());
    let text = hex::encode(&octets);
    assert_eq!(&text[..24], "43575254534e500a00000001", "magic and version");
    assert_eq!(u32::from_be_bytes(octets[8..12].try_into().unwrap()), VERSION);
    let header = [
        "01",   // version octet
        "0a10", // cluster
        &"c1".repeat(16),
        "1004",                     // epoch
        "1a0a0a040801100212021200", // covers 1.2; no membership yet
        "2220",                     // chain
        &hex::encode(replica().chain),
        "28e907",   // at
        "32020802", // position
    ]
    .concat();
    let data = &octets[12 + 9..];
    assert_eq!(octets[12], 1, "the header comes first");
    let length = u32::from_be_bytes(octets[13..17].try_into().unwrap()) as usize;
    assert_eq!(hex::encode(&data[..length]), header);
    assert_eq!(octets[octets.len() - 41], 4, "the footer comes last");
}

#[test]
fn every_flipped_octet_and_every_cut_is_noticed() {
    let files = Files::new();
    let octets = files.write(&replica());
    for place in 0..octets.len() {
        let mut damaged = octets.clone();
        damaged[place] ^= 0x40;
        assert!(files.read(&damaged, OWNER).is_err(), "octet {place}");
        assert!(files.read(&octets[..place], OWNER).is_err(), "cut at {place}");
    }
    let longer = [octets.as_slice(), b"x"].concat();
    assert!(files.read(&longer, OWNER).is_err(), "something follows");
}

#[test]
fn every_octet_that_flips_on_disk_sets_the_snapshot_aside_and_the_one_before_is_used() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1).boot());
    let snapshots = Snapshots::open(Arc::clone(&disk), "/data/snapshots".into(), OWNER).unwrap();
    let mut replica = replica();
    let older = snapshots.write::<Toy>(&*codec(), &replica.cut()).unwrap();
    replica.apply(&Entry { log_id: log_id(1, 3), payload: EntryPayload::Blank }, None);
    let newer = snapshots.write::<Toy>(&*codec(), &replica.cut()).unwrap();
    let octets = disk.read(&newer.path, 1 << 20).unwrap();
    for place in 0..octets.len() {
        let mut damaged = octets.clone();
        damaged[place] ^= 0x40;
        disk.write_atomic(&newer.path, &damaged, 0o600).unwrap();
        assert_eq!(snapshots.recover::<Toy>(&*codec()).unwrap().unwrap().index(), 2, "octet {place}");
        assert!(!disk.exists(&newer.path).unwrap(), "octet {place}");
        // So is one that a peer could not use.
        disk.write_atomic(&newer.path, &damaged, 0o600).unwrap();
        snapshots.doubt(&newer).unwrap();
        assert_eq!(snapshots.newest().unwrap().unwrap().1, older, "octet {place}");
    }
    disk.write_atomic(&newer.path, &octets, 0o600).unwrap();
    snapshots.doubt(&newer).unwrap();
    assert_eq!(snapshots.newest().unwrap().unwrap().1, newer, "what is whole stays");
}

/// Chunks that this build's codec cannot read, in a sound file.
fn of_a_newer_build(file: &dyn File) {
    let mut writer = Writer::new(file);
    writer.frame(Kind::Header, &encode(&header(OWNER, &replica().cut()))).unwrap();
    writer.frame(Kind::State, b"a later format").unwrap();
    writer.finish().unwrap();
}

#[test]
fn what_a_newer_build_wrote_is_no_damage_and_stays() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1).boot());
    let snapshots = Snapshots::open(Arc::clone(&disk), "/data/snapshots".into(), OWNER).unwrap();
    let newest = snapshots.write::<Toy>(&*codec(), &replica().cut()).unwrap();
    let known = disk.read(&newest.path, 1 << 20).unwrap();
    let file = disk.open(&newest.path, Open::Create(0o600)).unwrap();
    file.set_len(0).unwrap();
    of_a_newer_build(&*file);
    let chunks = disk.read(&newest.path, 1 << 20).unwrap();
    // The file's own version is one more; its digest is what it should be.
    let mut version = known.clone();
    version[11] += 1;
    let end = version.len() - 32;
    let digest = aws_lc_rs::digest::digest(&SHA256, &version[..end - 9]);
    version[end..].copy_from_slice(digest.as_ref());
    for octets in [chunks, version] {
        disk.write_atomic(&newest.path, &octets, 0o600).unwrap();
        assert_eq!(snapshots.recover::<Toy>(&*codec()).err().unwrap().kind(), io::ErrorKind::Unsupported);
        assert_eq!(disk.read(&newest.path, 1 << 20).unwrap(), octets);
    }
    // Builds of before have set it aside; the newer one finds it there.
    let aside = newest.path.with_extension("damaged");
    disk.write_atomic(&newest.path, &known, 0o600).unwrap();
    disk.rename(&newest.path, &aside).unwrap();
    assert_eq!(snapshots.recover::<Toy>(&*codec()).unwrap().unwrap().index(), 2);
    assert_eq!(snapshots.newest().unwrap().unwrap().1.path, newest.path);
}

#[test]
fn a_cut_leaves_a_snapshot_alone_that_is_arriving_or_being_installed() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1).boot());
    let snapshots = Snapshots::open(Arc::clone(&disk), "/data/snapshots".into(), OWNER).unwrap();
    let elsewhere = Files::new().write(&replica());
    let mut replica = replica();
    let mut cut = || {
        let index = replica.index() + 1;
        replica.apply(&Entry { log_id: log_id(1, index), payload: EntryPayload::Blank }, None);
        snapshots.write::<Toy>(&*codec(), &replica.cut()).unwrap();
    };
    let (path, file) = snapshots.go_on(&[7; 32], 0).unwrap();
    file.write_at(0, &elsewhere).unwrap();
    cut();
    assert!(disk.exists(&path).unwrap());
    let arrived = snapshots.arrived(SnapshotFile { path, octets: elsewhere.len() as u64 }).unwrap();
    let (other, _) = snapshots.go_on(&[8; 32], 0).unwrap();
    cut();
    assert_eq!(snapshots.install::<Toy>(&*codec(), &arrived).unwrap().index(), 2);
    assert!(disk.exists(&other).unwrap());
    // Of one whose transfer broke off before the program ended nobody wants more.
    let snapshots = Snapshots::open(Arc::clone(&disk), "/data/snapshots".into(), OWNER).unwrap();
    snapshots.write::<Toy>(&*codec(), &replica.cut()).unwrap();
    assert!(!disk.exists(&other).unwrap());
}

#[test]
fn a_damaged_snapshot_without_another_one_wants_a_cut() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1).boot());
    let snapshots = Snapshots::open(Arc::clone(&disk), "/data/snapshots".into(), OWNER).unwrap();
    let only = snapshots.write::<Toy>(&*codec(), &replica().cut()).unwrap();
    assert!(!snapshots.doubt(&only).unwrap());
    disk.open(&only.path, Open::Write).unwrap().write_at(20, &[0xff; 8]).unwrap();
    assert!(snapshots.doubt(&only).unwrap());
    assert!(disk.exists(&only.path).unwrap());
}

#[test]
fn snapshots_of_another_cluster_or_epoch_are_refused() {
    let files = Files::new();
    let octets = files.write(&replica());
    for owner in [Owner { epoch: 5, ..OWNER }, Owner { cluster_id: [0; 16], ..OWNER }] {
        assert_eq!(files.read(&octets, owner).err().unwrap().kind(), io::ErrorKind::InvalidData);
    }
}

#[test]
fn a_chunk_one_octet_too_large_is_refused() {
    let disk = SimDisk::new(1);
    let file = disk.open(Path::new("/snapshot"), Open::Create(0o600)).unwrap();
    let mut writer = Writer::new(&*file);
    writer.frame(Kind::State, &vec![0; SNAPSHOT_CHUNK_OCTETS_MAX]).unwrap();
    assert!(writer.frame(Kind::State, &vec![0; SNAPSHOT_CHUNK_OCTETS_MAX + 1]).is_err());
}

#[test]
fn unfinished_files_are_removed_and_the_newest_two_kept() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1).boot());
    let open = || Snapshots::open(Arc::clone(&disk), "/data/snapshots".into(), OWNER).unwrap();
    let snapshots = open();
    snapshots.create_temporary().unwrap();
    let mut replica = replica();
    let mut written = Vec::new();
    for index in 3..6 {
        replica.apply(&Entry { log_id: log_id(1, index), payload: EntryPayload::Blank }, None);
        written.push(snapshots.write::<Toy>(&*codec(), &replica.cut()).unwrap());
    }
    let names = || disk.list(Path::new("/data/snapshots")).unwrap().len();
    assert_eq!(names(), 3, "two and what is unfinished");
    let snapshots = open();
    assert_eq!(names(), 2);
    let (meta, file) = snapshots.newest().unwrap().unwrap();
    assert_eq!((meta.last_log_id.as_ref().map(LogId::index), &file), (Some(5), &written[2]));
    assert_eq!(snapshots.verify(&file).unwrap(), meta);
    assert_eq!(snapshots.recover::<Toy>(&*codec()).unwrap().unwrap().index(), 5);
    assert!(snapshots.verify(&SnapshotFile { path: "/data/snapshots/none".into(), octets: 0 }).is_err());
}

#[test]
fn digests_differ_when_states_do() {
    let (one, mut other) = (replica(), replica());
    assert_eq!(digest(&*codec(), &one.state.cut()), digest(&*codec(), &other.state.cut()));
    other.state.loose.push("three".into());
    assert_ne!(digest(&*codec(), &one.state.cut()), digest(&*codec(), &other.state.cut()));
    assert_eq!(one.position, Position { index: 2, ordinal: 0 });
}

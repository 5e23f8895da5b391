//! Backup files: a sound one edited by whole chunks and single octets, and any frames sealed as a server seals them.
//!
//! It refuses a file that was altered anywhere, however much of it may be shown before that is noticed.

use std::path::Path;
use std::sync::LazyLock;

use certwright_api::backup::read::{Part, Reader};
use certwright_core::Rejection;
use certwright_custody::backup::{BackupKey, HEADER_OCTETS, SEALED_CHUNK_OCTETS, Sealer};
use certwright_proto::storage::v1;
use certwright_seams::disk::{Disk, Open};
use certwright_seams::sim::{SeededEntropy, SimDisk};
use prost::Message;

use crate::estate::CLUSTER;
use crate::octets::{Octets, sliced};
use crate::verdict::{refused, took};

/// A key of nobody.
const KEY: &str = "cwbackupkey1-6e0fcc9c0c9605890ddccd1136ff508626e1ab4bb92797089a18d2733c7f3a18b06de89daae05d368c48e141f\
    82fa741fccfb5a0dec5e9903360e03cd826455a30868100";
const HEADER: u8 = 1;
const DATA_KEY: u8 = 2;
const ENTRY: u8 = 3;
const SNAPSHOT: u8 = 4;
const END: u8 = 5;
const BEGINNING: u8 = 6;
/// Edits of one input.
const EDITS_MAX: usize = 8;
const PATH: &str = "/backup";

static RECIPIENT: LazyLock<BackupKey> = LazyLock::new(|| BackupKey::parse(KEY).expect("a key"));
/// A backup of four chunks and a piece.
static BASE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let snapshot = vec![9; 4 * 64 * 1024];
    let beginning = vec![3; 1000];
    let (snapshot_octets, base_octets) = (snapshot.len() as u64, beginning.len() as u64);
    let end = v1::BackupEnd { entries: 2, snapshot_octets, base_octets };
    let frames = [
        frame(HEADER, &trimmed_header()),
        frame(DATA_KEY, &v1::BackupDataKey { data_key_id: 1, wrapped: vec![8; 80].into() }.encode_to_vec()),
        frame(BEGINNING, &beginning),
        frame(ENTRY, &entry(1)),
        frame(ENTRY, &entry(2)),
        frame(SNAPSHOT, &snapshot),
        frame(END, &end.encode_to_vec()),
    ];
    sealed(&frames.concat())
});
static WHOLE: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let (parts, end) = read(&BASE);
    end.expect("nothing was altered");
    parts
});

fn header() -> Vec<u8> {
    header_of(1, 0)
}

/// Of a backup whose history begins with a snapshot.
fn trimmed_header() -> Vec<u8> {
    header_of(2, 1)
}

fn header_of(version: u32, first_index: u64) -> Vec<u8> {
    let header = v1::BackupHeader {
        version,
        first_index,
        cluster_id: CLUSTER.0.to_vec().into(),
        epoch: 1,
        server: "node-1".into(),
        last_index: 2,
        last_term: 1,
        last_chain: vec![2; 32].into(),
        ..Default::default()
    };
    header.encode_to_vec()
}

fn entry(index: u64) -> Vec<u8> {
    v1::BackupEntry { index, term: 1, kind: 1, payload: vec![7; 40].into() }.encode_to_vec()
}

fn frame(kind: u8, data: &[u8]) -> Vec<u8> {
    [&[kind][..], &(data.len() as u32).to_be_bytes(), data].concat()
}

/// As a server seals it.
fn sealed(plain: &[u8]) -> Vec<u8> {
    let (mut sealer, mut file) = Sealer::begin(RECIPIENT.recipient(), &SeededEntropy::new(1)).expect("a recipient");
    sealer.push(plain, &mut file).expect("a chunk");
    sealer.finish(&mut file).expect("a chunk");
    file
}

/// What a file shows, part by part, and how it ends.
fn read(file: &[u8]) -> (Vec<Vec<u8>>, Result<(), Rejection>) {
    let disk = SimDisk::new(1);
    let written = disk.open(Path::new(PATH), Open::Create(0o600)).and_then(|new| new.write_at(0, file));
    written.expect("a new disk");
    let mut parts = Vec::new();
    let end = Reader::open(&disk, Path::new(PATH), &RECIPIENT).and_then(|mut reader| {
        parts.push(format!("{:?}", reader.header()).into_bytes());
        while let Some(part) = reader.part()? {
            parts.push(match part {
                Part::DataKey(key) => key.encode_to_vec(),
                Part::Entry(record) => format!("{record:?}").into_bytes(),
                Part::Base(octets) | Part::Snapshot(octets) => octets.to_vec(),
            });
        }
        Ok(())
    });
    (parts, end)
}

pub(crate) fn run(input: &[u8]) {
    let mut input = Octets(input);
    match input.u8() % 2 {
        0 => edited(input),
        _ => framed(input),
    }
}

/// The sound file, edited as the input says.
fn edited(mut input: Octets<'_>) {
    let mut file = BASE.clone();
    for _ in 0..EDITS_MAX {
        if input.is_empty() {
            break;
        }
        edit(&mut file, &mut input);
    }
    let (parts, end) = read(&file);
    assert!(WHOLE.starts_with(&parts), "something was shown that nobody wrote");
    assert_eq!(end.is_ok(), file == *BASE, "an altered file is taken for whole");
    match end {
        Ok(()) => took(),
        Err(rejection) => refused(&rejection),
    }
}

/// Where a chunk is, the last one shorter.
fn chunk(file: &[u8], number: usize) -> std::ops::Range<usize> {
    let chunks = file.len().saturating_sub(HEADER_OCTETS).div_ceil(SEALED_CHUNK_OCTETS).max(1);
    let start = (HEADER_OCTETS + number % chunks * SEALED_CHUNK_OCTETS).min(file.len());
    start..(start + SEALED_CHUNK_OCTETS).min(file.len())
}

fn edit(file: &mut Vec<u8>, input: &mut Octets<'_>) {
    let (kind, which) = (input.u8() % 6, usize::from(input.u8()));
    let chosen = chunk(file, which);
    // Near its beginning or its end, where its tag is.
    let far = usize::from(input.u16());
    let at = if kind.is_multiple_of(2) { chosen.start + far } else { chosen.end.saturating_sub(far) };
    match kind {
        0 | 1 => {
            let flip = input.u8().max(1);
            if let Some(octet) = file.get_mut(at) {
                *octet ^= flip;
            }
        }
        2 => file.truncate(at),
        3 => {
            // Two chunks change places, or one takes another's.
            let (one, other) = (file[chosen.clone()].to_vec(), chunk(file, usize::from(input.u8())));
            let with = file[other.clone()].to_vec();
            if one.len() == with.len() {
                file[chosen].copy_from_slice(&with);
                if far.is_multiple_of(2) {
                    file[other].copy_from_slice(&one);
                }
            }
        }
        4 => drop(file.drain(chosen)),
        _ => {
            let again = if far == 0 { file[chosen].to_vec() } else { input.slice().to_vec() };
            file.extend(again);
        }
    }
}

/// Frames of a kind, a length and as many octets each, and whatever is left, sealed as a server would.
fn framed(mut input: Octets<'_>) {
    let mut plain = if input.u8().is_multiple_of(2) { frame(HEADER, &header()) } else { Vec::new() };
    while !input.is_empty() {
        let kind = input.u8();
        let data = input.slice();
        plain.extend(if kind == 0 { data.to_vec() } else { frame(kind, data) });
    }
    let (parts, end) = read(&sealed(&plain));
    match end {
        Ok(()) => {
            assert!(!parts.is_empty(), "no header");
            took();
        }
        Err(rejection) => refused(&rejection),
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let piece = |kind: u8, data: &[u8]| [&[kind][..], &sliced(data)].concat();
    let end = |entries: u64| v1::BackupEnd { entries, ..Default::default() }.encode_to_vec();
    vec![
        vec![0],
        [&[1, 0][..], &piece(ENTRY, &entry(1)), &piece(END, &end(1))].concat(),
        [&[1, 1][..], &piece(HEADER, &header()), &piece(END, &end(0))].concat(),
        // Flipped: the head, a tag.
        vec![0, 0, 0, 0, 0, 1],
        vec![0, 1, 1, 0, 5, 1],
        // Cut: in a chunk, between two.
        vec![0, 2, 2, 1, 0],
        vec![0, 2, 2, 0, 0],
        // Exchanged, doubled, left out, appended.
        vec![0, 3, 0, 0, 0, 1],
        vec![0, 3, 0, 0, 1, 1],
        vec![0, 4, 1, 0, 0],
        vec![0, 5, 0, 0, 0],
        vec![0, 5, 0, 0, 1, 0, 1, 7],
        // No end; too many entries; a frame longer than what is there.
        [&[1, 0][..], &piece(ENTRY, &entry(1))].concat(),
        [&[1, 0][..], &piece(END, &end(3))].concat(),
        [&[1, 0][..], &piece(0, &[3, 0, 0, 9])].concat(),
    ]
}

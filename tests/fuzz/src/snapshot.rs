//! Snapshot files: any octets, and files with good checksums around any content.
//!
//! It refuses a snapshot that holds something else once it was written again.

use std::io;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use certwright_core::State;
use certwright_proto::storage::DomainCodec;
use certwright_raft::fuzz;
use certwright_seams::disk::{Disk, Open};
use certwright_seams::sim::SimDisk;

use crate::estate::{self, CLUSTER};
use crate::octets::{Octets, sliced};
use crate::verdict::took;

const FOOTER: u8 = 4;

pub(crate) fn run(input: &[u8]) {
    let mut input = Octets(input);
    match input.u8() % 2 {
        0 => drop(read(input.0)),
        _ => {
            let file = file(input);
            let first = read(&file);
            // The same octets hold the same.
            assert_eq!(first.ok(), read(&file).ok());
        }
    }
}

fn read(octets: &[u8]) -> io::Result<[u8; 32]> {
    let disk = SimDisk::new(1);
    let (path, other) = (Path::new("/one"), Path::new("/other"));
    disk.open(path, Open::Create(0o600))?.write_at(0, octets)?;
    let read = fuzz::snapshot::<State>(&disk, (path, other), (CLUSTER.0, 1), &DomainCodec);
    if let Err(error) = &read {
        // Damaged, or sound frames around what no build of ours wrote.
        assert!(matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::Unsupported), "{error}");
        assert!(!error.to_string().is_empty());
    } else {
        took();
    }
    read
}

/// Frames of a kind, a length and as many octets each, with good checksums and a good digest at the end.
fn file(mut input: Octets<'_>) -> Vec<u8> {
    let mut file = b"CWRTSNP\n\0\0\0\x01".to_vec();
    while !input.is_empty() {
        let kind = input.u8();
        frame(&mut file, if kind == FOOTER { 3 } else { kind }, input.slice());
    }
    let sum = digest(&SHA256, &file);
    frame(&mut file, FOOTER, sum.as_ref());
    file
}

fn frame(file: &mut Vec<u8>, kind: u8, data: &[u8]) {
    let head = [&[kind][..], &(data.len() as u32).to_be_bytes()].concat();
    let sum = crc32fast::hash(&[&head, data].concat());
    file.extend_from_slice(&[&head, &sum.to_be_bytes()[..], data].concat());
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let field = |number: u8, octets: &[u8]| [&[number << 3 | 2, octets.len() as u8], octets].concat();
    let log_id = [8, 3, 16, 9];
    let peer = [&[8, 1][..], &field(2, b"127.0.0.1:7001"), &field(3, &[7; 32])].concat();
    let membership = [field(1, &field(1, &[1])), field(2, &peer)].concat();
    let stored = [field(1, &log_id), field(2, &membership)].concat();
    let meta = [field(1, &log_id), field(2, &stored)].concat();
    let position = [8, 9, 16, 1];
    let header = [
        vec![1],
        field(1, &CLUSTER.0),
        vec![16, 1],
        field(3, &meta),
        field(4, &[6; 32]),
        vec![40, 100],
        field(6, &position),
        field(7, &[4, 5]),
        field(8, &position),
    ]
    .concat();
    let row = [field(1, b"system"), field(2, &[1; 16]), field(3, &[2; 16]), vec![32, 7, 40, 0, 48, 90]].concat();
    let frame = |kind: u8, data: &[u8]| [vec![kind], sliced(data)].concat();
    let states: Vec<u8> = estate::chunks().iter().flat_map(|chunk| frame(3, chunk)).collect();
    let frames = [frame(1, &header), frame(2, &field(1, &row)), states].concat();
    vec![
        [&[1][..], &frames].concat(),
        [&[0][..], &file(Octets(&frames))].concat(),
        [vec![1], frame(1, &header)].concat(),
    ]
}

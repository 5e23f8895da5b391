//! What a power cut, a kill and an injected fault do to a simulated disk.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use super::*;

const PATH: &str = "/file";

/// A disk with a durable file of that content.
fn disk_with(seed: u64, content: &[u8]) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.write_atomic(Path::new(PATH), content, 0o600).unwrap();
    disk
}

fn content(disk: &SimDisk) -> Vec<u8> {
    disk.read(Path::new(PATH), u64::MAX).unwrap()
}

#[test]
fn synced_data_and_names_survive_every_power_cut() {
    for seed in 0..50 {
        let disk = disk_with(seed, b"durable");
        disk.crash();
        assert_eq!(content(&disk), b"durable", "seed {seed}");
    }
}

#[test]
fn unsynced_data_may_be_lost_kept_or_torn() {
    let outcomes: BTreeSet<Vec<u8>> = (0..200)
        .map(|seed| {
            let disk = disk_with(seed, &[b'-'; 1536]);
            let file = disk.boot().open(Path::new(PATH), Open::Write).unwrap();
            file.write_at(0, &[b'1'; 1536]).unwrap();
            disk.crash();
            content(&disk)
        })
        .collect();
    assert!(outcomes.contains(&vec![b'-'; 1536]), "sometimes lost");
    assert!(outcomes.contains(&vec![b'1'; 1536]), "sometimes kept");
    assert!(outcomes.iter().any(|data| data[0] == b'-' && data[1535] == b'1'), "sometimes out of order");
    assert!(outcomes.iter().any(|data| data[512] != data[513] || data[700] != data[1023]), "sometimes inside a sector");
}

#[test]
fn durable_directories_survive_with_all_their_parents() {
    let directory = Path::new("/var/lib/certwright");
    let mut plain = 0;
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        disk.create_dir_all(directory, 0o700).unwrap();
        disk.crash();
        plain += usize::from(disk.exists(directory).unwrap());

        let disk = SimDisk::new(seed);
        disk.create_dir_durable(directory, 0o700).unwrap();
        disk.create_dir_durable(directory, 0o700).unwrap();
        disk.crash();
        assert!(disk.exists(directory).unwrap(), "seed {seed}");
    }
    assert!(plain < 45, "{plain} of 50 survived without care");
}

#[test]
fn unsynced_names_may_be_lost_although_their_data_was_synced() {
    let mut kept = 0;
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let file = disk.open(Path::new(PATH), Open::CreateNew(0o600)).unwrap();
        file.write_at(0, b"data").unwrap();
        file.sync_data().unwrap();
        disk.crash();
        kept += usize::from(disk.exists(Path::new(PATH)).unwrap());
    }
    assert!(kept > 5 && kept < 45, "{kept} of 50 kept");
}

#[test]
fn a_kill_loses_nothing_but_handles_and_locks() {
    let disk = disk_with(1, b"old");
    let process = disk.boot();
    let file = process.open(Path::new(PATH), Open::Write).unwrap();
    file.lock().unwrap();
    file.write_at(0, b"new").unwrap();
    disk.kill();
    assert_eq!(content(&disk), b"new");
    assert!(file.write_at(0, b"ghost").is_err() && file.sync_data().is_err());
    assert!(process.open(Path::new(PATH), Open::Read).is_err(), "the dead process opens nothing");
    let next = disk.boot().open(Path::new(PATH), Open::Write).unwrap();
    next.lock().unwrap();
    drop(file);
    let third = disk.boot().open(Path::new(PATH), Open::Write).unwrap();
    assert!(third.lock().is_err(), "the ghost's handle does not free the lock of the living");
}

#[test]
fn a_failed_sync_never_reaches_the_disk_even_if_repeated() {
    for seed in 0..20 {
        let disk = disk_with(seed, b"old");
        let kind = io::ErrorKind::Other;
        disk.inject(Fault { operation: Operation::Sync, path_contains: PATH.into(), after: 0, times: 1, kind });
        let file = disk.open(Path::new(PATH), Open::Write).unwrap();
        file.write_at(0, b"new").unwrap();
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        assert_eq!(content(&disk), b"new", "the page cache still shows it");
        disk.crash();
        assert_eq!(content(&disk), b"old", "seed {seed}");
    }
}

#[test]
fn faults_strike_where_and_when_told() {
    let disk = disk_with(1, b"data");
    let kind = io::ErrorKind::TimedOut;
    disk.inject(Fault { operation: Operation::Read, path_contains: "file".into(), after: 1, times: 2, kind });
    let file = disk.open(Path::new(PATH), Open::Read).unwrap();
    let read = || file.read_at(0, &mut [0; 4]).map_err(|error| error.kind());
    assert_eq!([read(), read(), read(), read()], [Ok(4), Err(kind), Err(kind), Ok(4)]);
    disk.inject(Fault { operation: Operation::Rename, path_contains: "other".into(), after: 0, times: 9, kind });
    disk.rename(Path::new(PATH), Path::new("/moved")).unwrap();
    disk.inject(Fault { operation: Operation::Open, path_contains: String::new(), after: 0, times: 9, kind });
    assert!(disk.open(Path::new("/moved"), Open::Read).is_err());
    disk.heal();
    assert!(disk.open(Path::new("/moved"), Open::Read).is_ok());
}

#[test]
fn the_disk_fills_up() {
    let disk = disk_with(1, &[0; 100]);
    disk.set_capacity(Some(150));
    let file = disk.open(Path::new(PATH), Open::Write).unwrap();
    file.write_at(60, &[1; 90]).unwrap();
    assert_eq!(file.write_at(150, b"x").unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.preallocate(151).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!((disk.used(), disk.available(Path::new("/")).unwrap()), (150, 0));
    file.write_at(0, &[2; 150]).unwrap();
}

#[test]
fn a_fork_goes_its_own_way() {
    let disk = disk_with(1, b"same");
    let fork = disk.fork(2);
    fork.flip(Path::new(PATH), 0, 0xff).unwrap();
    fork.remove(Path::new(PATH)).unwrap();
    assert_eq!(content(&disk), b"same");
    assert!(!fork.exists(Path::new(PATH)).unwrap());
}

#[test]
fn flipped_bits_survive_restarts() {
    let disk = disk_with(1, b"data");
    disk.flip(Path::new(PATH), 1, 0x01).unwrap();
    disk.crash();
    assert_eq!(content(&disk), b"d`ta");
}

#[test]
fn a_process_dies_in_the_middle_of_its_work() {
    let disk = disk_with(1, b"data");
    disk.kill_after(2);
    let file = disk.boot().open(Path::new(PATH), Open::Write).unwrap();
    file.write_at(0, b"1").unwrap();
    assert!(file.write_at(1, b"2").is_err());
    assert_eq!(content(&disk), b"1ata");
    assert!(disk.boot().open(Path::new(PATH), Open::Write).is_ok(), "the next process lives");
}

#[test]
fn a_dead_process_spoils_no_data() {
    let disk = disk_with(1, b"old");
    let ghost = disk.boot().open(Path::new(PATH), Open::Write).unwrap();
    ghost.write_at(0, b"new").unwrap();
    disk.kill();
    assert!(ghost.sync_data().is_err());
    disk.open(Path::new(PATH), Open::Write).unwrap().sync_data().unwrap();
    disk.crash();
    assert_eq!(content(&disk), b"new");
}

#[test]
fn what_is_durable_can_be_seen_before_the_power_goes() {
    let disk = disk_with(1, b"synced");
    let seen = || {
        let mut seen = Vec::new();
        disk.durable(Path::new("/"), |content| seen.push(content.to_vec())).unwrap();
        seen
    };
    let file = disk.boot().open(Path::new(PATH), Open::Write).unwrap();
    file.write_at(0, b"pended").unwrap();
    assert_eq!(seen(), [b"synced"], "what is on its way is not there");
    file.sync_data().unwrap();
    assert_eq!(seen(), [b"pended"]);
    disk.rename(Path::new(PATH), Path::new("/other")).unwrap();
    disk.open(Path::new("/new"), Open::Create(0o600)).unwrap().sync_data().unwrap();
    assert_eq!(seen(), [b"pended"], "names are not synced");
}

//! What is left after a cut: with a sync everything, without one anything between nothing and all.
//!
//! It refuses the kernel: these are tests of the disk itself.

use certwright_seams::sim::SeededEntropy;

use super::*;

const SEEDS: u64 = 200;
const OLD: u8 = 1;
const NEW: u8 = 2;
const OCTETS: usize = 3000;

fn volume() -> Volume {
    let power = Power::default();
    power.switch_on(None);
    Volume::new(power)
}

fn file() -> Node {
    let kind = Kind::File { seen: Content::default(), kept: Content::default(), pending: Vec::new() };
    Node { kind, mode: 0o600, owner: (0, 0), modified: SystemTime::now() }
}

fn octets(volume: &Volume, name: &str) -> Option<Vec<u8>> {
    let tree = volume.lock();
    let number = tree.named(ROOT, OsStr::new(name)).ok()?;
    match &tree.node(number).ok()?.kind {
        Kind::File { seen, .. } => Some(seen.read(0, OCTETS as u64)),
        _ => None,
    }
}

fn make(volume: &Volume, name: &str, is_synced: bool) -> u64 {
    let mut tree = volume.working().ok().unwrap();
    let number = tree.add(ROOT, OsStr::new(name), file()).ok().unwrap();
    tree.change(number, Change::Write(0, vec![OLD; OCTETS])).ok().unwrap();
    if is_synced {
        tree.sync_file(number).ok().unwrap();
        tree.sync_directory(ROOT);
    }
    number
}

#[test]
fn what_was_synced_stays_and_nothing_else_is_sure() {
    let (mut whole, mut gone, mut torn) = (0, 0, 0);
    for seed in 0..SEEDS {
        let volume = volume();
        let kept = make(&volume, "kept", true);
        volume.lock().change(kept, Change::Write(0, vec![NEW; OCTETS])).ok().unwrap();
        make(&volume, "loose", false);
        volume.lose(&SeededEntropy::new(seed));
        let now = octets(&volume, "kept").expect("its name was synced");
        assert!(now.iter().all(|it| [OLD, NEW].contains(it)), "what was synced is never lost");
        let news = now.iter().filter(|it| **it == NEW).count();
        match news {
            0 => gone += 1,
            OCTETS => whole += 1,
            _ => torn += 1,
        }
        assert_eq!(news % content::SECTOR_OCTETS as usize % (OCTETS % content::SECTOR_OCTETS as usize), 0, "{news}");
    }
    assert!(whole > 20 && gone > 20 && torn > 20, "{whole} whole, {gone} gone, {torn} torn");
}

#[test]
fn names_without_a_sync_of_their_directory_may_go() {
    let is_left = |seed| {
        let volume = volume();
        let number = make(&volume, "loose", false);
        volume.lock().sync_file(number).ok().unwrap();
        volume.lose(&SeededEntropy::new(seed));
        octets(&volume, "loose").inspect(|octets| assert_eq!(octets.len(), OCTETS, "the file was synced")).is_some()
    };
    let left = (0..SEEDS).filter(|seed| is_left(*seed)).count();
    assert!((20..SEEDS as usize - 20).contains(&left), "{left} of {SEEDS} are left");
}

#[test]
fn a_rename_happens_as_a_whole_or_not_at_all() {
    for seed in 0..SEEDS {
        let volume = volume();
        let (first, second) = (make(&volume, "first", true), make(&volume, "second", true));
        volume.lock().change(second, Change::Write(0, vec![NEW; OCTETS])).ok().unwrap();
        volume.lock().sync_file(second).ok().unwrap();
        let edits = vec![(ROOT, "second".into(), None), (ROOT, "first".into(), Some(second))];
        volume.lock().edit(edits).ok().unwrap();
        volume.lose(&SeededEntropy::new(seed));
        let (one, other) = (octets(&volume, "first").unwrap(), octets(&volume, "second"));
        assert_eq!(one[0] == NEW, other.is_none(), "{first} {second}");
    }
}

#[test]
fn without_power_nothing_reaches_the_disk() {
    let volume = volume();
    make(&volume, "kept", true);
    volume.power.switch_on(Some(2));
    assert!(volume.working().is_ok() && volume.working().is_ok());
    assert!(volume.working().is_err() && volume.looking().is_err(), "the third is one too many");
}

#[test]
fn octets_that_are_kept_are_found_also_across_pages() {
    let volume = volume();
    let mut tree = volume.lock();
    let log = Node { kind: Kind::Directory { seen: Names::new(), kept: Names::new() }, ..file() };
    let log = tree.add(ROOT, OsStr::new("log"), log).ok().unwrap();
    let number = tree.add(log, OsStr::new("1"), file()).ok().unwrap();
    tree.change(number, Change::Write(4090, b"something".to_vec())).ok().unwrap();
    drop(tree);
    let keeps = || volume.keeps(Path::new("log"), b"something");
    assert!(!keeps());
    volume.lock().sync_file(number).ok().unwrap();
    volume.lock().sync_directory(ROOT);
    assert!(!keeps(), "its name is not kept");
    volume.lock().sync_directory(log);
    assert!(keeps());
}

#[test]
fn a_sector_is_never_newer_at_its_beginning_than_at_its_end() {
    for seed in 0..SEEDS {
        let volume = volume();
        let number = make(&volume, "log", true);
        for (place, octet) in (0..10).zip(10..) {
            volume.lock().change(number, Change::Write(place * 10, vec![octet; 10])).ok().unwrap();
        }
        volume.lose(&SeededEntropy::new(seed));
        let now = octets(&volume, "log").unwrap();
        let written = now.iter().take_while(|it| **it != OLD).count();
        assert!(now[written..].iter().all(|it| *it == OLD), "{:?}", &now[..100]);
    }
}

//! The state directory: what survives, what is refused, what a crash may leave behind.
#![allow(clippy::unwrap_used)]

use certwright_core::ids::Uid;
use certwright_core::log::Position;
use certwright_seams::Seams;

use super::*;

fn instance() -> InstanceId {
    InstanceId { certificate: Uid(Position { index: 5, ordinal: 1 }), number: 2 }
}

fn assignment(revision: u64) -> Assignment {
    Assignment { instance: instance().to_string(), revision, ..Default::default() }
}

fn open(root: &Path) -> Store {
    Store::open(Seams::system().disk, root).unwrap()
}

fn recovered(store: &Store) -> Vec<Recovered> {
    let mut all = Vec::new();
    store.recover(|one| all.push(one)).unwrap();
    all
}

fn facts() -> Facts {
    let target = TargetFacts {
        generation: 7,
        serial: "0A".into(),
        version: "7-0A".into(),
        digest: u64::MAX,
        served: true,
        acknowledged: false,
    };
    Facts { targets: [("files".to_string(), target)].into() }
}

#[test]
fn everything_is_recovered() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let sum = store.save_assignment(instance(), &assignment(3)).unwrap();
    store.save_facts(instance(), &facts()).unwrap();
    store.save_key(instance(), 7, b"seven").unwrap();
    store.save_key(instance(), 8, b"eight").unwrap();
    let found = recovered(&store);
    assert_eq!(found.len(), 1);
    let (assignment, found_sum) = found[0].assignment.as_ref().unwrap();
    assert_eq!((found[0].instance, assignment.revision, *found_sum), (instance(), 3, sum));
    assert_eq!((&found[0].facts, &found[0].keys), (&facts(), &BTreeSet::from([7, 8])));
    assert_eq!(store.load_key(instance(), 8).unwrap().unwrap().as_slice(), b"eight");
    assert!(store.load_key(instance(), 9).unwrap().is_none());
    store.remove_key(instance(), 8).unwrap();
    store.remove_key(instance(), 8).unwrap();
    assert_eq!(recovered(&store)[0].keys, BTreeSet::from([7]));
    store.remove_instance(instance()).unwrap();
    assert!(recovered(&store).is_empty());
}

#[test]
fn keys_are_nobody_elses() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    store.save_key(instance(), 1, b"key").unwrap();
    let disk = Seams::system().disk;
    let directory = store.directory(instance());
    assert_eq!(disk.stat(&directory.join("1.key")).unwrap().mode & 0o777, 0o600);
    assert_eq!(disk.stat(&directory).unwrap().mode & 0o777, 0o700);
}

#[test]
fn golden_facts() {
    let text = r#"{"targets":{"files":{"generation":7,"serial":"0A","version":"7-0A","digest":18446744073709551615,"served":true,"acknowledged":false}}}"#;
    assert_eq!(serde_json::to_string(&facts()).unwrap(), text);
    assert_eq!(serde_json::from_str::<Facts>(text).unwrap(), facts());
}

#[test]
fn what_a_crash_left_half_done_is_removed() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    store.save_assignment(instance(), &assignment(1)).unwrap();
    let directory = store.directory(instance());
    let disk = Seams::system().disk;
    for name in [".assignment", ".9.key.new", ".facts.json.new"] {
        disk.open(&directory.join(name), Open::CreateNew(0o600)).unwrap().write_at(0, b"half").unwrap();
    }
    assert_eq!(recovered(&store).len(), 1);
    assert_eq!(disk.list(&directory).unwrap(), [PathBuf::from("assignment")]);
    store.save_key(instance(), 9, b"nine").unwrap();
}

#[test]
fn damaged_files_cost_a_complete_scope_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    store.save_assignment(instance(), &assignment(1)).unwrap();
    store.save_facts(instance(), &facts()).unwrap();
    let disk = Seams::system().disk;
    disk.write_atomic(&store.directory(instance()).join("facts.json"), b"{", 0o600).unwrap();
    assert_eq!(recovered(&store)[0].facts, Facts::default());
    store.save_facts(instance(), &facts()).unwrap();
    disk.write_atomic(&store.directory(instance()).join("assignment"), b"\xff\xff", 0o600).unwrap();
    let found = recovered(&store);
    assert!(found[0].assignment.is_none());
    assert_eq!(found[0].facts, facts(), "what is installed is remembered all the same");
}

#[test]
fn a_token_is_good_on_the_same_boot_or_for_the_same_assignments() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    assert_eq!(store.load_resume(0), None);
    store.save_resume("token", 5).unwrap();
    assert_eq!(store.load_resume(5).as_deref(), Some("token"));
    assert_eq!(store.load_resume(6).as_deref(), Some("token"), "nothing written can be lost without a boot");
    // After a power cut only what adds up counts.
    let before = Resume { token: "token".into(), sum: 5, boot: Some("another boot".into()) };
    let path = root.path().join("resume.json");
    Seams::system().disk.write_atomic(&path, &serde_json::to_vec(&before).unwrap(), 0o600).unwrap();
    assert_eq!(store.load_resume(5).as_deref(), Some("token"));
    assert_eq!(store.load_resume(6), None);
}

#[test]
fn one_directory_has_one_user() {
    let root = tempfile::tempdir().unwrap();
    let first = open(root.path());
    assert!(matches!(Store::open(Seams::system().disk, root.path()), Err(StoreError::InUse(_))));
    drop(first);
    // A process that another test forks holds every descriptor until it executes its program.
    let freed = (0..1_000_000).any(|_| {
        std::thread::yield_now();
        Store::open(Seams::system().disk, root.path()).is_ok()
    });
    assert!(freed, "the lock outlives its user");
}

#[test]
fn an_assignment_larger_than_its_bound_is_not_read() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let mut large = assignment(1);
    large.certificate = "x".repeat(ASSIGNMENT_OCTETS_MAX as usize);
    store.save_assignment(instance(), &large).unwrap();
    assert!(store.load_assignment(instance()).is_err());
    assert!(recovered(&store)[0].assignment.is_none());
}

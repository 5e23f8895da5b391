//! A build of an older commit of this repository: what an operator runs who has not upgraded yet.
//!
//! It refuses to stand in for one: where the commit's objects are missing (a shallow clone), it says so and fails.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::{cache, must, run};

/// The last commit whose servers know the first format of the log and no other.
const COMMIT: &str = "046b0e157a396e566d0936e36f66326bae62148b";

/// That build's `certwright`. The first one who asks builds it, in the cache; for the others it is there.
pub fn certwright() -> PathBuf {
    let home = cache().join("before").join(COMMIT);
    let program = home.join("certwright");
    std::fs::create_dir_all(&home).unwrap();
    let turn = std::fs::File::create(home.join("lock")).unwrap();
    turn.lock().unwrap();
    if !program.exists() {
        eprintln!("certwright of commit {COMMIT} is built, once: this takes some minutes");
        build(&home, &program);
    }
    program
}

fn build(home: &Path, program: &Path) {
    let (source, target) = (home.join("source"), home.join("target"));
    unpack(&source);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    must(
        Command::new(cargo)
            .args(["build", "--locked", "-p", "certwright", "--bin", "certwright"])
            .current_dir(&source)
            .env("CARGO_TARGET_DIR", &target)
            .env("CARGO_INCREMENTAL", "0")
            .env("CARGO_PROFILE_DEV_DEBUG", "0"),
    );
    std::fs::rename(target.join("debug/certwright"), program).unwrap();
    // Large, and not needed again.
    std::fs::remove_dir_all(&target).unwrap();
    std::fs::remove_dir_all(&source).unwrap();
}

/// The commit's files.
fn unpack(source: &Path) {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let known =
        run(Command::new("git").arg("-C").arg(repository).args(["cat-file", "-e", &format!("{COMMIT}^{{commit}}")]));
    assert!(
        known.status.success(),
        "commit {COMMIT} is not in {}, and this test upgrades from it: clone with the whole history (git fetch --unshallow)",
        repository.display()
    );
    let _ = std::fs::remove_dir_all(source);
    std::fs::create_dir_all(source).unwrap();
    let archive = source.with_extension("tar");
    must(Command::new("git").arg("-C").arg(repository).args(["archive", "-o"]).arg(&archive).arg(COMMIT));
    must(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(source));
    std::fs::remove_file(archive).unwrap();
}

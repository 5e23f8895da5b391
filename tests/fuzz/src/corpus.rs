//! Corpora: one text file a target, a line an input: its name, a space, its octets in hex.
//!
//! It refuses to hold more than a test can replay within seconds.
#![allow(clippy::disallowed_methods, reason = "corpora are files of the source tree")]

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Octets of all files together.
pub const CORPORA_OCTETS_MAX: u64 = 1024 * 1024;

/// Inputs by name.
pub type Corpus = BTreeMap<String, Vec<u8>>;

/// The file of a target.
pub fn path(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpora").join(format!("{target}.hex"))
}

/// The inputs of a target; none when it has no file.
pub fn load(target: &str) -> io::Result<Corpus> {
    let text = match std::fs::read_to_string(path(target)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Corpus::new()),
        text => text?,
    };
    let line = |line: &str| {
        let (name, octets) = line.split_once(' ')?;
        Some((name.to_owned(), hex::decode(octets).ok()?))
    };
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, format!("corpora/{target}.hex is malformed"));
    text.lines().map(|text| line(text).ok_or_else(malformed)).collect()
}

/// Writes the inputs of a target.
pub fn save(target: &str, corpus: &Corpus) -> io::Result<()> {
    let lines: String = corpus.iter().map(|(name, octets)| format!("{name} {}\n", hex::encode(octets))).collect();
    std::fs::write(path(target), lines)
}

/// Writes every input as a file of a directory, as libFuzzer wants them.
pub fn unpack(corpus: &Corpus, directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    corpus.iter().try_for_each(|(name, octets)| std::fs::write(directory.join(name), octets))
}

/// The inputs in a directory of libFuzzer's.
pub fn pack(directory: &Path) -> io::Result<Corpus> {
    let mut corpus = Corpus::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        // libFuzzer names an input by its SHA-1; the beginning of it tells them apart.
        let name: String = entry.file_name().to_string_lossy().chars().take(12).collect();
        corpus.insert(name, std::fs::read(entry.path())?);
    }
    Ok(corpus)
}

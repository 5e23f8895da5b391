//! Corpora for people: `corpora list`, `corpora unpack TARGET DIRECTORY` (with the seeds), `corpora pack TARGET DIRECTORY`,
//! `corpora run TARGET FILE` (`CERTWRIGHT_MUTANT` plants a bug first).
//!
//! It refuses to minimise: that is libFuzzer's business (`run.sh pack`, with `-set_cover_merge=1`).
#![allow(clippy::disallowed_methods, reason = "corpora are files")]

use std::io;
use std::path::Path;

use certwright_fuzz::{TARGETS, corpus, target};

/// Inputs that were findings once; packing keeps them whatever they cover.
const FOUND: &str = "found-";
/// Octets of the inputs of one target besides those, the smallest first: all targets together stay replayable in seconds.
const PACKED_OCTETS_MAX: usize = 36 * 1024;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let unknown = || io::Error::new(io::ErrorKind::NotFound, "no such target");
    match arguments[..] {
        ["list"] => TARGETS.iter().for_each(|target| println!("{}", target.name)),
        ["unpack", name, directory] => {
            let target = target(name).ok_or_else(unknown)?;
            let mut inputs = corpus::load(name)?;
            inputs.extend(
                (0..).zip((target.seeds)()).map(|(number, seed): (u32, _)| (format!("seed-{number:02}"), seed)),
            );
            corpus::unpack(&inputs, Path::new(directory))?;
        }
        ["pack", name, directory] => {
            target(name).ok_or_else(unknown)?;
            let mut inputs = smallest(corpus::pack(Path::new(directory))?);
            inputs.extend(corpus::load(name)?.into_iter().filter(|(name, _)| name.starts_with(FOUND)));
            corpus::save(name, &inputs)?;
            println!("{name}: {} inputs", inputs.len());
        }
        ["run", name, file] => {
            certwright_fuzz::plant();
            (target(name).ok_or_else(unknown)?.run)(&std::fs::read(file)?);
        }
        _ => {
            eprintln!("corpora list | unpack TARGET DIRECTORY | pack TARGET DIRECTORY | run TARGET FILE");
            std::process::exit(2);
        }
    }
    Ok(())
}

/// As many inputs as fit.
fn smallest(inputs: corpus::Corpus) -> corpus::Corpus {
    let mut inputs: Vec<_> = inputs.into_iter().collect();
    inputs.sort_by_key(|(_, octets)| octets.len());
    let mut room = PACKED_OCTETS_MAX;
    let fits = |(_, octets): &(String, Vec<u8>)| {
        let left = room.checked_sub(octets.len());
        room = left.unwrap_or_default();
        left.is_some()
    };
    inputs.into_iter().take_while(fits).collect()
}

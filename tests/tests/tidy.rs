//! Tidiness as a test: the arrows between rooms, module docs, file sizes, forbidden words, links that lead somewhere.
//!
//! It refuses opinions that a machine cannot hold: those are in CONTRIBUTING.md.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test of the source tree reads the source tree"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines a source file may have; see CONTRIBUTING.md.
const FILE_LINES_MAX: usize = 600;
/// Lines a function may have.
const FUNCTION_LINES_MAX: usize = 70;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Tracked files with one of these endings, relative to the root.
fn tracked(endings: &[&str]) -> Vec<PathBuf> {
    let output = Command::new("git").args(["ls-files"]).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let files: Vec<PathBuf> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter(|name| endings.iter().any(|ending| name.ends_with(ending)))
        .map(PathBuf::from)
        .filter(|path| root().join(path).exists())
        .collect();
    assert!(!files.is_empty(), "no tracked files end with {endings:?}");
    files
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether a source file is product code, not a test.
fn is_product(path: &Path) -> bool {
    let name = path.to_string_lossy();
    !name.starts_with("tests/")
        && !name.contains("/tests/")
        && !name.ends_with("/tests.rs")
        && !name.contains("/examples/")
}

/// The lines of a file before its inline test module, without comments.
fn product_lines(path: &Path) -> Vec<(usize, String)> {
    text(path)
        .lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .enumerate()
        .map(|(number, line)| (number + 1, line.split("//").next().unwrap_or_default().to_string()))
        .collect()
}

fn report(rule: &str, offences: Vec<String>) {
    assert!(offences.is_empty(), "{rule}:\n  {}", offences.join("\n  "));
}

#[test]
fn arrows_run_only_downward() {
    // What each room may link, directly or not, of our own.
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("certwright-core", &[][..]),
        ("certwright-seams", &[]),
        ("certwright-proto", &["core"]),
        ("certwright-raft", &["proto", "core", "seams"]),
        ("certwright-custody", &["core", "seams"]),
        ("certwright-issuance", &["raft", "custody", "proto", "core", "seams"]),
        ("certwright-api", &["issuance", "raft", "custody", "proto", "core", "seams"]),
        ("certwright-agent", &["custody", "proto", "core", "seams"]),
    ]);
    let mut offences = Vec::new();
    for (package, may) in allowed {
        for (name, _) in linked(package) {
            if let Some(room) = name.strip_prefix("certwright-")
                && name != package
                && !may.contains(&room)
            {
                offences.push(format!("{package} links {name}"));
            }
        }
    }
    report("arrows run only downward", offences);
}

/// Names and versions of every package that a package links, itself included.
fn linked(package: &str) -> BTreeSet<(String, String)> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--prefix", "none", "-e", "normal", "-p", package])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.to_string(), words.next()?.to_string()))
        })
        .collect()
}

#[test]
fn the_agent_is_light_and_the_crypto_is_one() {
    let names = |package| linked(package).into_iter().map(|(name, _)| name).collect::<BTreeSet<_>>();
    let agent = names("certwright-agent");
    for heavy in ["openraft", "sled", "axum", "certwright-raft", "certwright-issuance"] {
        // tonic's router brings axum's core types; the server framework itself must stay out.
        assert!(!agent.contains(heavy), "the agent links {heavy}");
    }
    for package in ["certwright", "certwright-agent"] {
        let all = names(package);
        for banned in ["ring", "openssl-sys", "native-tls", "kube"] {
            assert!(!all.contains(banned), "{package} links {banned}");
        }
    }
}

#[test]
fn walls_between_rooms_hold() {
    // (word, the only place product code may say it)
    let walls = [
        ("use openraft", "crates/raft/"),
        ("sled::", "crates/raft/"),
        ("kube::", "crates/agent/src/kubernetes"),
        ("axum::", "crates/api/"),
        ("SealedKey {", "crates/custody/"),
    ];
    let mut offences = Vec::new();
    for path in tracked(&[".rs"]).into_iter().filter(|path| is_product(path)) {
        let name = path.to_string_lossy().to_string();
        for (number, line) in product_lines(&path) {
            for (word, place) in walls {
                let defines = word == "SealedKey {" && (name.starts_with("crates/core/") || name.starts_with("proto/"));
                if line.contains(word) && !name.starts_with(place) && !defines {
                    offences.push(format!("{name}:{number}: {word} belongs in {place}"));
                }
            }
        }
    }
    report("walls between rooms", offences);
}

#[test]
fn every_file_says_what_it_owns_and_refuses() {
    let offences = tracked(&[".rs"])
        .into_iter()
        .filter(|path| {
            let text = text(path);
            let docs: Vec<&str> = text.lines().take_while(|line| line.starts_with("//!")).collect();
            docs.is_empty() || (is_product(path) && docs.iter().all(|line| line.trim() == "//!"))
        })
        .map(|path| path.display().to_string())
        .collect();
    report("files that do not open with //!", offences);
}

#[test]
fn files_and_functions_stay_readable() {
    let mut offences = Vec::new();
    for path in tracked(&[".rs", ".py", ".sh", ".proto"]) {
        let lines = text(&path).lines().count();
        if lines > FILE_LINES_MAX {
            offences.push(format!("{}: {lines} lines, at most {FILE_LINES_MAX}", path.display()));
        }
    }
    for path in tracked(&[".rs"]).into_iter().filter(|path| is_product(path)) {
        offences.extend(long_functions(&path));
    }
    report("long files and functions", offences);
}

/// Functions longer than the bound, by indentation: from `fn` to the closing brace in the same column.
fn long_functions(path: &Path) -> Vec<String> {
    let lines = product_lines(path);
    let mut offences = Vec::new();
    for (place, (number, line)) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let head = line.trim_start();
        let is_function = [
            "fn ",
            "pub fn ",
            "async fn ",
            "pub async fn ",
            "pub(crate) fn ",
            "pub(super) fn ",
            "pub(crate) async fn ",
        ]
        .iter()
        .any(|start| head.starts_with(start));
        if !is_function || head.ends_with(';') {
            continue;
        }
        let close = format!("{}}}", " ".repeat(indent));
        let length =
            lines[place..].iter().position(|(_, line)| *line == close || line.trim_end() == close).unwrap_or(0);
        if length > FUNCTION_LINES_MAX {
            offences.push(format!(
                "{}:{number}: a function of {length} lines, at most {FUNCTION_LINES_MAX}",
                path.display()
            ));
        }
    }
    offences
}

#[test]
fn product_code_has_no_stubs_and_no_bare_unwrap() {
    let forbidden = ["todo!", "unimplemented!", ".unwrap()", "dbg!", "FIXME", "XXX"];
    let mut offences = Vec::new();
    for path in tracked(&[".rs"]).into_iter().filter(|path| is_product(path)) {
        for (number, line) in product_lines(&path) {
            for word in forbidden.iter().filter(|word| line.contains(**word)) {
                offences.push(format!("{}:{number}: {word}", path.display()));
            }
        }
    }
    report("stubs and bare unwraps", offences);
}

#[test]
fn core_and_log_iterate_in_one_order() {
    let mut offences = Vec::new();
    for path in tracked(&[".rs"]).into_iter().filter(|path| is_product(path)) {
        let name = path.to_string_lossy().to_string();
        if !name.starts_with("crates/core/") && !name.starts_with("crates/raft/") {
            continue;
        }
        for (number, line) in product_lines(&path) {
            if line.contains("HashMap") || line.contains("HashSet") {
                offences.push(format!("{name}:{number}: hash maps iterate in another order on every replica"));
            }
        }
    }
    report("hash maps in core and raft", offences);
}

#[test]
fn every_variable_is_documented_and_every_documented_one_is_read() {
    // Bugs are planted in no build that a user runs: what names them is for this repository's tests alone.
    let planted = Path::new("crates/core/src/mutant.rs");
    let mut read = BTreeSet::new();
    for path in tracked(&[".rs"]).into_iter().filter(|path| is_product(path) && path != planted) {
        read.extend(product_lines(&path).iter().flat_map(|(_, line)| variables(line)));
    }
    assert!(read.contains("CERTWRIGHT_DATA") && read.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{read:?}");
    let document = Path::new("docs/configuration.md");
    let told: BTreeSet<String> = text(document).lines().flat_map(variables).collect();
    let mut offences: Vec<String> =
        read.difference(&told).map(|name| format!("{} does not name {name}", document.display())).collect();
    // What OpenTelemetry's own libraries read is documented, too.
    let gone = told.difference(&read).filter(|name| name.starts_with("CERTWRIGHT_"));
    offences.extend(gone.map(|name| format!("{} names {name}, which no code reads", document.display())));
    report("environment variables", offences);
}

/// The environment variables of ours and of OpenTelemetry's that a line names.
fn variables(line: &str) -> Vec<String> {
    let part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let words = line.split(|c: char| !part(c));
    let ours = words.filter(|word| word.starts_with("CERTWRIGHT_") || word.starts_with("OTEL_"));
    // A name that ends so is a pattern for several.
    ours.filter(|word| !word.ends_with('_')).map(str::to_string).collect()
}

#[test]
fn links_in_documents_lead_somewhere() {
    let mut offences = Vec::new();
    for path in tracked(&[".md"]) {
        let folder = path.parent().unwrap().to_path_buf();
        for (number, line) in text(&path).lines().enumerate() {
            for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let file = target.split('#').next().unwrap_or_default();
                if file.is_empty() || file.contains("://") {
                    continue;
                }
                if !root().join(&folder).join(file).exists() {
                    offences.push(format!("{}:{}: {target} does not exist", path.display(), number + 1));
                }
            }
        }
    }
    report("dead links", offences);
}

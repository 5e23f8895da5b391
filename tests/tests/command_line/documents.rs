//! Documents that are generated: docs/errors.md from the reasons, docs/cli.md from the command line's own description.
//!
//! It refuses to let them drift: each is compared, and rewritten when `CERTWRIGHT_BLESS=1` is set.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use certwright_agent::failure::FailureReason;
use certwright_core::Reason;
use certwright_proto::status::{Exit, code};
use clap::CommandFactory;

use crate::shared;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Whether documents are to be rewritten instead of compared.
pub fn blessing() -> bool {
    std::env::var_os("CERTWRIGHT_BLESS").is_some_and(|value| value == "1")
}

/// A document of the tree, as it is.
pub fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_default()
}

/// Rewrites a document of the tree.
pub fn write(name: &str, text: &str) {
    std::fs::write(root().join(name), text).unwrap();
}

/// Compares a generated document, or rewrites it.
fn compare(name: &str, generated: &str) {
    if blessing() {
        return write(name, generated);
    }
    let stored = read(name);
    if stored == generated {
        return;
    }
    let differs = stored.lines().zip(generated.lines()).position(|(stored, generated)| stored != generated);
    let line = differs.unwrap_or_else(|| stored.lines().count().min(generated.lines().count()));
    panic!(
        "{name} is not what it is generated from, first in line {}:\n  is     {:?}\n  should {:?}\nCERTWRIGHT_BLESS=1 rewrites it",
        line + 1,
        stored.lines().nth(line),
        generated.lines().nth(line),
    );
}

#[test]
fn docs_errors_is_generated_from_the_reasons() {
    let mut text = String::from(
        "# Errors\n\n<!-- Generated from the code; CERTWRIGHT_BLESS=1 cargo test -p certwright-tests --test command_line \
         documents -->\n\nEvery refusal has a stable code. gRPC carries it as `google.rpc.ErrorInfo.reason` under the domain\n\
         `certwright.dev`, with `BadRequest` for the field concerned and `RetryInfo` where repeating helps; the command line\n\
         prints it as its last line, `reason CODE`. Codes are only added, never renamed.\n\n\
         | code | cause | way out | class | gRPC status | exit |\n|---|---|---|---|---|---|\n",
    );
    for &reason in Reason::ALL {
        let class = reason.class();
        let row = format!(
            "| `{}` | {} | {} | {class:?} | {:?} | {} |",
            reason.code(),
            reason.cause(),
            sentence(reason.fix()),
            code(class),
            Exit::of(reason).code()
        );
        writeln!(text, "{row}").unwrap();
    }
    text.push_str(
        "\n## Deliveries\n\nWhat an agent reports when a delivery gets no further; `certwright why NAME` shows it. \
         [agent.md](agent.md)\nhas the tests.\n\n| code | way out |\n|---|---|\n",
    );
    for &reason in FailureReason::ALL {
        writeln!(text, "| `{}` | {} |", reason.code(), sentence(reason.fix())).unwrap();
    }
    compare("docs/errors.md", &text);
}

/// A cell that starts and ends as a sentence does.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", characters.as_str()).replace('|', "\\|")
}

#[test]
fn docs_cli_is_generated_from_the_command_line() {
    let mut text = String::from(
        "# Command line\n\n<!-- Generated from the code; CERTWRIGHT_BLESS=1 cargo test -p certwright-tests --test command_line \
         documents -->\n",
    );
    let mut command = certwright::args::command().max_term_width(100).term_width(100);
    command.build();
    page(&mut text, &mut command, "certwright");
    let mut agent = certwright_agent::AgentArgs::command().term_width(100);
    agent.build();
    page(&mut text, &mut agent, "certwright-agent");
    compare("docs/cli.md", &text);
}

/// The long help of one command and of all below it.
fn page(text: &mut String, command: &mut clap::Command, name: &str) {
    // Values that the environment happens to hold now are not part of the description, and the flags of every verb are
    // told once.
    let top = !name.contains(' ');
    *command = command.clone().mut_args(|argument| {
        let everywhere = !top && argument.is_global_set();
        let hidden = everywhere || argument.is_hide_set();
        argument.hide_env_values(true).hide(hidden)
    });
    let help = command.render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    write!(text, "\n## {name}\n\n```text\n{}\n```\n", help.join("\n").trim_end()).unwrap();
    for below in command.get_subcommands_mut().filter(|below| below.get_name() != "help" && !below.is_hide_set()) {
        let name = format!("{name} {}", below.get_name());
        page(text, below, &name);
    }
}

#[test]
fn every_file_of_a_data_directory_is_documented() {
    let document = read("docs/configuration.md");
    let data = shared::fleet().processes()["server-1"].data.clone().unwrap();
    let found = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    // What a server has only at times: while it joins, while it is bootstrapped, after a snapshot jumped over entries.
    let names: Vec<String> = found.chain(["peers.json", "administrator.key", "backfill"].map(str::to_string)).collect();
    assert!(names.len() > 8, "{names:?}");
    let told = |name: &String| document.contains(&format!("`{name}`")) || document.contains(&format!("`{name}/`"));
    let missing: Vec<&String> = names.iter().filter(|name| !told(name)).collect();
    assert!(missing.is_empty(), "docs/configuration.md does not name {missing:?}");
}

#[test]
fn every_reason_is_produced_by_a_test() {
    let sources = tests_of_the_tree();
    let mut missing = Vec::new();
    for &reason in Reason::ALL {
        let (variant, code) = (format!("Reason::{reason:?}"), reason.code());
        if !sources.iter().any(|text| holds(text, &variant) || holds(text, code)) {
            missing.push(code);
        }
    }
    assert!(missing.is_empty(), "no test produces {missing:?}");
}

/// Whether the text holds the word as a whole.
fn holds(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| !text[..at].ends_with(part) && !text[at + word.len()..].starts_with(part))
}

/// The text of every test: files of tests, and the test modules at the bottom of the others. This file only lists.
fn tests_of_the_tree() -> Vec<String> {
    let mut folders: Vec<PathBuf> = vec![root().join("crates"), root().join("proto/src"), root().join("tests")];
    let mut texts = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.to_string_lossy().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") && !name.ends_with(file!()) && !name.ends_with("command_line/documents.rs")
            {
                let text = std::fs::read_to_string(&path).unwrap();
                let whole = name.contains("/tests/") || name.ends_with("/tests.rs");
                let from = if whole { Some(0) } else { text.find("#[cfg(test)]") };
                texts.extend(from.map(|from| text[from..].to_string()));
            }
        }
    }
    texts
}

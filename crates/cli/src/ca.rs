//! `ca`: the authorities, the roots to trust, and who signed whom.
//!
//! It refuses keys: only certificates leave the servers.

use std::process::ExitCode;

use certwright_core::time::Timestamp;
use certwright_core::x509::pem;
use certwright_proto::v1;
use serde_json::{Value, json};

use crate::apply::short;
use crate::args::{CaVerb, Format, GetArgs, Global, Kind};
use crate::client::Client;
use crate::failure::Failure;
use crate::get::{authorities, now};
use crate::output::{self, moment, until};

/// Runs the verb.
pub async fn run(global: &Global, verb: CaVerb) -> Result<ExitCode, Failure> {
    match verb {
        CaVerb::List => {
            let args = GetArgs::all(Kind::Authorities);
            crate::get::run(global, args).await
        }
        CaVerb::Bundle => {
            let client = Client::new(global)?;
            let found = authorities(&client).await?;
            let roots: Vec<&v1::Authority> = found
                .iter()
                .filter(|authority| {
                    authority.parent.is_empty() && authority.purpose == "issuing" && !authority.certificate.is_empty()
                })
                .collect();
            if roots.is_empty() {
                return Err(Failure::finding(
                    "there is no certified issuing root",
                    "create an authority: certwright apply -f authority.yaml",
                ));
            }
            bundle(global.output, &roots)?;
            Ok(ExitCode::SUCCESS)
        }
        CaVerb::Tree => {
            let client = Client::new(global)?;
            let found = authorities(&client).await?;
            let roots = below(&found, "", 0);
            match global.output {
                Format::Json | Format::Yaml => output::value(global.output, &roots.iter().map(branch_value).collect())?,
                format => roots.iter().try_for_each(|root| print(format, root, 0, now(&client)))?,
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The roots as PEM, or as objects that hold it.
fn bundle(format: Format, roots: &[&v1::Authority]) -> Result<(), Failure> {
    match format {
        Format::Json | Format::Yaml => {
            let value = |root: &&v1::Authority| {
                let mut value = facts(root);
                value["certificate"] = Value::String(pem::certificate(&root.certificate));
                value
            };
            output::value(format, &roots.iter().map(value).collect())
        }
        Format::Name => roots.iter().try_for_each(|root| output::line(&short(&root.name))),
        Format::Table | Format::Wide | Format::Junit => {
            let text: String = roots.iter().map(|root| pem::certificate(&root.certificate)).collect();
            output::line(text.trim_end())
        }
    }
}

/// What the tree and the bundle tell of an authority.
fn facts(authority: &v1::Authority) -> Value {
    json!({
        "name": bare(authority), "commonName": authority.common_name, "purpose": authority.purpose,
        "keyAlgorithm": authority.key_algorithm, "serial": authority.serial,
        "notBefore": moment(authority.not_before.as_ref()), "notAfter": moment(authority.not_after.as_ref()),
    })
}

fn bare(authority: &v1::Authority) -> &str {
    authority.name.trim_start_matches("authorities/")
}

/// An authority and those that it signed.
struct Branch<'a> {
    authority: &'a v1::Authority,
    below: Vec<Branch<'a>>,
}

/// The authorities below `parent`; depth is bounded by the chain length that X.509 verification bears.
fn below<'a>(all: &'a [v1::Authority], parent: &str, depth: usize) -> Vec<Branch<'a>> {
    const DEPTH_MAX: usize = 8;
    if depth > DEPTH_MAX {
        return Vec::new();
    }
    let children = all.iter().filter(|authority| authority.parent == parent);
    children.map(|authority| Branch { authority, below: below(all, bare(authority), depth + 1) }).collect()
}

fn branch_value(branch: &Branch<'_>) -> Value {
    let mut value = facts(branch.authority);
    value["signed"] = branch.below.iter().map(branch_value).collect();
    value
}

/// A branch as lines, indented; names stay bare, for programs.
fn print(format: Format, branch: &Branch<'_>, depth: usize, now: Timestamp) -> Result<(), Failure> {
    let authority = branch.authority;
    if format == Format::Name {
        output::line(&short(&authority.name))?;
    } else {
        let left = until(authority.not_after.as_ref(), now);
        let state = if left.is_empty() { "not certified yet".to_string() } else { format!("expires in {left}") };
        let (indent, name) = ("  ".repeat(depth), bare(authority));
        output::line(&format!("{indent}{name} ({}, {}, {state})", authority.purpose, authority.key_algorithm))?;
    }
    branch.below.iter().try_for_each(|branch| print(format, branch, depth + 1, now))
}

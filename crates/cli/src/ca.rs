//! `ca`: the authorities, the roots to trust, and who signed whom.
//!
//! It refuses keys: only certificates leave the servers.

use std::process::ExitCode;

use certwright_core::x509::pem;
use certwright_proto::v1;

use crate::args::{CaVerb, GetArgs, Global, Kind};
use crate::client::Client;
use crate::failure::Failure;
use crate::get::{authorities, now};
use crate::output::{self, until};

/// Runs the verb.
pub async fn run(global: &Global, verb: CaVerb) -> Result<ExitCode, Failure> {
    match verb {
        CaVerb::List => {
            let args = GetArgs { kind: Kind::Authorities, name: None, all_namespaces: false, filter: String::new() };
            crate::get::run(global, args).await
        }
        CaVerb::Bundle => {
            let client = Client::new(global)?;
            let found = authorities(&client).await?;
            let roots: String = found
                .iter()
                .filter(|authority| {
                    authority.parent.is_empty() && authority.purpose == "issuing" && !authority.certificate.is_empty()
                })
                .map(|authority| pem::certificate(&authority.certificate))
                .collect();
            if roots.is_empty() {
                return Err(Failure::finding(
                    "there is no certified issuing root",
                    "create an authority: certwright apply -f authority.yaml",
                ));
            }
            output::line(roots.trim_end())?;
            Ok(ExitCode::SUCCESS)
        }
        CaVerb::Tree => {
            let client = Client::new(global)?;
            let found = authorities(&client).await?;
            let mut lines = Vec::new();
            tree(&found, "", 0, now(&client), &mut lines);
            output::line(&lines.join("\n"))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The authorities below `parent`, indented; depth is bounded by the chain length that X.509 verification bears.
fn tree(
    all: &[v1::Authority],
    parent: &str,
    depth: usize,
    now: certwright_core::time::Timestamp,
    lines: &mut Vec<String>,
) {
    const DEPTH_MAX: usize = 8;
    if depth > DEPTH_MAX {
        return;
    }
    for authority in all.iter().filter(|authority| authority.parent == parent) {
        let name = authority.name.trim_start_matches("authorities/");
        let left = until(authority.not_after.as_ref(), now);
        let state = if left.is_empty() { "not certified yet".to_string() } else { format!("expires in {left}") };
        lines.push(format!(
            "{}{name} ({}, {}, {state})",
            "  ".repeat(depth),
            authority.purpose,
            authority.key_algorithm
        ));
        tree(all, name, depth + 1, now, lines);
    }
}

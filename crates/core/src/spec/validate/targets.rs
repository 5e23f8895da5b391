//! What is wrong with a target: paths, file names, modes, hooks and checks.
//!
//! It refuses to look at any file system; whether a path can be written is the agent's to find out.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::estate::validate_labels;
use super::{at_most, invalid, unsupported};
use crate::limits;
use crate::rejection::Rejection;
use crate::spec::{FilesSink, Holder, Reload, ReloadAction, ServedCheck, Sink, Target};
use crate::x509::names;

/// The files of a file target, by their standard names.
pub const STANDARD_FILES: [&str; 6] = ["cert.pem", "chain.pem", "fullchain.pem", "key.pem", "combined.pem", "ca.pem"];

const SIGNALS: [&str; 5] = ["HUP", "USR1", "USR2", "TERM", "INT"];

pub(super) fn validate(targets: &[Target]) -> Result<(), Rejection> {
    at_most("spec.targets", targets.len(), limits::TARGETS_MAX)?;
    let mut seen = BTreeSet::new();
    for (i, target) in targets.iter().enumerate() {
        let field = format!("spec.targets[{i}]");
        if !seen.insert(&target.name) {
            return Err(invalid(format!("{field}.name"), format!("{} is used by a target before it", target.name)));
        }
        validate_target(&field, target)?;
        if let Some(other) = targets[..i].iter().find(|other| same_place(other, target)) {
            let message = format!("is the directory of target {} on the same agents", other.name);
            return Err(invalid(format!("{field}.files.directory"), message));
        }
    }
    Ok(())
}

fn same_place(left: &Target, right: &Target) -> bool {
    let directory = |target: &Target| match &target.sink {
        Sink::Files(files) => Some(files.directory.trim_end_matches('/').to_owned()),
        Sink::Secret { .. } => None,
    };
    left.holder == right.holder && directory(left).is_some() && directory(left) == directory(right)
}

fn validate_target(field: &str, target: &Target) -> Result<(), Rejection> {
    if let Holder::Selector(labels) = &target.holder {
        if labels.is_empty() {
            return Err(invalid(format!("{field}.selector"), "is empty; name an agent or at least one label"));
        }
        validate_labels(&format!("{field}.selector"), labels)?;
    }
    match &target.sink {
        Sink::Files(files) => validate_files(&format!("{field}.files"), files)?,
        Sink::Secret { .. } => return Err(unsupported(format!("{field}.secret"), "a Secret")),
    }
    if let Some(reload) = &target.reload {
        validate_reload(&format!("{field}.reload"), reload)?;
    }
    match &target.served_check {
        Some(check) => validate_served_check(&format!("{field}.servedCheck"), check),
        None => Ok(()),
    }
}

fn validate_files(field: &str, files: &FilesSink) -> Result<(), Rejection> {
    validate_path(&format!("{field}.directory"), &files.directory)?;
    for (standard, name) in &files.names {
        let field = format!("{field}.names.{standard}");
        if !STANDARD_FILES.contains(&standard.as_str()) {
            return Err(invalid(field, format!("is none of {}", STANDARD_FILES.join(", "))));
        }
        validate_file_name(&field, name)?;
    }
    let named = STANDARD_FILES.iter().map(|standard| files.names.get(*standard).map_or(*standard, String::as_str));
    if named.collect::<BTreeSet<_>>().len() != STANDARD_FILES.len() {
        return Err(invalid(format!("{field}.names"), "gives two files the same name"));
    }
    for (name, value) in [("owner", &files.owner), ("group", &files.group)] {
        let well_formed = |value: &str| {
            (1..=64).contains(&value.len())
                && !value.starts_with('-')
                && value.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"_.-$".contains(&octet))
        };
        if value.as_deref().is_some_and(|value| !well_formed(value)) {
            return Err(invalid(format!("{field}.{name}"), "is neither a name nor a number of at most 64 characters"));
        }
    }
    match files.mode {
        Some(mode) if mode & !0o777 != 0 || mode & 0o400 == 0 => Err(invalid(
            format!("{field}.mode"),
            format!("is {mode:#o}; permission bits up to 0777 with read for the owner are required"),
        )),
        _ => Ok(()),
    }
}

fn validate_file_name(field: &str, name: &str) -> Result<(), Rejection> {
    let bad = name.is_empty()
        || name.len() > limits::FILE_NAME_OCTETS_MAX
        || name.starts_with('.')
        || name.chars().any(|c| c == '/' || c.is_control());
    if bad {
        let max = limits::FILE_NAME_OCTETS_MAX;
        return Err(invalid(
            field,
            format!("{name:?} is no file name of 1 to {max} octets without '/' that starts other than with '.'"),
        ));
    }
    Ok(())
}

/// An absolute path below the root, without `.` and `..`, so that it names one place.
fn validate_path(field: &str, path: &str) -> Result<(), Rejection> {
    let max = limits::PATH_OCTETS_MAX;
    if path.len() > max {
        return Err(invalid(field, format!("has {} octets, at most {max} are allowed", path.len())));
    }
    let Some(below) = path.strip_prefix('/') else {
        return Err(invalid(field, format!("{path:?} is no absolute path")));
    };
    if below.trim_matches('/').is_empty() {
        return Err(invalid(field, "is the root directory"));
    }
    if below.split('/').any(|part| part == ".." || part == ".") {
        return Err(invalid(field, format!("{path:?} contains '.' or '..'")));
    }
    if path.chars().any(char::is_control) {
        return Err(invalid(field, "contains a control character"));
    }
    Ok(())
}

fn validate_reload(field: &str, reload: &Reload) -> Result<(), Rejection> {
    match &reload.action {
        ReloadAction::Exec(argv) if argv.is_empty() => {
            return Err(invalid(format!("{field}.exec"), "is empty; give a command or a signal"));
        }
        ReloadAction::Exec(argv) => validate_argv(&format!("{field}.exec"), argv)?,
        ReloadAction::Signal { signal, pid_file } => {
            if !SIGNALS.contains(&signal.as_str()) {
                return Err(invalid(format!("{field}.signal"), format!("is none of {}", SIGNALS.join(", "))));
            }
            validate_path(&format!("{field}.pidFile"), pid_file)?;
        }
    }
    validate_argv(&format!("{field}.testExec"), &reload.test_exec)?;
    let max = limits::HOOK_SECONDS_MAX;
    if !(1..=max).contains(&reload.timeout_seconds) {
        let message = format!("is {}, 1 to {max} is required", reload.timeout_seconds);
        return Err(invalid(format!("{field}.timeoutSeconds"), message));
    }
    Ok(())
}

fn validate_argv(field: &str, argv: &[String]) -> Result<(), Rejection> {
    at_most(field, argv.len(), limits::ARGV_MAX)?;
    if argv.first().is_some_and(String::is_empty) {
        return Err(invalid(format!("{field}[0]"), "is empty; it names the program"));
    }
    for (i, argument) in argv.iter().enumerate() {
        let max = limits::PATH_OCTETS_MAX;
        if argument.len() > max {
            let message = format!("has {} octets, at most {max} are allowed", argument.len());
            return Err(invalid(format!("{field}[{i}]"), message));
        }
        if argument.contains('\0') {
            return Err(invalid(format!("{field}[{i}]"), "contains NUL"));
        }
    }
    Ok(())
}

fn validate_served_check(field: &str, check: &ServedCheck) -> Result<(), Rejection> {
    let port = check.address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
    if check.address.len() > limits::DNS_NAME_OCTETS_MAX + 8
        || !port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port != 0))
    {
        return Err(invalid(format!("{field}.address"), format!("{:?} is not host:port", check.address)));
    }
    let name = &check.server_name;
    if name.parse::<IpAddr>().is_err() && (name.starts_with('*') || names::check_dns(name).is_err()) {
        return Err(invalid(format!("{field}.serverName"), format!("{name:?} is neither a DNS name nor an address")));
    }
    Ok(())
}

//! Targets: who holds them, what is written, how the consumer is told, what proves that it is served.
//!
//! It refuses two answers to one question: agent and selector, files and secret, command and signal.

use certwright_core::Rejection;
use certwright_core::ids::{AgentName, TargetName};
use certwright_core::spec::{FilesSink, Holder, Reload, ReloadAction, ServedCheck, Sink, Target};

use super::values::{about, invalid, not_yet, optional};
use crate::v1;

/// Seconds that a hook may take when it does not say.
const RELOAD_TIMEOUT_SECONDS_DEFAULT: u32 = 30;

pub(super) fn from_message(field: &str, target: v1::Target) -> Result<Target, Rejection> {
    let path = |name: &str| format!("{field}.{name}");
    Ok(Target {
        name: about(&path("name"), TargetName::parse(&target.name))?,
        holder: holder(field, target.agent, target.selector)?,
        sink: sink(field, target.files, target.secret)?,
        reload: target.reload.map(|reload| reload_from_message(&path("reload"), reload)).transpose()?,
        served_check: target
            .served_check
            .map(|check| ServedCheck { address: check.address, server_name: check.server_name }),
    })
}

fn holder(field: &str, agent: String, selector: certwright_core::spec::Labels) -> Result<Holder, Rejection> {
    match (agent.is_empty(), selector.is_empty()) {
        (false, true) => about(&format!("{field}.agent"), AgentName::parse(&agent)).map(Holder::Agent),
        (true, false) => Ok(Holder::Selector(selector)),
        (false, false) => Err(invalid(format!("{field}.selector"), "a target has an agent or a selector, not both")),
        (true, true) => Err(invalid(format!("{field}.agent"), "a target needs an agent or a selector")),
    }
}

fn sink(field: &str, files: Option<v1::FilesSink>, secret: Option<v1::SecretSink>) -> Result<Sink, Rejection> {
    match (files, secret) {
        (_, Some(_)) => Err(not_yet(format!("{field}.secret"), "a Secret target")),
        (Some(files), None) => Ok(Sink::Files(FilesSink {
            directory: files.directory,
            names: files.names,
            owner: optional(files.owner),
            group: optional(files.group),
            mode: files.mode,
        })),
        (None, None) => Err(invalid(format!("{field}.files"), "a target needs files to write")),
    }
}

fn reload_from_message(field: &str, reload: v1::Reload) -> Result<Reload, Rejection> {
    let action = match (reload.exec.is_empty(), reload.signal.is_empty()) {
        (false, true) if reload.pid_file.is_empty() => ReloadAction::Exec(reload.exec),
        (false, true) => return Err(invalid(format!("{field}.pidFile"), "a pid file goes with a signal")),
        (true, false) => ReloadAction::Signal { signal: reload.signal, pid_file: reload.pid_file },
        (false, false) => return Err(invalid(format!("{field}.signal"), "a reload has exec or signal, not both")),
        (true, true) => return Err(invalid(format!("{field}.exec"), "a reload needs exec or signal")),
    };
    let timeout_seconds = match reload.timeout_seconds {
        0 => RELOAD_TIMEOUT_SECONDS_DEFAULT,
        seconds => seconds,
    };
    Ok(Reload { action, test_exec: reload.test_exec, timeout_seconds })
}

/// A target as a message.
pub fn target_to_message(target: &Target) -> v1::Target {
    let mut message = v1::Target { name: target.name.to_string(), ..v1::Target::default() };
    match &target.holder {
        Holder::Agent(agent) => message.agent = agent.to_string(),
        Holder::Selector(labels) => message.selector = labels.clone(),
    }
    match &target.sink {
        Sink::Files(files) => {
            message.files = Some(v1::FilesSink {
                directory: files.directory.clone(),
                names: files.names.clone(),
                owner: files.owner.clone().unwrap_or_default(),
                group: files.group.clone().unwrap_or_default(),
                mode: files.mode,
            });
        }
        Sink::Secret { namespace, name } => {
            message.secret = Some(v1::SecretSink { namespace: namespace.clone(), name: name.clone() });
        }
    }
    message.reload = target.reload.as_ref().map(reload_to_message);
    message.served_check = target
        .served_check
        .as_ref()
        .map(|check| v1::ServedCheck { address: check.address.clone(), server_name: check.server_name.clone() });
    message
}

fn reload_to_message(reload: &Reload) -> v1::Reload {
    let mut message = v1::Reload {
        test_exec: reload.test_exec.clone(),
        timeout_seconds: reload.timeout_seconds,
        ..v1::Reload::default()
    };
    match &reload.action {
        ReloadAction::Exec(argv) => message.exec = argv.clone(),
        ReloadAction::Signal { signal, pid_file } => {
            message.signal = signal.clone();
            message.pid_file = pid_file.clone();
        }
    }
    message
}

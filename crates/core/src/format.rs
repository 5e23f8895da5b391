//! Formats of the log: which events a build knows, and up to which one a cluster writes.
//!
//! It refuses to skip anybody: a format is taken into use when every server has said that it knows it, and never given up.

use std::fmt;

use crate::decide::Decision;
use crate::event::Event;
use crate::rejection::{Reason, Rejection};

/// A format of the log: every event that builds of that time knew. Formats only grow; a build knows all up to its newest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Format(pub u32);

impl Format {
    /// The format of every cluster to begin with, and of builds that say nothing of formats.
    pub const FIRST: Self = Self(1);
    /// The newest format that this build knows.
    pub const NEWEST: Self = Self(3);

    /// As servers tell it each other: nothing, from builds that know none but the first.
    pub fn told(number: u32) -> Self {
        Self(number).max(Self::FIRST)
    }
}

impl Default for Format {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Event {
    /// The first format that has the event. Whoever adds an event adds it here, with a format of its own, and so does
    /// whoever adds a field to an event, or has `apply` make something else of one: builds before that must not meet it.
    pub const fn format(&self) -> Format {
        match self {
            // Since format 2; who does not know what it takes into use must not read on.
            Self::FormatRaised { format } => *format,
            Self::TimeRebased { .. } => Format(3),
            // What was deleted behind them cannot be read again.
            Self::RetentionSet { .. } | Self::HistoryTrimmed(_) => Format(3),
            _ => Format::FIRST,
        }
    }
}

/// Refuses what some server of the cluster could not read. What takes a format into use is written in it: all know it.
pub(crate) fn permit(in_use: Format, decision: &Decision) -> Result<(), Rejection> {
    let events = || decision.appends.iter().flat_map(|append| &append.events);
    let raised = events().filter_map(|event| match event {
        Event::FormatRaised { format } => Some(*format),
        _ => None,
    });
    let known = raised.fold(in_use, Format::max);
    match events().find(|event| event.format() > known) {
        None => Ok(()),
        Some(event) => {
            let (kind, format) = (event.kind(), event.format());
            let message = format!("{kind} is of format {format}, and not every server is known to read beyond {known}");
            Err(Rejection::new(Reason::UpgradePending, message))
        }
    }
}

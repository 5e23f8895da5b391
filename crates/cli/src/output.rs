//! What goes to standard output: tables, JSON, YAML, names.
//!
//! It refuses colours and truncation, anything but data on standard output, and what would steer the reader's terminal.

use std::fmt::Write as _;
use std::io::Write as _;

use certwright_core::time::Timestamp;
use serde_json::Value;

use crate::args::Format;
use crate::failure::Failure;

/// Rows under a header, columns aligned as kubectl does.
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; empty cells print as `-`.
    pub fn row(&mut self, cells: Vec<String>) {
        let cells = cells.into_iter().map(|cell| if cell.is_empty() { "-".to_string() } else { plain(&cell) });
        self.rows.push(cells.collect());
    }

    /// The text, without trailing spaces.
    pub fn render(&self) -> String {
        let mut widths: Vec<usize> = self.header.iter().map(|cell| cell.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |cells: Vec<&str>| {
            let padded = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
            padded.collect::<Vec<_>>().join("   ").trim_end().to_string()
        };
        let mut lines = vec![line(self.header.clone())];
        lines.extend(self.rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
        lines.join("\n")
    }
}

/// The text of others as part of one line: what would steer a terminal or end the line is written out.
pub fn plain(text: &str) -> String {
    escape(text, &[])
}

/// What would steer a terminal, written as in JSON: there it means the same, so that JSON may pass through here, too.
fn escape(text: &str, kept: &[char]) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, letter| {
        match letter {
            _ if kept.contains(&letter) || !steers(letter) => shown.push(letter),
            '\n' => shown.push_str("\\n"),
            // Everything that steers has four digits.
            _ => write!(shown, "\\u{:04x}", u32::from(letter)).unwrap_or_default(),
        }
        shown
    })
}

/// Whether a terminal acts on it: controls, and what turns the direction of text or breaks its lines.
fn steers(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Lines and columns are ours, everything else that steers is not.
fn lines(text: &str) -> String {
    escape(text, &['\n', '\t'])
}

/// Prints a line of data; a reader that went away ends the program quietly, as with every filter.
pub fn line(text: &str) -> Result<(), Failure> {
    let (mut out, text) = (std::io::stdout().lock(), lines(text));
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        outcome => outcome.map_err(|error| Failure::file("standard output", error)),
    }
}

/// Prints one value as JSON or YAML.
pub fn value(format: Format, value: &Value) -> Result<(), Failure> {
    match format {
        Format::Yaml => line(yaml(value)?.trim_end()),
        _ => line(&serde_json::to_string_pretty(value).map_err(|error| Failure::internal(error.to_string()))?),
    }
}

/// A value as YAML.
pub fn yaml(value: &Value) -> Result<String, Failure> {
    serde_saphyr::to_string(value).map_err(|error| Failure::internal(error.to_string()))
}

/// A moment of the API as RFC 3339; empty when absent.
pub fn moment(moment: Option<&prost_types::Timestamp>) -> String {
    moment.and_then(timestamp).map(|moment| moment.to_string()).unwrap_or_default()
}

/// A moment of the API in the domain's terms.
pub fn timestamp(moment: &prost_types::Timestamp) -> Option<Timestamp> {
    certwright_proto::api::values::moment_from_message("time", moment).ok()
}

/// How long until a moment (`12d`, `3h`, `40s`, `past`), as kubectl prints ages; empty when absent.
pub fn until(moment: Option<&prost_types::Timestamp>, now: Timestamp) -> String {
    match moment.and_then(timestamp) {
        None => String::new(),
        Some(moment) if moment <= now => "past".to_string(),
        Some(moment) => span(moment.since(now).as_secs()),
    }
}

/// How long since a moment; empty when absent.
pub fn age(moment: Option<&prost_types::Timestamp>, now: Timestamp) -> String {
    moment.and_then(timestamp).map(|moment| span(now.since(moment).as_secs())).unwrap_or_default()
}

/// Seconds as people say them.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

/// A note for people, on standard error.
pub fn note(text: &str) {
    eprintln!("{}", lines(text));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn columns_align_and_lines_do_not_trail() {
        let mut table = Table::new(&["NAME", "READY"]);
        table.row(vec!["a-long-name".into(), "True".into()]);
        table.row(vec!["b".into(), String::new()]);
        assert_eq!(table.render(), "NAME          READY\na-long-name   True\nb             -");
    }

    #[test]
    fn what_steers_a_terminal_is_written_out() {
        assert_eq!(plain("\u{1b}]0;x\u{7}\n\u{9b}2J\u{202e}\té"), "\\u001b]0;x\\u0007\\n\\u009b2J\\u202e\\u0009é");
        assert_eq!(lines("one\ttwo\n\u{1b}[2J\rthree"), "one\ttwo\n\\u001b[2J\\u000dthree");
        let value = serde_json::json!({"a": "\u{1b}\n\u{7f}\u{9b}\u{2028}\u{202e} \\u001b"});
        let shown = lines(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!shown.chars().any(|letter| letter != '\n' && steers(letter)), "{shown}");
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), value, "{shown}");
    }

    #[test]
    fn a_cell_stays_in_its_line() {
        let mut table = Table::new(&["NAME", "DETAIL"]);
        table.row(vec!["a".into(), "x\n\u{1b}[31mall is well".into()]);
        assert_eq!(table.render(), "NAME   DETAIL\na      x\\n\\u001b[31mall is well");
    }

    #[test]
    fn spans_read_as_kubectl_prints_them() {
        for (seconds, text) in [(0, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (172_800, "2d")] {
            assert_eq!(span(seconds), text);
        }
    }
}

//! What goes to standard output: tables, JSON, YAML, names.
//!
//! It refuses colours and truncation, and anything but data on standard output.

use std::io::Write;

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
        let cells = cells.into_iter().map(|cell| if cell.is_empty() { "-".to_string() } else { cell });
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

/// Prints a line of data; a reader that went away ends the program quietly, as with every filter.
pub fn line(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
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
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_lines_do_not_trail() {
        let mut table = Table::new(&["NAME", "READY"]);
        table.row(vec!["a-long-name".into(), "True".into()]);
        table.row(vec!["b".into(), String::new()]);
        assert_eq!(table.render(), "NAME          READY\na-long-name   True\nb             -");
    }

    #[test]
    fn spans_read_as_kubectl_prints_them() {
        for (seconds, text) in [(0, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (172_800, "2d")] {
            assert_eq!(span(seconds), text);
        }
    }
}

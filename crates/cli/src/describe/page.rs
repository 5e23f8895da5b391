//! A page for people: names at the left, values in one column, tables below their headings.
//!
//! It refuses to cut anything short, and to leave a name without a value: what is empty reads `-`.

use serde_json::Value;

use crate::output::{Table, plain};

/// Where values begin, whatever is on the page, so that two pages can be compared.
const COLUMN: usize = 22;

/// Lines, as they are added.
#[derive(Default)]
pub(super) struct Page(Vec<String>);

impl Page {
    /// A name and its value.
    pub(super) fn field(&mut self, depth: usize, name: &str, value: &str) {
        let (name, value) = (format!("{}{}:", indent(depth), plain(name)), plain(value));
        // Names can be longer where a manifest has them so; their value moves, and only theirs.
        self.0.push(format!("{name:<width$} {}", if value.is_empty() { "-" } else { &value }, width = COLUMN - 1));
    }

    /// A name and several values below each other.
    pub(super) fn list(&mut self, depth: usize, name: &str, values: &[String]) {
        let (first, rest) = values.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
        self.field(depth, name, first);
        self.0.extend(rest.iter().map(|value| format!("{:COLUMN$}{}", "", plain(value))));
    }

    /// A name with something below it.
    pub(super) fn heading(&mut self, depth: usize, name: &str) {
        self.0.push(format!("{}{}:", indent(depth), plain(name)));
    }

    /// A table.
    pub(super) fn table(&mut self, depth: usize, table: &Table) {
        self.0.extend(table.render().lines().map(|line| format!("{}{line}", indent(depth))));
    }

    /// An empty line.
    pub(super) fn gap(&mut self) {
        self.0.push(String::new());
    }

    /// The members of an object of a manifest, names as people write them; what is empty is left out.
    pub(super) fn members(&mut self, depth: usize, object: &Value) {
        for (key, value) in object.as_object().into_iter().flatten().filter(|(_, value)| !is_empty(value)) {
            let name = title(key);
            match value {
                Value::Object(_) => {
                    self.heading(depth, &name);
                    self.members(depth + 1, value);
                }
                Value::Array(items) if items.iter().any(Value::is_object) => {
                    self.heading(depth, &name);
                    items.iter().for_each(|item| self.item(depth + 1, item));
                }
                Value::Array(items) => self.list(depth, &name, &items.iter().map(text).collect::<Vec<_>>()),
                value => self.field(depth, &name, &text(value)),
            }
        }
    }

    /// One of several objects, under its name.
    fn item(&mut self, depth: usize, item: &Value) {
        let mut rest = item.clone();
        let name = rest.as_object_mut().and_then(|members| members.remove("name"));
        self.heading(depth, &name.as_ref().map_or_else(|| "-".to_string(), text));
        self.members(depth + 1, &rest);
    }

    /// The whole page.
    pub(super) fn text(&self) -> String {
        let lines = self.0.iter().map(|line| line.trim_end());
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn indent(depth: usize) -> String {
    "  ".repeat(depth)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

/// `dnsNames` as people write it: `DNS Names`.
fn title(key: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for letter in key.chars() {
        match words.last_mut() {
            Some(word) if !letter.is_uppercase() || word.chars().all(char::is_uppercase) => word.push(letter),
            _ => words.push(letter.to_string()),
        }
    }
    let word = |word: &String| match word.as_str() {
        "dns" | "ip" | "ca" | "uris" => word.to_uppercase().replace("URIS", "URIs"),
        _ => {
            let mut letters = word.chars();
            letters.next().map(|first| first.to_uppercase().chain(letters).collect::<String>()).unwrap_or_default()
        }
    };
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Page, title};

    #[test]
    fn names_of_fields_read_as_people_write_them() {
        for (key, expected) in [
            ("dnsNames", "DNS Names"),
            ("ipAddresses", "IP Addresses"),
            ("isCA", "Is CA"),
            ("uris", "URIs"),
            ("renewBeforePercentage", "Renew Before Percentage"),
            ("files", "Files"),
        ] {
            assert_eq!(title(key), expected);
        }
    }

    #[test]
    fn what_others_say_neither_steers_the_terminal_nor_begins_a_line() {
        let mut page = Page::default();
        page.field(0, "Message", "\u{1b}[2J\nState: Ready");
        page.list(0, "Names", &["a\u{7}".to_string(), "b\nc".to_string()]);
        page.heading(0, "web\u{9b}1m");
        let expected = [
            r"Message:              \u001b[2J\nState: Ready",
            r"Names:                a\u0007",
            r"                      b\nc",
            r"web\u009b1m:",
        ];
        assert_eq!(page.text(), expected.join("\n"));
    }

    #[test]
    fn values_stand_in_one_column_and_nothing_is_cut() {
        let long = "x".repeat(300);
        let mut page = Page::default();
        page.field(0, "Name", &long);
        page.field(1, "Serial", "");
        page.members(1, &json!({"dnsNames": ["a", "b"], "empty": [], "targets": [{"name": "web", "agent": "one"}]}));
        let expected = [
            &format!("Name:                 {long}")[..],
            "  Serial:             -",
            "  DNS Names:          a",
            "                      b",
            "  Targets:",
            "    web:",
            "      Agent:          one",
        ];
        assert_eq!(page.text(), expected.join("\n"));
    }
}

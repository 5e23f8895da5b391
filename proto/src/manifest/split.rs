//! Where the documents of a manifest begin and end.
//!
//! It refuses to understand YAML: a line that starts with `---` or `...` ends a document wherever it stands, also inside
//! a block scalar (YAML 1.2 section 9.1.2).

/// One document, its marker included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Piece<'a> {
    /// The line it starts on, from 1.
    pub(super) line: usize,
    text: &'a str,
}

impl Piece<'_> {
    /// The document after as many empty lines as stand before it, so that faults name the lines of the manifest.
    pub(super) fn padded(&self) -> String {
        let mut text = "\n".repeat(self.line - 1);
        text.push_str(self.text);
        text
    }

    /// Whether there is anything but comments and markers in it.
    fn says_something(&self) -> bool {
        self.text.lines().any(|line| {
            let line = line.strip_prefix("---").unwrap_or(line).trim();
            !line.is_empty() && !line.starts_with('#') && line != "..."
        })
    }
}

/// The documents that say something.
pub(super) fn documents(text: &str) -> Vec<Piece<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut pieces = Vec::new();
    let mut start = (1, 0);
    let mut at = 0;
    for (line, number) in text.split_inclusive('\n').zip(1..) {
        if is_marker(line, "---") && at > start.1 {
            pieces.push(Piece { line: start.0, text: &text[start.1..at] });
            start = (number, at);
        }
        at += line.len();
        if is_marker(line, "...") {
            pieces.push(Piece { line: start.0, text: &text[start.1..at] });
            start = (number + 1, at);
        }
    }
    pieces.push(Piece { line: start.0, text: &text[start.1..] });
    pieces.retain(Piece::says_something);
    pieces
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_and_their_lines() {
        let table: &[(&str, &[(usize, &str)])] = &[
            ("", &[]),
            ("# only a comment\n---\n---\n# another\n...\n", &[]),
            ("a: 1\n", &[(1, "a: 1\n")]),
            ("---\na: 1\n---\nb: 2", &[(1, "---\na: 1\n"), (3, "---\nb: 2")]),
            ("a: 1\n---\n\n---\nb: 2\n", &[(1, "a: 1\n"), (4, "---\nb: 2\n")]),
            ("a: 1\n...\nb: 2\n", &[(1, "a: 1\n...\n"), (3, "b: 2\n")]),
            ("a: 1\r\n---\r\nb: 2\r\n", &[(1, "a: 1\r\n"), (2, "---\r\nb: 2\r\n")]),
            ("a: ---\n--- b\n----\n", &[(1, "a: ---\n"), (2, "--- b\n----\n")]),
            ("\u{feff}a: 1", &[(1, "a: 1")]),
        ];
        for (text, expected) in table {
            let found: Vec<_> = documents(text).iter().map(|piece| (piece.line, piece.text)).collect();
            assert_eq!(&found[..], *expected, "{text:?}");
        }
    }

    #[test]
    fn padding_keeps_line_numbers() {
        let pieces = documents("a: 1\n---\nb: 2\n");
        assert_eq!(pieces[1].padded(), "\n---\nb: 2\n");
    }
}

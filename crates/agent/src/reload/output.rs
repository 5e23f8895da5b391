//! What may be told of a command's output: its last lines, without anything that could be a key.
//!
//! It refuses to tell a key from other long runs of base64 or hex: all of them are withheld.

/// Characters in a row, of those that base64 and hex use, from which a run is withheld. A line of PEM has 64; a UUID 36.
const RUN_MIN: usize = 40;
/// Characters of output that are told.
const TOLD_MAX: usize = 300;

/// One line for people: the end of the output, key material and control characters withheld.
pub fn presentable(output: &str) -> String {
    if output.contains("PRIVATE KEY") {
        return "(output withheld: it names a private key)".to_string();
    }
    let clean: String = output.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let words: Vec<String> = clean.split_whitespace().map(withhold).collect();
    let text = words.join(" ");
    let skip = text.chars().count().saturating_sub(TOLD_MAX);
    text.chars().skip(skip).collect()
}

/// Replaces long runs of base64 or hex inside a word. Paths are full of `/`: only runs that are no path are withheld.
fn withhold(word: &str) -> String {
    let encoded = |c: char| c.is_ascii_alphanumeric() || "+/=_-:".contains(c);
    let longest = word.split(|c| !encoded(c)).map(str::len).max().unwrap_or(0);
    let is_path = word.trim_start_matches(['"', '\'', '(']).starts_with('/') && !word.contains(['+', '=']);
    if longest >= RUN_MIN && !is_path { "[withheld]".to_string() } else { word.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_told_and_keys_are_not() {
        let key = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg0f8aQ2xv0f8aQ2xv";
        for (output, told) in [
            ("nginx: [emerg] bad\nconfiguration", "nginx: [emerg] bad configuration".to_string()),
            (key, "[withheld]".to_string()),
            ("see /etc/nginx/sites-enabled/a-very-long-name-of-a-site.conf:12", {
                "see /etc/nginx/sites-enabled/a-very-long-name-of-a-site.conf:12".to_string()
            }),
            ("-----BEGIN PRIVATE KEY-----\nMIG\n", "(output withheld: it names a private key)".to_string()),
            ("a\u{1b}[31mred", "a [31mred".to_string()),
        ] {
            assert_eq!(presentable(output), told);
        }
    }

    #[test]
    fn only_the_end_of_long_output_is_told() {
        let output = format!("{}last words", "line\n".repeat(10_000));
        let told = presentable(&output);
        assert_eq!(told.chars().count(), TOLD_MAX);
        assert!(told.ends_with("last words"));
    }
}

//! What is wrong with a command line that the parser refused, in one line; shared by both programs.
//!
//! It refuses to lose what the parser found: missing arguments and possible values are part of the cause.

use clap::error::ErrorKind;

/// The cause in one line. Where the command is not complete, its help goes to standard error first: there is nothing
/// better to say.
pub fn cause(error: &clap::Error) -> String {
    let text = error.to_string();
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        eprintln!("{}\n", text.trim_end());
        return "the command is not complete: one of those above is missing".to_string();
    }
    one_line(&text)
}

/// The parser's text up to its usage: the sentence, then what it lists.
fn one_line(text: &str) -> String {
    let about = |line: &&str| !line.starts_with("Usage:") && !line.starts_with("For more information");
    let mut lines = text.lines().take_while(about).map(str::trim).filter(|line| !line.is_empty());
    let sentence = lines.next().unwrap_or_default().trim_start_matches("error: ");
    let listed: Vec<&str> = lines.collect();
    format!("{sentence} {}", listed.join(", ")).trim_end().to_string()
}

#[cfg(test)]
mod tests {
    use super::cause;
    use clap::{Arg, Command};

    /// What a command with two required arguments says to these words.
    fn said(words: &[&str]) -> String {
        let arg = |name: &'static str| Arg::new(name).long(name).required(true).value_name("FILE");
        let command = Command::new("x").args([arg("in"), arg("out").value_parser(["a", "b"])]);
        cause(&command.try_get_matches_from(words).expect_err("the words are refused"))
    }

    #[test]
    fn what_is_missing_and_what_is_possible_is_said_in_one_line() {
        let missing = said(&["x"]);
        assert_eq!(missing, "the following required arguments were not provided: --in <FILE>, --out <FILE>");
        let invalid = said(&["x", "--in", "i", "--out", "c"]);
        assert_eq!(invalid, "invalid value 'c' for '--out <FILE>' [possible values: a, b]");
    }
}

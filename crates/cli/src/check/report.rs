//! What checks found, for people, programs and build servers.
//!
//! It refuses colours; what others said is written out as everywhere.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Check, Level};
use crate::args::Format;
use crate::failure::Failure;
use crate::output::{self, plain};

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    const fn sign(self) -> char {
        match self {
            Self::Good => '√',
            Self::Warn => '‼',
            Self::Error => '×',
        }
    }
}

/// Prints them all; `bad` is the level from which on a check has failed.
pub(super) fn print(format: Format, checks: &[Check], bad: Level) -> Result<(), Failure> {
    match format {
        Format::Json | Format::Yaml => output::value(format, &value(checks, bad)),
        Format::Junit => output::line(junit(checks, bad).trim_end()),
        Format::Name => checks.iter().try_for_each(|check| output::line(check.name)),
        Format::Table | Format::Wide => checks.iter().try_for_each(|check| {
            output::line(&format!("{} {:<25} {}", check.level.sign(), check.name, plain(&check.detail)))?;
            if check.hint.is_empty() { Ok(()) } else { output::line(&format!("    {}", plain(&check.hint))) }
        }),
    }
}

fn value(checks: &[Check], bad: Level) -> Value {
    let all: Vec<Value> = checks
        .iter()
        .map(|check| json!({"name": check.name, "level": check.level.name(), "detail": check.detail, "hint": check.hint}))
        .collect();
    let passed = checks.iter().all(|check| check.level < bad);
    let worst = checks.iter().map(|check| check.level).max().unwrap_or(Level::Good);
    json!({"passed": passed, "worst": worst.name(), "checks": all})
}

/// JUnit's XML as build servers read it: a finding below `bad` is the output of a test that passed.
fn junit(checks: &[Check], bad: Level) -> String {
    let failures = checks.iter().filter(|check| check.level >= bad).count();
    let mut text =
        format!("<testsuite name=\"certwright check\" tests=\"{}\" failures=\"{failures}\">\n", checks.len());
    for check in checks {
        let body = match check.level {
            Level::Good => String::new(),
            level if level >= bad => {
                let (kind, detail, hint) = (level.name(), xml(&check.detail), xml(&check.hint));
                format!("<failure type=\"{kind}\" message=\"{detail}\">{hint}</failure>")
            }
            _ => format!("<system-out>{}; {}</system-out>", xml(&check.detail), xml(&check.hint)),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  <testcase classname=\"certwright\" name=\"{}\">{body}</testcase>", check.name);
    }
    text + "</testsuite>\n"
}

fn xml(text: &str) -> String {
    let escaped = plain(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    escaped.replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(level: Level, text: &str) -> Check {
        Check::new("cluster/x", "fine".to_string(), vec![(level, text.to_string())], "look")
    }

    #[test]
    fn junit_counts_what_is_at_least_as_bad_as_asked() {
        let good = Check::new("cluster/leader", "fine".to_string(), vec![], "");
        let checks = [good, found(Level::Warn, "a<\"b\"&"), found(Level::Error, "c")];
        let strict = junit(&checks, Level::Warn);
        assert!(strict.starts_with("<testsuite name=\"certwright check\" tests=\"3\" failures=\"2\">\n"), "{strict}");
        assert!(
            strict.contains("<failure type=\"warn\" message=\"a&lt;&quot;b&quot;&amp;\">look</failure>"),
            "{strict}"
        );
        let usual = junit(&checks, Level::Error);
        assert!(usual.contains("failures=\"1\"") && usual.contains("<system-out>a&lt;"), "{usual}");
        assert!(usual.contains("name=\"cluster/leader\"></testcase>"), "{usual}");
    }

    #[test]
    fn the_worst_is_named_first_and_the_rest_counted() {
        let many = (0..7).map(|number| (Level::Warn, format!("w{number}"))).chain([(Level::Error, "e".to_string())]);
        let check = Check::new("cluster/x", String::new(), many.collect(), "look");
        assert_eq!((check.level, &*check.detail), (Level::Error, "e; w0; w1; w2; w3; and 3 more"));
        let value = value(&[check], Level::Error);
        assert_eq!((&value["passed"], &value["worst"]), (&json!(false), &json!("error")));
    }
}

//! Arguments of the verbs that read: what is, and what was.
//!
//! It refuses arguments of verbs that change anything.

use certwright_proto::v1::get_certificate_request::AsOf;
use clap::Args;

use super::Kind;

/// `get`
#[derive(Args)]
pub struct GetArgs {
    /// What to list
    #[arg(value_enum)]
    pub kind: Kind,
    /// One object's name
    pub name: Option<String>,
    /// A certificate as it was: after an entry of the log, or at a moment
    #[arg(long, value_name = "INDEX|TIME", requires = "name", value_parser = as_of)]
    pub as_of: Option<AsOf>,
    /// Every namespace
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Terms that must hold: issuer=, agent=, ready=, label.KEY=, expires_before=
    #[arg(long, value_name = "TERMS", default_value = "")]
    pub filter: String,
}

impl GetArgs {
    /// Every object of a kind that knows no namespaces.
    pub fn all(kind: Kind) -> Self {
        Self { kind, name: None, as_of: None, all_namespaces: false, filter: String::new() }
    }
}

/// `describe`
#[derive(Args)]
pub struct DescribeArgs {
    /// Its kind
    #[arg(value_enum)]
    pub kind: Kind,
    /// Its name
    pub name: String,
    /// A certificate as it was: after an entry of the log, or at a moment
    #[arg(long, value_name = "INDEX|TIME", value_parser = as_of)]
    pub as_of: Option<AsOf>,
}

/// `events`
#[derive(Args)]
pub struct EventsArgs {
    /// First log index
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub from: u64,
    /// Last log index
    #[arg(long, value_name = "M")]
    pub to: Option<u64>,
    /// Go on with what comes
    #[arg(short = 'f', long)]
    pub follow: bool,
    /// Only streams that start so
    #[arg(long, value_name = "PREFIX", default_value = "")]
    pub stream: String,
    /// Print each event as a CloudEvents 1.0 JSON object, a line each
    #[arg(long)]
    pub cloudevents: bool,
}

/// `history`
#[derive(Args)]
pub struct HistoryArgs {
    /// The certificate
    pub name: String,
    /// What its specification says at log index B that it did not say at A
    #[arg(long, num_args = 2, value_names = ["A", "B"])]
    pub diff: Option<Vec<u64>>,
}

/// An index of the log, or a moment as RFC 3339 writes it.
fn as_of(text: &str) -> Result<AsOf, String> {
    if let Ok(index) = text.parse() {
        return Ok(AsOf::Index(index));
    }
    let unknown = |_| format!("{text:?} is neither an index of the log nor a moment such as 2026-11-22T08:00:00Z");
    text.parse().map(AsOf::Time).map_err(unknown)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_says_when() {
        assert_eq!(as_of("0"), Ok(AsOf::Index(0)));
        assert_eq!(as_of("1204"), Ok(AsOf::Index(1204)));
        let moment = |seconds| Ok(AsOf::Time(prost_types::Timestamp { seconds, nanos: 0 }));
        assert_eq!(as_of("2026-11-22T08:00:00Z"), moment(1_795_334_400));
        assert_eq!(as_of("2026-11-22T09:00:00+01:00"), moment(1_795_334_400));
        for text in ["", "yesterday", "-3", "1.5", "2026-13-01T00:00:00Z", "18446744073709551616"] {
            as_of(text).unwrap_err();
        }
    }
}

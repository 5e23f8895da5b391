//! Filters of certificate lists: space-separated terms that must all hold.
//!
//! It refuses a query language: five terms, each answered from state.

use certwright_core::ids::{AgentName, IssuerName};
use certwright_core::state::Certificate;
use certwright_core::time::Timestamp;
use certwright_core::{Reason, Rejection};
use certwright_proto::api::readiness::is_ready;

use crate::limits::FILTER_OCTETS_MAX;

/// A parsed filter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Filter {
    issuer: Option<IssuerName>,
    agent: Option<AgentName>,
    ready: Option<bool>,
    labels: Vec<(String, String)>,
    expires_before: Option<Timestamp>,
}

impl Filter {
    /// Parses the terms; rejects what it does not know, naming the term.
    pub(crate) fn parse(text: &str) -> Result<Self, Rejection> {
        if text.len() > FILTER_OCTETS_MAX {
            return Err(invalid(format!("a filter has at most {FILTER_OCTETS_MAX} octets")));
        }
        let mut filter = Self::default();
        for term in text.split_whitespace() {
            filter.add(term)?;
        }
        Ok(filter)
    }

    fn add(&mut self, term: &str) -> Result<(), Rejection> {
        let unknown = || {
            invalid(format!(
                "{term:?} is not one of issuer=, agent=, ready=true|false, label.KEY=, expires_before=RFC3339"
            ))
        };
        let (key, value) = term.split_once('=').ok_or_else(unknown)?;
        match key {
            "issuer" => self.issuer = Some(IssuerName::parse(value)?),
            "agent" => self.agent = Some(AgentName::parse(value)?),
            "ready" => self.ready = Some(value.parse().map_err(|_| unknown())?),
            "expires_before" => self.expires_before = Some(moment(value).ok_or_else(unknown)?),
            _ => match key.strip_prefix("label.") {
                Some(label) if !label.is_empty() => self.labels.push((label.to_owned(), value.to_owned())),
                _ => return Err(unknown()),
            },
        }
        Ok(())
    }

    /// Whether a certificate passes, as of log time `now`.
    pub(crate) fn matches(&self, certificate: &Certificate, now: Timestamp) -> bool {
        let spec = certificate.spec();
        let expires = |before: Timestamp| {
            certificate.instances.iter().filter_map(|it| it.current.as_ref()).any(|it| it.not_after < before)
        };
        self.issuer.as_ref().is_none_or(|issuer| *issuer == spec.issuer)
            && self.agent.as_ref().is_none_or(|agent| certificate.instance_of(agent).is_some())
            && self.labels.iter().all(|(key, value)| spec.labels.get(key) == Some(value))
            && self.expires_before.is_none_or(expires)
            && self.ready.is_none_or(|ready| is_ready(certificate, now) == ready)
    }
}

fn moment(text: &str) -> Option<Timestamp> {
    let stamp: prost_types::Timestamp = text.parse().ok()?;
    Some(Timestamp::from_millis(u64::try_from(stamp.seconds).ok()? * 1000 + stamp.nanos as u64 / 1_000_000))
}

fn invalid(why: String) -> Rejection {
    Rejection::field(Reason::InvalidSpec, "filter", why)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn terms_are_understood() {
        let filter =
            Filter::parse("issuer=demo agent=agent-1 ready=true label.team=web expires_before=2026-11-22T00:00:00Z");
        let filter = filter.unwrap();
        assert_eq!(filter.issuer, Some(IssuerName::parse("demo").unwrap()));
        assert_eq!(filter.agent, Some(AgentName::parse("agent-1").unwrap()));
        assert_eq!(filter.ready, Some(true));
        assert_eq!(filter.labels, [("team".to_owned(), "web".to_owned())]);
        assert_eq!(filter.expires_before, Some(Timestamp::from_seconds(1_795_305_600)));
        assert_eq!(Filter::parse("  ").unwrap(), Filter::default());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let long = format!("issuer={}", "a".repeat(FILTER_OCTETS_MAX - 6));
        for text in ["ready", "ready=maybe", "label.=x", "color=red", "expires_before=soon", "issuer=Not_a_name", &long]
        {
            assert!(Filter::parse(text).is_err(), "{text}");
        }
    }
}

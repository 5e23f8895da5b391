//! What is wrong with a specification.
//!
//! It refuses to repair: a field is right as it stands, or it is named in the rejection.

mod estate;
mod targets;

use std::time::Duration;

use super::{CertificateSpec, Dialect, PackedSpec, Subject};
use crate::ids::ObjectName;
use crate::limits;
use crate::rejection::{Reason, Rejection};
use crate::x509::names::{self, NameError};

pub use estate::validate_labels;
pub use targets::STANDARD_FILES;

fn invalid(field: impl Into<String>, message: impl Into<String>) -> Rejection {
    Rejection::field(Reason::InvalidSpec, field, message)
}

fn unsupported(field: impl Into<String>, what: &str) -> Rejection {
    Rejection::field(Reason::NotYetSupported, field, format!("{what} is not supported yet"))
}

/// Rejects a list longer than its bound.
fn at_most(field: &str, len: usize, max: usize) -> Result<(), Rejection> {
    if len > max {
        return Err(invalid(field, format!("has {len} values, at most {max} are allowed")));
    }
    Ok(())
}

impl CertificateSpec {
    /// Checks every rule that needs nothing but the specification itself. Rejects with INVALID_SPEC, NOT_YET_SUPPORTED
    /// or, for the whole, TOO_LARGE.
    pub fn validate(&self) -> Result<(), Rejection> {
        let octets = PackedSpec::pack(self).octets();
        if octets > limits::SPEC_OCTETS_MAX {
            let max = limits::SPEC_OCTETS_MAX;
            return Err(Rejection::field(Reason::TooLarge, "spec", format!("takes {octets} octets, at most {max}")));
        }
        self.validate_names()?;
        validate_subject(&self.subject)?;
        self.validate_times()?;
        self.validate_details()?;
        targets::validate(&self.targets)?;
        validate_labels("metadata.labels", &self.labels)
    }

    fn validate_names(&self) -> Result<(), Rejection> {
        let alternatives =
            self.dns_names.len() + self.ip_addresses.len() + self.uris.len() + self.email_addresses.len();
        at_most("spec.dnsNames", alternatives, limits::NAMES_MAX)?;
        if alternatives == 0 && self.common_name.is_none() {
            return Err(invalid(
                "spec.dnsNames",
                "at least one of commonName, dnsNames, ipAddresses, uris and emailAddresses is required",
            ));
        }
        let one = |field: &str, result: Result<(), NameError>| result.map_err(|e| invalid(field, e.to_string()));
        if let Some(name) = &self.common_name {
            one("spec.commonName", names::check_common_name(name))?;
        }
        for (i, name) in self.dns_names.iter().enumerate() {
            one(&format!("spec.dnsNames[{i}]"), names::check_dns(name))?;
        }
        for (i, address) in self.ip_addresses.iter().enumerate() {
            one(&format!("spec.ipAddresses[{i}]"), names::check_ip(address))?;
        }
        for (i, uri) in self.uris.iter().enumerate() {
            one(&format!("spec.uris[{i}]"), names::check_uri(uri))?;
        }
        for (i, address) in self.email_addresses.iter().enumerate() {
            one(&format!("spec.emailAddresses[{i}]"), names::check_email(address))?;
        }
        Ok(())
    }

    fn validate_times(&self) -> Result<(), Rejection> {
        let (duration_min, before_min) = match self.dialect {
            Dialect::Certwright => (limits::DURATION_MIN, Duration::from_millis(1)),
            Dialect::CertManager => (limits::CERT_MANAGER_DURATION_MIN, limits::CERT_MANAGER_RENEW_BEFORE_MIN),
        };
        let duration = self.effective_duration();
        validate_duration("spec.duration", duration, duration_min)?;
        match (self.renew_before, self.renew_before_percentage) {
            (Some(_), Some(_)) => {
                Err(invalid("spec.renewBeforePercentage", "excludes renewBefore; give one of the two"))
            }
            (Some(before), None) if before < before_min => {
                Err(invalid("spec.renewBefore", format!("is {before:?}, at least {before_min:?} is required")))
            }
            (Some(before), None) if before >= duration => {
                Err(invalid("spec.renewBefore", format!("is {before:?}, it must be less than duration {duration:?}")))
            }
            (None, Some(percentage)) => self.validate_percentage(percentage, before_min),
            _ => Ok(()),
        }
    }

    fn validate_percentage(&self, percentage: u8, before_min: Duration) -> Result<(), Rejection> {
        let field = "spec.renewBeforePercentage";
        if !(1..=99).contains(&percentage) {
            return Err(invalid(field, format!("is {percentage}, 1 to 99 is required")));
        }
        // cert-manager's webhook looks at the other side of the percentage, and only when a duration is given; its
        // documents are judged as it judges them.
        let Some(duration) = self.duration.filter(|_| self.dialect == Dialect::CertManager) else {
            return Ok(());
        };
        let judged = duration * u32::from(100 - percentage) / 100;
        if judged < before_min {
            return Err(invalid(field, format!("leaves {judged:?}, at least {before_min:?} is required")));
        }
        Ok(())
    }

    fn validate_details(&self) -> Result<(), Rejection> {
        if self.revision_history_limit == Some(0) {
            return Err(invalid("spec.revisionHistoryLimit", "is 0, at least 1 is required"));
        }
        match (&self.secret_name, self.dialect) {
            (Some(_), Dialect::Certwright) => Err(unsupported("spec.secretName", "a Secret")),
            (None, Dialect::CertManager) => Err(invalid("spec.secretName", "is required")),
            (Some(name), Dialect::CertManager) => {
                ObjectName::parse(name).map(|_| ()).map_err(|e| invalid("spec.secretName", e.message))
            }
            (None, Dialect::Certwright) => Ok(()),
        }
    }
}

fn validate_duration(field: &str, duration: Duration, min: Duration) -> Result<(), Rejection> {
    if duration < min {
        return Err(invalid(field, format!("is {duration:?}, at least {min:?} is required")));
    }
    if duration > limits::DURATION_MAX {
        return Err(invalid(field, format!("is {duration:?}, at most {:?} is allowed", limits::DURATION_MAX)));
    }
    Ok(())
}

/// Upper bounds of RFC 5280 appendix A.1; countries are two letters (ISO 3166).
fn validate_subject(subject: &Subject) -> Result<(), Rejection> {
    let lists = [
        ("organizations", &subject.organizations, 64),
        ("organizationalUnits", &subject.organizational_units, 64),
        ("countries", &subject.countries, 2),
        ("localities", &subject.localities, 128),
        ("provinces", &subject.provinces, 128),
        ("streetAddresses", &subject.street_addresses, 128),
        ("postalCodes", &subject.postal_codes, 40),
    ];
    for (name, values, max) in lists {
        let field = format!("spec.subject.{name}");
        at_most(&field, values.len(), limits::VALUES_MAX)?;
        values.iter().enumerate().try_for_each(|(i, value)| attribute(&format!("{field}[{i}]"), value, max))?;
    }
    if let Some(i) = subject.countries.iter().position(|c| c.len() != 2 || !c.bytes().all(|b| b.is_ascii_uppercase())) {
        return Err(invalid(format!("spec.subject.countries[{i}]"), "must be two upper-case letters (ISO 3166)"));
    }
    subject.serial_number.iter().try_for_each(|value| attribute("spec.subject.serialNumber", value, 64))
}

fn attribute(field: &str, value: &str, characters_max: usize) -> Result<(), Rejection> {
    let characters = value.chars().count();
    if characters == 0 || characters > characters_max {
        return Err(invalid(field, format!("has {characters} characters, 1 to {characters_max} are required")));
    }
    if value.chars().any(char::is_control) {
        return Err(invalid(field, "contains a control character"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;

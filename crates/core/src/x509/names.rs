//! The names a certificate may carry and the rules that each kind follows, the same for manifests and requests.
//!
//! It refuses repair: a wrong name is an error with its cause; only case and repetition of DNS names are evened out.

use std::net::IpAddr;

use crate::limits::{COMMON_NAME_OCTETS_MAX, DNS_NAME_OCTETS_MAX, NAMES_MAX, URI_OCTETS_MAX};

/// Why a name is refused, as the end of a sentence that begins with the name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{name:?} {cause}")]
pub struct NameError {
    /// The name, cut to 80 characters.
    pub name: String,
    /// What is wrong with it.
    pub cause: &'static str,
}

fn refuse<T>(name: &str, cause: &'static str) -> Result<T, NameError> {
    Err(NameError { name: name.chars().take(80).collect(), cause })
}

/// Names of all kinds of one certificate.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Names {
    /// Subject common name.
    pub common_name: Option<String>,
    /// DNS names, in lower case.
    pub dns_names: Vec<String>,
    /// IP addresses.
    pub ip_addresses: Vec<IpAddr>,
    /// URIs.
    pub uris: Vec<String>,
    /// E-mail addresses.
    pub email_addresses: Vec<String>,
}

impl Names {
    /// How many subject alternative names there are.
    pub fn alternatives(&self) -> usize {
        self.dns_names.len() + self.ip_addresses.len() + self.uris.len() + self.email_addresses.len()
    }

    /// The first subject alternative name there is, as text.
    pub fn first_alternative(&self) -> Option<String> {
        let first = self.dns_names.first().or(self.uris.first()).or(self.email_addresses.first()).cloned();
        first.or_else(|| self.ip_addresses.first().map(ToString::to_string))
    }

    /// The same names, DNS names in lower case (they compare so, RFC 4343), each once, in their first order.
    #[must_use]
    pub fn normalized(mut self) -> Self {
        self.dns_names.iter_mut().for_each(|name| name.make_ascii_lowercase());
        keep_first(&mut self.dns_names);
        keep_first(&mut self.ip_addresses);
        keep_first(&mut self.uris);
        keep_first(&mut self.email_addresses);
        self
    }

    /// Checks every name and their number (at most `NAMES_MAX` alternatives).
    pub fn check(&self) -> Result<(), NameError> {
        if self.alternatives() > NAMES_MAX {
            return refuse("", "is one name of more than 100, which is what one certificate may carry");
        }
        self.common_name.iter().try_for_each(|name| check_common_name(name))?;
        self.dns_names.iter().try_for_each(|name| check_dns(name))?;
        self.ip_addresses.iter().try_for_each(check_ip)?;
        self.uris.iter().try_for_each(|name| check_uri(name))?;
        self.email_addresses.iter().try_for_each(|name| check_email(name))
    }
}

fn keep_first<T: Ord + Clone>(names: &mut Vec<T>) {
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
}

/// Checks a DNS name: letters, digits and hyphens in labels of 1 to 63 (RFC 1034 section 3.5), at most 253 octets,
/// no trailing dot, no address in disguise; a wildcard only as the whole first label and above at least two labels,
/// because OpenSSL and browsers match no wider one (RFC 6125 section 6.4.3).
pub fn check_dns(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return refuse(name, "is empty");
    }
    if name.len() > DNS_NAME_OCTETS_MAX {
        return refuse(name, "is longer than 253 octets");
    }
    if name.bytes().any(|octet| octet == 0) {
        return refuse(name, "contains NUL");
    }
    if name.ends_with('.') {
        return refuse(name, "ends with a dot");
    }
    if name.parse::<IpAddr>().is_ok() {
        return refuse(name, "is an IP address, which belongs to the IP addresses");
    }
    let base = name.strip_prefix("*.");
    for label in base.unwrap_or(name).split('.') {
        check_label(name, label)?;
    }
    if base.is_some_and(|base| !base.contains('.')) {
        return refuse(name, "is a wildcard directly below a top-level domain, which no client matches");
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    if last.bytes().all(|octet| octet.is_ascii_digit()) {
        return refuse(name, "ends in a number, as an IP address would");
    }
    Ok(())
}

fn check_label(name: &str, label: &str) -> Result<(), NameError> {
    if label.is_empty() {
        return refuse(name, "has an empty label");
    }
    if label.len() > 63 {
        return refuse(name, "has a label of more than 63 octets");
    }
    if label.contains('*') {
        return refuse(name, "has a wildcard that is not the whole first label");
    }
    if !label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-') {
        return refuse(name, "has a character other than letters, digits, hyphens and dots");
    }
    if label.starts_with('-') || label.ends_with('-') {
        return refuse(name, "has a label that starts or ends with a hyphen");
    }
    Ok(())
}

/// Checks an IP address: one that a host can have, so neither unspecified nor multicast nor broadcast.
pub fn check_ip(address: &IpAddr) -> Result<(), NameError> {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    if address.is_unspecified() || address.is_multicast() || broadcast {
        return refuse(&address.to_string(), "is not the address of one host");
    }
    Ok(())
}

/// Checks a URI: absolute, of the characters of RFC 3986, with something after its scheme (RFC 5280 section 4.2.1.6),
/// its host a DNS name or an address where it has one, at most 2,048 octets.
pub fn check_uri(uri: &str) -> Result<(), NameError> {
    if uri.len() > URI_OCTETS_MAX {
        return refuse(uri, "is longer than 2048 octets");
    }
    let Some((scheme, rest)) = uri.split_once(':') else {
        return refuse(uri, "is no absolute URI: it has no scheme");
    };
    let scheme_octet = |octet: u8| octet.is_ascii_alphanumeric() || b"+-.".contains(&octet);
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.bytes().all(scheme_octet) {
        return refuse(uri, "is no absolute URI: its scheme is malformed");
    }
    if rest.is_empty() || rest == "//" {
        return refuse(uri, "has nothing after its scheme");
    }
    if !rest.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&octet)) {
        return refuse(uri, "has a character that a URI may not contain");
    }
    let escapes = rest.split('%').skip(1);
    if !escapes.clone().all(|tail| tail.len() >= 2 && tail.bytes().take(2).all(|octet| octet.is_ascii_hexdigit())) {
        return refuse(uri, "has a '%' without two hexadecimal digits");
    }
    match rest.strip_prefix("//") {
        Some(authority) => check_authority(uri, authority),
        None => Ok(()),
    }
}

fn check_authority(uri: &str, after: &str) -> Result<(), NameError> {
    let Some(host) = uri_host(after) else {
        return refuse(uri, "has a malformed host");
    };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    if address || (!host.starts_with('*') && check_dns(host).is_ok()) {
        return Ok(());
    }
    refuse(uri, "has a host that is neither a DNS name nor an address")
}

/// The host of a URI from behind its `//`, brackets of an IPv6 address included.
pub(crate) fn uri_host(after: &str) -> Option<&str> {
    let authority = after.split(['/', '?', '#']).next()?;
    let host_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if host_port.starts_with('[') {
        let end = host_port.find(']')?;
        return Some(&host_port[..=end]);
    }
    Some(host_port.split_once(':').map_or(host_port, |(host, _)| host))
}

/// Checks an e-mail address: a dot-atom of at most 64 octets, `@`, a DNS name (RFC 5280 section 4.2.1.6, RFC 5321).
pub fn check_email(address: &str) -> Result<(), NameError> {
    let Some((local, domain)) = address.rsplit_once('@') else {
        return refuse(address, "is no e-mail address: it has no '@'");
    };
    if local.len() > 64 {
        return refuse(address, "has more than 64 octets before its '@'");
    }
    let atom = |octet: u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&octet);
    if local.split('.').any(|part| part.is_empty() || !part.bytes().all(atom)) {
        return refuse(address, "has a malformed part before its '@'");
    }
    if domain.starts_with('*') || check_dns(domain).is_err() {
        return refuse(address, "has no DNS name behind its '@'");
    }
    Ok(())
}

/// Checks a common name: 1 to 64 octets (RFC 5280 appendix A.1), no control characters, no blank edges.
pub fn check_common_name(name: &str) -> Result<(), NameError> {
    check_attribute(name, COMMON_NAME_OCTETS_MAX)
}

/// Checks a subject attribute: 1 to `octets_max` octets, no control characters, no blank edges.
pub fn check_attribute(value: &str, octets_max: usize) -> Result<(), NameError> {
    if value.is_empty() {
        return refuse(value, "is empty");
    }
    if value.len() > octets_max {
        return refuse(value, "is longer than its kind may be");
    }
    if value.chars().any(char::is_control) {
        return refuse(value, "contains a control character");
    }
    if value.trim() != value {
        return refuse(value, "starts or ends with a blank");
    }
    Ok(())
}

#[cfg(test)]
mod tests;

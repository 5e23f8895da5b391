//! Name constraints (RFC 5280 section 4.2.1.10): which names a CA may certify at all.
//!
//! It refuses kinds of constraints that it cannot check, instead of passing them over.

use std::net::IpAddr;

use x509_parser::certificate::TbsCertificate;
use x509_parser::extensions::GeneralName;

use super::names::{Names, uri_host};

/// Subtrees that are permitted (if any of a kind is) and excluded.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NameConstraints {
    permitted: Vec<Subtree>,
    excluded: Vec<Subtree>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Subtree {
    Dns(String),
    Email(String),
    Uri(String),
    Ip(Vec<u8>),
}

/// One name under test.
enum Name<'a> {
    Dns(&'a str),
    Email(&'a str),
    Uri(&'a str),
    Ip(&'a IpAddr),
}

impl NameConstraints {
    /// Those of a certificate; an error says which one cannot be checked.
    pub(crate) fn of(certificate: &TbsCertificate<'_>) -> Result<Self, String> {
        let Some(extension) = certificate.name_constraints().map_err(|error| error.to_string())? else {
            return Ok(Self::default());
        };
        let read = |trees: &Option<Vec<x509_parser::extensions::GeneralSubtree<'_>>>| {
            trees.iter().flatten().map(|tree| Subtree::of(&tree.base)).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            permitted: read(&extension.value.permitted_subtrees)?,
            excluded: read(&extension.value.excluded_subtrees)?,
        })
    }

    /// The first name that the constraints do not allow.
    pub fn violated_by(&self, names: &Names) -> Option<String> {
        let dns = names.dns_names.iter().map(|name| (Name::Dns(name), name.clone()));
        let email = names.email_addresses.iter().map(|name| (Name::Email(name), name.clone()));
        let uri = names.uris.iter().map(|name| (Name::Uri(name), name.clone()));
        let ip = names.ip_addresses.iter().map(|address| (Name::Ip(address), address.to_string()));
        dns.chain(email).chain(uri).chain(ip).find(|(name, _)| !self.allow(name)).map(|(_, text)| text)
    }

    fn allow(&self, name: &Name<'_>) -> bool {
        if self.excluded.iter().any(|tree| tree.holds(name) == Some(true) || tree.touched_by(name)) {
            return false;
        }
        let mut of_kind = self.permitted.iter().filter_map(|tree| tree.holds(name)).peekable();
        of_kind.peek().is_none() || of_kind.any(|holds| holds)
    }
}

impl Subtree {
    fn of(base: &GeneralName<'_>) -> Result<Self, String> {
        match base {
            GeneralName::DNSName(name) => Ok(Self::Dns(name.trim_start_matches('.').to_ascii_lowercase())),
            GeneralName::RFC822Name(name) => Ok(Self::Email(name.to_ascii_lowercase())),
            GeneralName::URI(name) => Ok(Self::Uri(name.to_ascii_lowercase())),
            GeneralName::IPAddress(range) if range.len() == 8 || range.len() == 32 => Ok(Self::Ip(range.to_vec())),
            _ => Err("a name constraint of a kind that cannot be checked".to_owned()),
        }
    }

    /// Whether the name is inside; `None` when it is of another kind.
    fn holds(&self, name: &Name<'_>) -> Option<bool> {
        match (self, name) {
            (Self::Dns(base), Name::Dns(name)) => Some(dns_within(name.trim_start_matches("*."), base)),
            (Self::Email(base), Name::Email(address)) => Some(email_within(&address.to_ascii_lowercase(), base)),
            (Self::Uri(base), Name::Uri(uri)) => Some(uri_within(uri, base)),
            (Self::Ip(range), Name::Ip(address)) => Some(ip_within(address, range)),
            _ => None,
        }
    }

    /// Whether a wildcard stands for a name inside, although its own base is outside.
    fn touched_by(&self, name: &Name<'_>) -> bool {
        let (Self::Dns(base), Name::Dns(name)) = (self, name) else {
            return false;
        };
        let parent = base.split_once('.').map(|(_, parent)| parent);
        name.strip_prefix("*.").is_some_and(|covered| parent == Some(covered.to_ascii_lowercase().as_str()))
    }
}

/// Zero or more labels added on the left.
fn dns_within(name: &str, base: &str) -> bool {
    let name = name.to_ascii_lowercase();
    base.is_empty() || name == base || name.strip_suffix(base).is_some_and(|left| left.ends_with('.'))
}

/// A mailbox, a host, or with a leading dot any host below.
fn email_within(address: &str, base: &str) -> bool {
    let Some((_, host)) = address.rsplit_once('@') else {
        return false;
    };
    if base.contains('@') { address == base } else { host_within(host, base) }
}

/// A host, or with a leading dot any host below; a URI without host is inside none.
fn uri_within(uri: &str, base: &str) -> bool {
    let host = uri.split_once("://").and_then(|(_, after)| uri_host(after));
    host.is_some_and(|host| host_within(&host.to_ascii_lowercase(), base))
}

fn host_within(host: &str, base: &str) -> bool {
    if base.starts_with('.') { host.len() > base.len() && host.ends_with(base) } else { host == base }
}

/// An address under a mask; one of the other family is outside.
fn ip_within(address: &IpAddr, range: &[u8]) -> bool {
    let octets = match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let (base, mask) = range.split_at(range.len() / 2);
    octets.len() == base.len()
        && octets.iter().zip(base).zip(mask).all(|((octet, base), mask)| octet & mask == base & mask)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn constraints() -> NameConstraints {
        NameConstraints {
            permitted: vec![Subtree::Dns("example.com".into()), Subtree::Ip(vec![10, 0, 0, 0, 255, 0, 0, 0])],
            excluded: vec![Subtree::Dns("bad.example.com".into()), Subtree::Email("example.com".into())],
        }
    }

    #[test]
    fn names_in_and_out_of_the_subtrees() {
        let dns = |name: &str| Names { dns_names: vec![name.into()], ..Names::default() };
        let ip = |text: &str| Names { ip_addresses: vec![text.parse().unwrap()], ..Names::default() };
        let cases = [
            (dns("example.com"), true),
            (dns("A.Example.com"), true),
            (dns("*.a.example.com"), true),
            (dns("*.example.com"), false),
            (dns("badexample.com"), false),
            (dns("other.org"), false),
            (dns("x.bad.example.com"), false),
            (ip("10.1.2.3"), true),
            (ip("11.1.2.3"), false),
            (ip("::1"), false),
            (Names { email_addresses: vec!["a@example.com".into()], ..Names::default() }, false),
            (Names { email_addresses: vec!["a@example.org".into()], ..Names::default() }, true),
            (Names { uris: vec!["spiffe://anything/x".into()], ..Names::default() }, true),
        ];
        for (names, allowed) in cases {
            assert_eq!(constraints().violated_by(&names).is_none(), allowed, "{names:?}");
        }
    }
}

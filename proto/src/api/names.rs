//! Resource names: `namespaces/{ns}/certificates/{name}`, `issuers/{name}` and their like.
//!
//! It refuses any other shape with `INVALID_NAME`. Estate-wide objects may also be named without their collection.

use certwright_core::ids::{
    AgentName, AuthorityName, CertificateName, IssuerName, Namespace, NodeName, Serial, TokenId,
};
use certwright_core::{Reason, Rejection};

use super::values;

/// Parses `namespaces/{namespace}/certificates/{name}`.
pub fn certificate(name: &str) -> Result<CertificateName, Rejection> {
    let parts: Vec<&str> = name.split('/').collect();
    match parts[..] {
        ["namespaces", namespace, "certificates", name] => CertificateName::parse(namespace, name),
        _ => Err(misshapen(name, "namespaces/{namespace}/certificates/{name}")),
    }
}

/// Prints `namespaces/{namespace}/certificates/{name}`.
pub fn certificate_to_message(name: &CertificateName) -> String {
    format!("namespaces/{}/certificates/{}", name.namespace, name.name)
}

/// Parses the parent of a list: `namespaces/{namespace}`, or `namespaces/-` (or nothing) for all.
pub fn parent(parent: &str) -> Result<Option<Namespace>, Rejection> {
    match parent.strip_prefix("namespaces/") {
        None if parent.is_empty() => Ok(None),
        Some("-") => Ok(None),
        Some(namespace) if !namespace.contains('/') => Namespace::parse(namespace).map(Some),
        _ => Err(misshapen(parent, "namespaces/{namespace} or namespaces/-")),
    }
}

/// What `GetIssued` may name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IssuedName {
    /// A stored certificate.
    Certificate(CertificateName),
    /// A direct issuance, by its serial.
    Direct(Serial),
}

/// Parses the name of a certificate or `direct/{serial}`.
pub fn issued(name: &str) -> Result<IssuedName, Rejection> {
    match name.strip_prefix("direct/") {
        Some(serial) => values::serial("name", serial).map(IssuedName::Direct),
        None => certificate(name).map(IssuedName::Certificate),
    }
}

macro_rules! estate_wide {
    ($($parse:ident, $print:ident, $type:ty, $collection:literal;)*) => {
        $(
            #[doc = concat!("Parses `", $collection, "{name}`, or the bare name.")]
            pub fn $parse(name: &str) -> Result<$type, Rejection> {
                <$type>::parse(name.strip_prefix($collection).unwrap_or(name))
            }

            #[doc = concat!("Prints `", $collection, "{name}`.")]
            pub fn $print(name: &$type) -> String {
                format!(concat!($collection, "{}"), name)
            }
        )*
    };
}

estate_wide! {
    issuer, issuer_to_message, IssuerName, "issuers/";
    authority, authority_to_message, AuthorityName, "authorities/";
    agent, agent_to_message, AgentName, "agents/";
    token, token_to_message, TokenId, "tokens/";
    node, node_to_message, NodeName, "nodes/";
}

fn misshapen(name: &str, shape: &str) -> Rejection {
    Rejection::field(Reason::InvalidName, "name", format!("{name:?} is not of the form {shape}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn certificates() {
        let name = certificate("namespaces/web/certificates/front").unwrap();
        assert_eq!((name.namespace.as_str(), name.name.as_str()), ("web", "front"));
        assert_eq!(certificate_to_message(&name), "namespaces/web/certificates/front");
        for wrong in [
            "",
            "web/front",
            "namespaces/web",
            "namespaces/web/certificates/",
            "namespaces//certificates/front",
            "namespaces/web/certificates/front/x",
            "namespaces/web/certificates/Front",
            "/namespaces/web/certificates/front",
        ] {
            assert_eq!(certificate(wrong).unwrap_err().reason, Reason::InvalidName, "{wrong}");
        }
    }

    #[test]
    fn parents() {
        assert_eq!(parent("").unwrap(), None);
        assert_eq!(parent("namespaces/-").unwrap(), None);
        assert_eq!(parent("namespaces/web").unwrap().unwrap().as_str(), "web");
        for wrong in ["web", "namespaces/", "namespaces/web/certificates", "namespaces/-/x"] {
            assert_eq!(parent(wrong).unwrap_err().reason, Reason::InvalidName, "{wrong}");
        }
    }

    #[test]
    fn estate_wide_objects_with_and_without_collection() {
        assert_eq!(issuer("issuers/demo").unwrap(), issuer("demo").unwrap());
        assert_eq!(authority_to_message(&authority("root").unwrap()), "authorities/root");
        assert_eq!(agent("agents/issuers/demo").unwrap_err().reason, Reason::InvalidName);
        assert_eq!(node("").unwrap_err().reason, Reason::InvalidName);
    }

    #[test]
    fn what_was_issued() {
        let serial = format!("7F{}", "01".repeat(19));
        assert!(
            matches!(issued(&format!("direct/{serial}")).unwrap(), IssuedName::Direct(it) if it.to_string() == serial)
        );
        assert!(matches!(issued("namespaces/a/certificates/b").unwrap(), IssuedName::Certificate(_)));
        assert_eq!(issued("direct/1").unwrap_err().field.as_deref(), Some("name"));
    }
}

//! Identities as certificates carry them: one URI that names the cluster and the actor.
//!
//! It refuses URIs of any other shape, and gives none to those who have no certificate.

use certwright_core::ids::{Actor, ClusterId};

/// The scheme of identity URIs.
pub const SCHEME: &str = "certwright://";

/// `certwright://{cluster id}/node/{id}`, `/agent/{name}` or `/administrator/{name}`; `None` for actors without a
/// certificate of their own.
pub fn format_uri(cluster_id: ClusterId, actor: &Actor) -> Option<String> {
    match actor {
        Actor::Administrator(_) | Actor::Agent(_) | Actor::Node(_) => Some(format!("{SCHEME}{cluster_id}/{actor}")),
        Actor::System | Actor::Anonymous => None,
    }
}

/// The cluster and actor that `format_uri` wrote; `None` for anything else, other spellings of the same included.
pub fn parse_uri(uri: &str) -> Option<(ClusterId, Actor)> {
    let (cluster, actor) = uri.strip_prefix(SCHEME)?.split_once('/')?;
    let cluster_id = parse_cluster_id(cluster)?;
    let actor = Actor::parse(actor)?;
    // Exactly one spelling is an identity: what prints differently (`node/007`, `node/+7`) is none.
    (format_uri(cluster_id, &actor)? == uri).then_some((cluster_id, actor))
}

/// A cluster id from 32 lower-case hex digits.
pub fn parse_cluster_id(text: &str) -> Option<ClusterId> {
    let mut octets = [0; 16];
    hex::decode_to_slice(text, &mut octets).ok()?;
    let cluster_id = ClusterId(octets);
    (cluster_id.to_string() == text).then_some(cluster_id)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use certwright_core::ids::{AdministratorName, AgentName};

    use super::*;

    const CLUSTER: ClusterId = ClusterId([0xab; 16]);
    const HEX: &str = "abababababababababababababababab";

    #[test]
    fn identities_go_there_and_back() {
        let table = [
            (Actor::Node(7), "node/7"),
            (Actor::Agent(AgentName::parse("web-1").unwrap()), "agent/web-1"),
            (Actor::Administrator(AdministratorName::parse("admin").unwrap()), "administrator/admin"),
        ];
        for (actor, path) in table {
            let uri = format!("certwright://{HEX}/{path}");
            assert_eq!(format_uri(CLUSTER, &actor).as_deref(), Some(&*uri));
            assert_eq!(parse_uri(&uri), Some((CLUSTER, actor)));
        }
    }

    #[test]
    fn who_has_no_certificate_has_no_uri() {
        assert_eq!(format_uri(CLUSTER, &Actor::System), None);
        assert_eq!(format_uri(CLUSTER, &Actor::Anonymous), None);
    }

    #[test]
    fn anything_else_is_no_identity() {
        let upper = HEX.to_uppercase();
        for uri in [
            String::new(),
            "certwright://".to_owned(),
            format!("certwright://{HEX}"),
            format!("certwright://{HEX}/"),
            format!("certwright://{HEX}/system"),
            format!("certwright://{HEX}/anonymous"),
            format!("certwright://{HEX}/node/"),
            format!("certwright://{HEX}/node/07"),
            format!("certwright://{HEX}/node/+7"),
            format!("certwright://{HEX}/node/7/agent/web"),
            format!("certwright://{HEX}/agent/Web"),
            format!("certwright://{HEX}/agent/web?x"),
            format!("certwright://{HEX}/root/admin"),
            format!("certwright://{upper}/node/7"),
            format!("certwright://{}/node/7", &HEX[2..]),
            format!("CERTWRIGHT://{HEX}/node/7"),
            format!("spiffe://{HEX}/node/7"),
            format!(" certwright://{HEX}/node/7"),
        ] {
            assert_eq!(parse_uri(&uri), None, "{uri}");
        }
    }
}

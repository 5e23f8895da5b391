//! Who a server is: a node of this cluster, by a chain to the system authority.
//!
//! It refuses certificates of agents, administrators and other clusters, however well they chain.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use certwright_core::ids::{Actor, ClusterId};
use certwright_core::time::Timestamp;
use certwright_core::x509::inspect::inspect;
use certwright_core::x509::key::sha256;
use certwright_seams::tls::{Believe, Verifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::identity::IdentitySource;

/// Which authority is trusted.
pub(super) enum Root {
    /// This one.
    Known(CertificateDer<'static>),
    /// The one, among those the server presents, whose DER has this SHA-256.
    Pinned([u8; 32]),
}

/// Verifies that a server is a node of one cluster.
pub(super) struct NodeVerifier {
    root: Root,
    cluster_id: ClusterId,
    identity: Arc<IdentitySource>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl NodeVerifier {
    pub(super) fn shared(
        root: Root,
        cluster_id: ClusterId,
        identity: Arc<IdentitySource>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Arc<Verifier<Self>> {
        Verifier::shared(Self { root, cluster_id, identity, algorithms }, algorithms)
    }

    /// The trusted root for what the server presented.
    fn root<'a>(&'a self, presented: &'a [CertificateDer<'a>]) -> Option<&'a CertificateDer<'a>> {
        match &self.root {
            Root::Known(root) => Some(root),
            Root::Pinned(hash) => presented.iter().find(|certificate| sha256(certificate) == *hash),
        }
    }

    /// The moment to verify at: not before the start of our own identity's life, for the same authority set that date,
    /// so that an agent whose clock is behind still connects and can say so; nor before that of the server's, which may
    /// have joined while the servers' clocks were ahead.
    ///
    /// The authority signs nothing ahead of its time, so this lets in servers that it let in, and no others. Time is only
    /// ever moved on: what has ended by this clock, or by our own identity's begin, stays ended.
    fn moment(&self, now: UnixTime, servers_begin: Timestamp) -> UnixTime {
        let own_begin = self.identity.dates().map_or(0, |(not_before, _)| not_before.seconds());
        UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs().max(own_begin).max(servers_begin.seconds())))
    }
}

impl fmt::Debug for NodeVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeVerifier({})", self.cluster_id)
    }
}

impl Believe for NodeVerifier {
    fn believe(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let root = self.root(intermediates).ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(root.clone())?;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let shown = inspect(end_entity).map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let moment = self.moment(now, shown.not_before);
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, intermediates, moment, self.algorithms.all)?;
        match shown.names.uris.iter().find_map(|uri| certwright_proto::identity::parse_uri(uri)) {
            Some((cluster_id, Actor::Node(_))) if cluster_id == self.cluster_id => Ok(()),
            Some((cluster_id, Actor::Node(_))) => {
                Err(Error::General(format!("the server belongs to cluster {cluster_id}, not to {}", self.cluster_id)))
            }
            _ => Err(Error::General("the certificate is not that of a server of a cluster".to_string())),
        }
    }
}

/// Start and end of a certificate's life.
pub(super) fn dates(der: &[u8]) -> Result<(Timestamp, Timestamp), String> {
    let certificate = inspect(der).map_err(|rejection| rejection.to_string())?;
    Ok((certificate.not_before, certificate.not_after))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use certwright_core::x509::pem;
    use certwright_proto::identity::parse_cluster_id;
    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType, date_time_ymd,
    };
    use zeroize::Zeroizing;

    use super::*;
    use crate::context::Context;

    const CLUSTER: &str = "000102030405060708090a0b0c0d0e0f";
    const ANOTHER: &str = "0f0e0d0c0b0a09080706050403020100";

    type Authority = (CertificateDer<'static>, Issuer<'static, KeyPair>);

    fn authority() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2039, 1, 1));
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        (der, Issuer::new(params, key))
    }

    /// A certificate from the beginning of one year to that of another, that could serve, and its key.
    fn signed(
        who: &str,
        cluster: &str,
        (from, to): (i32, i32),
        (_, issuer): &Authority,
    ) -> (CertificateDer<'static>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        let uri = format!("certwright://{cluster}/{who}");
        params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().unwrap())];
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.signed_by(&key, issuer).unwrap().der().clone(), key)
    }

    /// A server's, in 2020 and 2021.
    fn server(who: &str, cluster: &str, by: &Authority) -> CertificateDer<'static> {
        signed(who, cluster, (2020, 2022), by).0
    }

    /// An agent's identity of those years.
    fn identity(years: (i32, i32), by: &Authority) -> IdentitySource {
        let (certificate, key) = signed("agent/edge-1", CLUSTER, years, by);
        let context = Context {
            cluster_id: parse_cluster_id(CLUSTER).unwrap(),
            actor: Actor::parse("agent/edge-1").unwrap(),
            servers: vec!["127.0.0.1:1".to_string()],
            ca_pem: pem::certificate(&by.0),
            certificate_pem: pem::certificate(&certificate),
            key_pem: Zeroizing::new(key.serialize_pem()),
        };
        IdentitySource::new(&context).unwrap()
    }

    fn verifier(root: Root, identity: IdentitySource) -> NodeVerifier {
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        let cluster_id = parse_cluster_id(CLUSTER).unwrap();
        NodeVerifier { root, cluster_id, identity: Arc::new(identity), algorithms }
    }

    /// Whether it believes a server that sends `root` along, in the middle of that year.
    fn believes(verifier: &NodeVerifier, leaf: &CertificateDer<'_>, root: &CertificateDer<'static>, year: i32) -> bool {
        let seconds = u64::try_from(date_time_ymd(year, 6, 1).unix_timestamp()).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        verifier.believe(leaf, std::slice::from_ref(root), now).is_ok()
    }

    #[test]
    fn a_server_is_believed_before_its_begin_never_past_its_end_and_nobody_else_is() {
        let (ours, foreign) = (authority(), authority());
        let known = || Root::Known(ours.0.clone());
        for verifier in [
            verifier(Root::Pinned(sha256(&ours.0)), IdentitySource::anonymous()),
            verifier(known(), IdentitySource::anonymous()),
            verifier(known(), identity((2018, 2040), &ours)),
        ] {
            let judge = |leaf: CertificateDer<'static>, year| believes(&verifier, &leaf, &ours.0, year);
            for (year, expected, when) in [(2019, true, "before"), (2021, true, "in"), (2026, false, "past")] {
                assert_eq!(judge(server("node/1", CLUSTER, &ours), year), expected, "{when} its time");
                assert!(!judge(server("node/1", CLUSTER, &foreign), year), "by another authority, {when} its time");
                assert!(!judge(server("node/1", ANOTHER, &ours), year), "of another cluster, {when} its time");
                for who in ["agent/edge-1", "administrator/admin"] {
                    assert!(!judge(server(who, CLUSTER, &ours), year), "{who}'s, {when} its time");
                }
            }
        }
    }

    #[test]
    fn a_clock_that_is_behind_is_corrected_by_both_begins_and_brings_nothing_back_that_has_ended() {
        let ours = authority();
        let ended = server("node/1", CLUSTER, &ours);
        let (of_the_future, _) = signed("node/2", CLUSTER, (2030, 2038), &ours);
        // By our own begin, in 2024, that server's certificate has ended: its own, earlier begin does not undo that.
        let agent = verifier(Root::Known(ours.0.clone()), identity((2024, 2040), &ours));
        for year in [2019, 2021, 2026] {
            assert!(!believes(&agent, &ended, &ours.0, year), "ended before our own begin, in {year}");
            assert!(believes(&agent, &of_the_future, &ours.0, year), "to begin, in {year}");
        }
        // Our own begin is later than the server's, and the clock is before both.
        let agent = verifier(Root::Known(ours.0.clone()), identity((2021, 2040), &ours));
        assert!(believes(&agent, &ended, &ours.0, 2018));
    }
}

//! The joiner's side: a server is believed when the system authority in its chain has the hash that the token pins.
//!
//! It refuses host names and public roots: a token says which cluster, nothing else does.

use std::sync::Arc;

use certwright_core::x509::key::sha256;
use certwright_seams::Clock;
use certwright_seams::clock::TlsTime;
use certwright_seams::tls::{Believe, Verifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};

use super::provider;

/// Believes a chain that ends in the certificate with this SHA-256, before the server's begin as well: one that joined
/// while clocks were ahead would otherwise take in nobody once they are right. That gains whoever shows it nothing but
/// that time, for the authority signs nothing ahead of its own; ends are strict.
#[derive(Debug)]
struct Pinned {
    authority_sha256: [u8; 32],
    algorithms: WebPkiSupportedAlgorithms,
}

impl Believe for Pinned {
    fn believe(&self, leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        let is_pinned = |der: &&CertificateDer<'_>| sha256(der) == self.authority_sha256;
        let Some(authority) = others.iter().find(is_pinned) else {
            return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let parsed = ParsedCertificate::try_from(leaf)?;
        let moment = super::begin(leaf).map_or(now, |begin| begin.max(now));
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], moment, self.algorithms.all)
    }
}

/// TLS towards any server of the cluster whose system authority has this hash, without a certificate of our own.
pub(crate) fn pinned_client(authority_sha256: [u8; 32], clock: Arc<dyn Clock>) -> Result<rustls::ClientConfig, Error> {
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let verifier = Verifier::shared(Pinned { authority_sha256, algorithms }, algorithms);
    let mut config = rustls::ClientConfig::builder_with_details(provider, Arc::new(TlsTime::new(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd};

    use super::*;

    fn authority() -> (CertificateDer<'static>, Issuer<'static, KeyPair>) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2039, 1, 1));
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        (der, Issuer::new(params, key))
    }

    /// A certificate of 2020 and 2021.
    fn certificate(usage: ExtendedKeyUsagePurpose, by: &Issuer<'_, KeyPair>) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2022, 1, 1));
        params.extended_key_usages = vec![usage];
        params.signed_by(&KeyPair::generate().unwrap(), by).unwrap().der().clone()
    }

    #[test]
    fn a_server_is_believed_before_its_begin_never_past_its_end_and_only_below_the_pinned_authority() {
        let (root, ours) = authority();
        let (other_root, foreign) = authority();
        let algorithms = provider().signature_verification_algorithms;
        let pinned = Pinned { authority_sha256: sha256(&root), algorithms };
        let believes = |leaf: &CertificateDer<'_>, shown: &CertificateDer<'static>, year| {
            let seconds = date_time_ymd(year, 6, 1).unix_timestamp();
            let now = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap()));
            pinned.believe(leaf, std::slice::from_ref(shown), now).is_ok()
        };
        let [server, caller] = [ServerAuth, ClientAuth].map(|usage| certificate(usage, &ours));
        let stranger = certificate(ServerAuth, &foreign);
        for (year, expected, when) in [(2019, true, "before"), (2021, true, "in"), (2026, false, "past")] {
            assert_eq!(believes(&server, &root, year), expected, "{when} its time");
            assert!(!believes(&caller, &root, year), "no server's, {when} its time");
            assert!(!believes(&stranger, &root, year), "somebody else's that shows our authority, {when} its time");
            assert!(!believes(&stranger, &other_root, year), "somebody else's that shows theirs, {when} its time");
        }
    }
}

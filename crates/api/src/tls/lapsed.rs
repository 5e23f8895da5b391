//! Callers' certificates: those of agents are let in past their end, so that an estate comes back by itself after the
//! servers were away for longer than an identity lives.
//!
//! It refuses everything else that rustls refuses. What an agent may do depends on its key, which the leader compares
//! with the one in state at every command: removal ends it at once, a date adds nothing to that.

use std::fmt;
use std::sync::Arc;

use certwright_core::ids::Actor;
use certwright_proto::identity::parse_uri;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

/// The verifier of the API port.
pub(super) struct AgentsMayHaveLapsed(Arc<dyn ClientCertVerifier>);

impl AgentsMayHaveLapsed {
    /// Judges everything but the end of agents' certificates by that one.
    pub(super) fn new(strict: Arc<dyn ClientCertVerifier>) -> Self {
        Self(strict)
    }
}

impl fmt::Debug for AgentsMayHaveLapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AgentsMayHaveLapsed")
    }
}

/// End of an agent's certificate; nothing for anybody else's.
fn end_of_agents(certificate: &CertificateDer<'_>) -> Option<UnixTime> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let (_, Actor::Agent(_)) = parse_uri(super::only_uri(&parsed)?)? else { return None };
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
}

impl ClientCertVerifier for AgentsMayHaveLapsed {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.0.verify_client_cert(end_entity, intermediates, now) {
            Err(
                lapsed @ Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }),
            ) => {
                // Everything else is verified again, as of its last moment.
                let end = end_of_agents(end_entity).ok_or(lapsed)?;
                self.0.verify_client_cert(end_entity, intermediates, end)
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType, date_time_ymd};
    use rustls::RootCertStore;
    use rustls::server::WebPkiClientVerifier;

    use super::*;

    /// Somebody's certificate, valid in 2020 and 2021, by an authority of that name.
    fn certificate(uri: &str, authority: &Issuer<'_, KeyPair>) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2022, 1, 1));
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        params.signed_by(&KeyPair::generate().unwrap(), authority).unwrap().der().clone()
    }

    fn authority() -> (CertificateDer<'static>, Issuer<'static, KeyPair>) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2039, 1, 1));
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        (der, Issuer::new(params, key))
    }

    #[test]
    fn only_agents_come_back_past_their_end_and_only_by_their_own_authority() {
        let (root, ours) = authority();
        let (_, foreign) = authority();
        let mut roots = RootCertStore::empty();
        roots.add(root).unwrap();
        let strict = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), super::super::provider());
        let verifier = AgentsMayHaveLapsed::new(strict.build().unwrap());
        let at = |year: i32| {
            let seconds = date_time_ymd(year, 6, 1).unix_timestamp();
            UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(seconds).unwrap()))
        };
        let cluster = "0123456789abcdef0123456789abcdef";
        let [agent, administrator, node] =
            ["agent/edge-1", "administrator/admin", "node/1"].map(|who| format!("certwright://{cluster}/{who}"));
        let accepts = |uri: &str, by, year| verifier.verify_client_cert(&certificate(uri, by), &[], at(year)).is_ok();
        for uri in [&agent, &administrator, &node] {
            assert!(accepts(uri, &ours, 2021), "{uri} in its time");
            assert!(!accepts(uri, &ours, 2019), "{uri} before its time");
            assert!(!accepts(uri, &foreign, 2021), "{uri} by somebody else");
            assert_eq!(accepts(uri, &ours, 2026), uri == &agent, "{uri} past its end");
        }
        assert!(!accepts(&agent, &foreign, 2026), "a lapsed agent of somebody else");
    }
}

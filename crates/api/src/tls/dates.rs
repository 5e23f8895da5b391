//! Callers' certificates that are out of their time: anybody's is believed before its begin, for what the system
//! authority signed while the servers' clocks were ahead begins in the future of right ones; those of agents are let in
//! past their end, so that an estate comes back by itself after the servers were away for longer than an identity lives.
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
///
/// The system authority signs nothing ahead of its time, so a begin to come keeps nobody out but those who were let in
/// while clocks were ahead; whoever holds such an identity (a thief, too) has it from the day it was made, longer than
/// its life by as much as they were ahead. The price: a server whose clock is slow takes an administrator's certificate that
/// has really ended. It always did when its clock was between begin and end; now it does before the begin, too.
pub(super) struct LenientDates(Arc<dyn ClientCertVerifier>);

impl LenientDates {
    /// Judges by that one, begins of all certificates and ends of agents' excepted.
    pub(super) fn new(strict: Arc<dyn ClientCertVerifier>) -> Self {
        Self(strict)
    }
}

impl fmt::Debug for LenientDates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LenientDates")
    }
}

/// End of an agent's certificate; nothing for anybody else's.
fn end_if_agents(certificate: &CertificateDer<'_>) -> Option<UnixTime> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let (_, Actor::Agent(_)) = parse_uri(super::only_uri(&parsed)?)? else { return None };
    super::moment(parsed.validity().not_after)
}

/// The moment to judge a certificate at that was refused for its dates; nothing when they are to be taken as they are.
fn another_moment(certificate: &CertificateDer<'_>, refused: &Error, now: UnixTime) -> Option<UnixTime> {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    match refused {
        // Its own begin, to come: what was refused may be an intermediate, and time set back would bring ended ones back.
        Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. }) => {
            super::begin(certificate).filter(|begin| *begin > now)
        }
        Error::InvalidCertificate(Expired | ExpiredContext { .. }) => end_if_agents(certificate),
        _ => None,
    }
}

impl ClientCertVerifier for LenientDates {
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
        let refused = match self.0.verify_client_cert(end_entity, intermediates, now) {
            Err(refused) => refused,
            verified => return verified,
        };
        // Everything else is verified again, as of its first moment, or its last one.
        let moment = another_moment(end_entity, &refused, now).ok_or(refused)?;
        self.0.verify_client_cert(end_entity, intermediates, moment)
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

    use certwright_proto::identity::parse_cluster_id;
    use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
        date_time_ymd,
    };
    use rustls::RootCertStore;
    use rustls::server::WebPkiClientVerifier;

    use super::*;

    const CLUSTER: &str = "0123456789abcdef0123456789abcdef";

    fn uri(who: &str) -> String {
        format!("certwright://{CLUSTER}/{who}")
    }

    /// Somebody's certificate, valid from the beginning of one year to that of another, by an authority of that name.
    fn valid(
        uri: &str,
        (from, to): (i32, i32),
        usage: ExtendedKeyUsagePurpose,
        authority: &Issuer<'_, KeyPair>,
    ) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        params.extended_key_usages = vec![usage];
        params.signed_by(&KeyPair::generate().unwrap(), authority).unwrap().der().clone()
    }

    /// The same, in 2020 and 2021, for a caller.
    fn certificate(uri: &str, authority: &Issuer<'_, KeyPair>) -> CertificateDer<'static> {
        valid(uri, (2020, 2022), ClientAuth, authority)
    }

    fn of_an_authority(name: &str, (from, to): (i32, i32)) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        params
    }

    fn authority() -> (CertificateDer<'static>, Issuer<'static, KeyPair>) {
        let params = of_an_authority("system", (2019, 2039));
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        (der, Issuer::new(params, key))
    }

    fn verifier(root: CertificateDer<'static>) -> LenientDates {
        let mut roots = RootCertStore::empty();
        roots.add(root).unwrap();
        let strict = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), super::super::provider());
        LenientDates::new(strict.build().unwrap())
    }

    /// The middle of a year.
    fn at(year: i32) -> UnixTime {
        let seconds = date_time_ymd(year, 6, 1).unix_timestamp();
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(seconds).unwrap()))
    }

    #[test]
    fn all_come_before_their_begin_only_agents_past_their_end_and_only_by_their_own_authority() {
        let (root, ours) = authority();
        let (_, foreign) = authority();
        let verifier = verifier(root);
        let [agent, administrator, node] = ["agent/edge-1", "administrator/admin", "node/1"].map(uri);
        let accepts = |uri: &str, by, year| verifier.verify_client_cert(&certificate(uri, by), &[], at(year)).is_ok();
        for uri in [&agent, &administrator, &node] {
            assert!(accepts(uri, &ours, 2021), "{uri} in its time");
            assert!(accepts(uri, &ours, 2019), "{uri} before its time");
            assert!(accepts(uri, &ours, 1970), "{uri} before everything");
            assert!(!accepts(uri, &foreign, 2021), "{uri} by somebody else");
            assert!(!accepts(uri, &foreign, 2019), "{uri} by somebody else, before its time");
            assert_eq!(accepts(uri, &ours, 2026), uri == &agent, "{uri} past its end");
        }
        assert!(!accepts(&agent, &foreign, 2026), "a lapsed agent of somebody else");
    }

    #[test]
    fn nothing_but_the_begin_is_forgiven_before_it() {
        let (root, ours) = authority();
        let verifier = verifier(root);
        let judged = |shown: &CertificateDer<'_>, year| verifier.verify_client_cert(shown, &[], at(year));
        for who in ["agent/edge-1", "administrator/admin", "node/1"] {
            let serves = valid(&uri(who), (2020, 2022), ServerAuth, &ours);
            assert!(judged(&serves, 2019).is_err(), "{who}: a certificate that is not for callers");
            let backwards = valid(&uri(who), (2022, 2020), ClientAuth, &ours);
            for year in [2019, 2021, 2026] {
                assert!(judged(&backwards, year).is_err(), "{who}: ends before it begins, in {year}");
            }
            // Rustls knows no clusters: whom a certificate names is looked at behind it, whatever its dates.
            let shown = [certificate(&uri(who), &ours)];
            assert!(judged(&shown[0], 2019).is_ok());
            let [here, elsewhere] =
                [CLUSTER, "fedcba9876543210fedcba9876543210"].map(|id| parse_cluster_id(id).unwrap());
            assert_eq!(super::super::actor(Some(&shown), here).map(|actor| actor.to_string()).as_deref(), Some(who));
            assert_eq!(super::super::actor(Some(&shown), elsewhere), None);
        }
    }

    #[test]
    fn an_intermediate_that_has_ended_does_not_come_back_because_another_one_is_to_begin() {
        let (root, ours) = authority();
        let verifier = verifier(root);
        let key = KeyPair::generate().unwrap();
        let [ended, good, to_begin] = [(2019, 2021), (2019, 2039), (2030, 2039)]
            .map(|years| of_an_authority("between", years).signed_by(&key, &ours).unwrap().der().clone());
        let between = Issuer::new(of_an_authority("between", (2019, 2039)), key);
        let agent = certificate(&uri("agent/edge-1"), &between);
        let accepts = |others: &[&CertificateDer<'static>], year| {
            let others: Vec<_> = others.iter().copied().cloned().collect();
            verifier.verify_client_cert(&agent, &others, at(year)).is_ok()
        };
        assert!(accepts(&[&to_begin, &good], 2021), "by the one that is good");
        assert!(accepts(&[&good], 2019), "before its begin");
        assert!(!accepts(&[&to_begin, &ended], 2021), "in 2020 the other one was good");
        assert!(!accepts(&[&ended, &to_begin], 2021), "in 2020 the other one was good");
        assert!(!accepts(&[&to_begin], 2019), "its issuer begins after it");
    }
}

//! Whether an issued certificate may replace what is there: key, chain to a trusted root, dates, names.
//!
//! It refuses to repair anything and to trust a certificate because a server sent it.

use certwright_core::mutant::{self, Mutant};
use certwright_core::spec::CertificateSpec;
use certwright_core::time::Timestamp;
use certwright_core::x509::inspect::{ChainError, Inspected, inspect, verify_chain};
use certwright_core::x509::key::sha256;
use certwright_core::x509::names::Names;
use certwright_proto::agent::v1::Issued;

use crate::failure::{Failure, FailureReason};
use crate::trust::Trust;

/// A certificate that belongs to a key, chains to a trusted root, is valid now and says what was asked for.
/// Only [`verify`] makes one.
pub struct VerifiedPair<'a> {
    issued: &'a Issued,
    inspected: Inspected,
}

impl VerifiedPair<'_> {
    /// The certificate with its chain.
    pub fn issued(&self) -> &Issued {
        self.issued
    }

    /// What the certificate says.
    pub fn inspected(&self) -> &Inspected {
        &self.inspected
    }
}

/// Verifies an issued certificate against the key that the agent made (SHA-256 of its SubjectPublicKeyInfo), the trusted
/// roots, the names that were asked for and the agent's clock.
pub fn verify<'a>(
    issued: &'a Issued,
    spec: &CertificateSpec,
    spki_hash: [u8; 32],
    trust: &Trust,
    now: Timestamp,
) -> Result<VerifiedPair<'a>, Failure> {
    let broken = |cause: String| Failure::new(FailureReason::ChainBroken, cause);
    let inspected = inspect(&issued.certificate).map_err(|rejection| broken(rejection.to_string()))?;
    if inspected.spki_hash != spki_hash {
        let message = format!("{} is not for the key of generation {}", inspected.serial, issued.generation);
        return Err(Failure::new(FailureReason::KeyMismatch, message));
    }
    if inspected.serial != issued.serial {
        return Err(broken(format!("the certificate's serial is {}, not {}", inspected.serial, issued.serial)));
    }
    if !trust.holds(&issued.root) {
        return Err(untrusted(&issued.root));
    }
    let intermediates: Vec<Vec<u8>> = issued.intermediates.iter().map(|der| der.to_vec()).collect();
    let root = [issued.root.to_vec()];
    verify_chain(&issued.certificate, &intermediates, &root, now).map_err(|error| match error {
        ChainError::NotYetValid { .. } => Failure::new(FailureReason::NotYetValid, error),
        ChainError::Expired { .. } => Failure::new(FailureReason::Expired, error),
        error => broken(error.to_string()),
    })?;
    check_names(spec, &inspected.names)?;
    Ok(VerifiedPair { issued, inspected })
}

/// Refuses what is older than the certificate, DER, that a target shows as a newer generation: an agent that lost its
/// memory may be told of the older one by a server that lags. Two that were issued within one second are told apart by
/// their generations alone. A certificate of other names is another certificate, and one that has expired is better
/// replaced by anything that is valid.
pub fn check_newer(
    offered: (u64, &Inspected),
    (shown_generation, shown): (u64, &[u8]),
    now: Timestamp,
) -> Result<(), Failure> {
    let (generation, offered) = offered;
    let Ok(shown) = inspect(shown) else { return Ok(()) };
    let is_newer = shown_generation > generation && shown.not_before >= offered.not_before && now < shown.not_after;
    if !is_newer || mutant::is(Mutant::OlderGenerationTaken) || !same_names(&shown.names, &offered.names) {
        return Ok(());
    }
    let message = format!(
        "the target shows generation {shown_generation} ({}, valid from {}), which is newer than generation {generation} ({}, valid from {})",
        shown.serial, shown.not_before, offered.serial, offered.not_before
    );
    Err(Failure::new(FailureReason::OlderGeneration, message))
}

/// In whatever order.
fn same_names(one: &Names, other: &Names) -> bool {
    let sorted = |names: &Names| {
        let mut names = names.clone().normalized();
        names.dns_names.sort();
        names.ip_addresses.sort();
        names.uris.sort();
        names.email_addresses.sort();
        names
    };
    sorted(one) == sorted(other)
}

fn untrusted(root: &[u8]) -> Failure {
    let subject = inspect(root).map_or_else(|_| "something unreadable".to_string(), |root| root.subject);
    let hash = hex::encode_upper(sha256(root));
    Failure::new(
        FailureReason::UntrustedRoot,
        format!("the chain ends at {subject} (SHA-256 {hash}), which is not in the trust bundle"),
    )
}

/// Every name asked for is there, and no other.
fn check_names(spec: &CertificateSpec, certified: &Names) -> Result<(), Failure> {
    let wanted = wanted(spec).normalized();
    let certified = certified.clone().normalized();
    let mismatch = |kind: &str, wanted: String, certified: String| {
        Err(Failure::new(FailureReason::NamesMismatch, format!("{kind}: asked for {wanted}, certified {certified}")))
    };
    if wanted.common_name.is_some() && wanted.common_name != certified.common_name {
        return mismatch("common name", format!("{:?}", wanted.common_name), format!("{:?}", certified.common_name));
    }
    fn sorted<T: Ord + Clone>(list: &[T]) -> Vec<T> {
        let mut list = list.to_vec();
        list.sort();
        list
    }
    if sorted(&wanted.dns_names) != sorted(&certified.dns_names) {
        return mismatch("DNS names", wanted.dns_names.join(","), certified.dns_names.join(","));
    }
    if sorted(&wanted.ip_addresses) != sorted(&certified.ip_addresses) {
        let text = |list: &[std::net::IpAddr]| format!("{list:?}");
        return mismatch("IP addresses", text(&wanted.ip_addresses), text(&certified.ip_addresses));
    }
    if sorted(&wanted.uris) != sorted(&certified.uris) {
        return mismatch("URIs", wanted.uris.join(","), certified.uris.join(","));
    }
    if sorted(&wanted.email_addresses) != sorted(&certified.email_addresses) {
        return mismatch("e-mail addresses", wanted.email_addresses.join(","), certified.email_addresses.join(","));
    }
    Ok(())
}

/// The names that a specification asks for.
pub(crate) fn wanted(spec: &CertificateSpec) -> Names {
    Names {
        common_name: spec.common_name.clone(),
        dns_names: spec.dns_names.clone(),
        ip_addresses: spec.ip_addresses.clone(),
        uris: spec.uris.clone(),
        email_addresses: spec.email_addresses.clone(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::{Duration, SystemTime};

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    const SECOND: u64 = 1_790_000_000;

    fn certificate(name: &str, second: u64) -> Vec<u8> {
        let date = |second| (SystemTime::UNIX_EPOCH + Duration::from_secs(second)).into();
        let mut params = CertificateParams::new([name.to_string()]).unwrap();
        params.not_before = date(second);
        params.not_after = date(second + 3600);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn an_older_generation_is_refused_even_when_both_are_of_one_second() {
        let now = Timestamp::from_millis((SECOND + 60) * 1000);
        let read = |der: &[u8]| inspect(der).unwrap();
        let (shown, offered) = (certificate("a.example", SECOND), certificate("a.example", SECOND));
        let refused = check_newer((4, &read(&offered)), (5, &shown), now).unwrap_err();
        assert_eq!(refused.reason, FailureReason::OlderGeneration);
        check_newer((5, &read(&offered)), (4, &shown), now).unwrap();
        // A certificate that was deleted and declared again begins at generation 1 with a later date.
        check_newer((1, &read(&certificate("a.example", SECOND + 1))), (5, &shown), now).unwrap();
        check_newer((1, &read(&certificate("b.example", SECOND))), (5, &shown), now).unwrap();
        let expired = Timestamp::from_millis((SECOND + 3600) * 1000);
        check_newer((4, &read(&offered)), (5, &shown), expired).unwrap();
    }
}

//! PEM (RFC 7468) around DER.
//!
//! It refuses private keys; those are encoded in custody, in memory that is wiped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::rejection::{Reason, Rejection};

/// One PEM block with lines of 64 characters and a final newline.
pub fn encode(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.extend(line.iter().map(|&octet| char::from(octet)));
        out.push('\n');
    }
    out + "-----END " + label + "-----\n"
}

/// One `CERTIFICATE` block.
pub fn certificate(der: &[u8]) -> String {
    encode("CERTIFICATE", der)
}

/// One `CERTIFICATE REQUEST` block.
pub fn request(der: &[u8]) -> String {
    encode("CERTIFICATE REQUEST", der)
}

/// All certificates of a PEM text, in order; other blocks are skipped. At least one, or INVALID_MANIFEST.
pub fn certificates(text: &[u8]) -> Result<Vec<Vec<u8>>, Rejection> {
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(text).map(|each| each.map(|der| der.to_vec())).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(Rejection::new(Reason::InvalidManifest, "there is no certificate in the PEM text")),
        Err(error) => Err(Rejection::new(Reason::InvalidManifest, format!("malformed PEM: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_encoded_is_read_again() {
        let (one, two) = (vec![1; 100], vec![2; 48]);
        let text = certificate(&one) + "a comment\n" + &request(&[9; 9]) + &certificate(&two);
        assert!(text.lines().all(|line| line.len() <= 64));
        assert_eq!(certificates(text.as_bytes()).unwrap(), [one, two]);
    }

    #[test]
    fn no_certificate_is_an_error() {
        assert_eq!(certificates(b"hello").unwrap_err().reason, Reason::InvalidManifest);
        let broken = b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
        assert_eq!(certificates(broken).unwrap_err().reason, Reason::InvalidManifest);
    }
}

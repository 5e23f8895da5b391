//! The other end of a TLS handshake: that it holds its certificate's key is proved here, whom to believe is asked.
//!
//! It refuses TLS 1.2 unless asked for, and to say what makes a certificate believable.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

/// Whose certificate is believed. Host names are nobody's proof: servers and agents are who their certificates say.
pub trait Believe: fmt::Debug + Send + Sync + 'static {
    /// Whether TLS 1.2 is spoken, too: only to servers that are not ours.
    const TLS12: bool = false;

    /// Whether the end that shows `leaf` is the right one; `others` are the certificates it sent along.
    fn believe(&self, leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error>;
}

/// Verifies either end of a handshake by what `B` believes.
#[derive(Debug)]
pub struct Verifier<B> {
    believe: B,
    algorithms: WebPkiSupportedAlgorithms,
}

impl<B: Believe> Verifier<B> {
    /// A verifier for signatures with these algorithms.
    pub fn shared(believe: B, algorithms: WebPkiSupportedAlgorithms) -> Arc<Self> {
        Arc::new(Self { believe, algorithms })
    }
}

/// What rustls asks of both kinds of verifiers in the same words: the proof that the other end holds its key.
macro_rules! proof_of_possession {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            if !B::TLS12 {
                return Err(Error::General("TLS 1.2 is not spoken here".into()));
            }
            verify_tls12_signature(message, certificate, signed, &self.algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, certificate, signed, &self.algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.algorithms.supported_schemes()
        }
    };
}

impl<B: Believe> ServerCertVerifier for Verifier<B> {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.believe.believe(leaf, others, now).map(|()| ServerCertVerified::assertion())
    }

    proof_of_possession!();
}

impl<B: Believe> ClientCertVerifier for Verifier<B> {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.believe.believe(leaf, others, now).map(|()| ClientCertVerified::assertion())
    }

    proof_of_possession!();
}

//! The identity that connections present, replaceable while they live.
//!
//! It refuses a certificate that does not belong to its key.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use certwright_core::time::Timestamp;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use crate::context::Context;

/// The certificate and key in use; the next handshake takes what was put here last.
#[derive(Debug, Default)]
pub struct IdentitySource {
    current: ArcSwapOption<Held>,
    changes: watch::Sender<()>,
}

/// An identity with its dates.
#[derive(Debug)]
struct Held {
    key: Arc<CertifiedKey>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl IdentitySource {
    /// The identity of a context.
    pub fn new(context: &Context) -> Result<Self, String> {
        let source = Self::default();
        source.replace(context)?;
        Ok(source)
    }

    /// Nobody's.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Presents the identity of `context` from now on.
    pub fn replace(&self, context: &Context) -> Result<(), String> {
        let chain = context.chain()?;
        let (not_before, not_after) = super::verifier::dates(&chain[0])?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = CertifiedKey::from_der(chain, context.key()?, &provider)
            .map_err(|error| format!("certificate and key do not make an identity: {error}"))?;
        self.current.store(Some(Arc::new(Held { key: Arc::new(key), not_before, not_after })));
        self.changes.send_replace(());
        Ok(())
    }

    /// Changes when another identity is presented from then on.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Start and end of the identity's life; `None` when there is none.
    pub fn dates(&self) -> Option<(Timestamp, Timestamp)> {
        self.current.load().as_ref().map(|held| (held.not_before, held.not_after))
    }
}

impl ResolvesClientCert for IdentitySource {
    fn resolve(&self, _root_hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.current.load().as_ref().map(|held| held.key.clone())
    }

    fn has_certs(&self) -> bool {
        self.current.load().is_some()
    }
}

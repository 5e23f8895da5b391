//! What a target holds: the set of files of one generation, and the sinks that write it.
//!
//! It refuses to decide whether a pair is good: only a verified pair becomes a [`Bundle`].

pub mod files;
mod owner;

use std::fmt;

use certwright_core::x509::pem;
use zeroize::Zeroizing;

/// One file of a bundle.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FileKind {
    /// The certificate.
    Certificate,
    /// The intermediates, from its issuer on; empty when the root signed.
    Chain,
    /// Certificate, then intermediates.
    Fullchain,
    /// The private key.
    Key,
    /// Certificate, intermediates, private key: one file that cannot mismatch.
    Combined,
    /// The root.
    Root,
}

impl FileKind {
    /// Every file, in the order of writing.
    pub const ALL: [Self; 6] = [Self::Certificate, Self::Chain, Self::Fullchain, Self::Key, Self::Combined, Self::Root];

    /// Its standard name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Certificate => "cert.pem",
            Self::Chain => "chain.pem",
            Self::Fullchain => "fullchain.pem",
            Self::Key => "key.pem",
            Self::Combined => "combined.pem",
            Self::Root => "ca.pem",
        }
    }

    /// Whether it holds the private key.
    pub const fn is_secret(self) -> bool {
        matches!(self, Self::Key | Self::Combined)
    }
}

/// Which generation a set of files is; prints as its directory's name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// The generation.
    pub generation: u64,
    /// The serial, upper-case hex.
    pub serial: String,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.generation, self.serial)
    }
}

/// The certificate, its chain and its key, encoded for a target. Zeroised when dropped.
pub struct Bundle {
    version: Version,
    files: [Zeroizing<Vec<u8>>; 6],
}

impl Bundle {
    /// Encodes a verified pair: DER of the certificate, of the intermediates and of the root, PEM of the key.
    pub fn new(
        version: Version,
        certificate: &[u8],
        intermediates: &[impl AsRef<[u8]>],
        root: &[u8],
        key_pem: &str,
    ) -> Self {
        let certificate = pem::certificate(certificate);
        let chain: String = intermediates.iter().map(|der| pem::certificate(der.as_ref())).collect();
        let fullchain = format!("{certificate}{chain}");
        let mut combined = Zeroizing::new(Vec::with_capacity(fullchain.len() + key_pem.len()));
        combined.extend_from_slice(fullchain.as_bytes());
        combined.extend_from_slice(key_pem.as_bytes());
        let plain = |text: String| Zeroizing::new(text.into_bytes());
        let files = [
            plain(certificate),
            plain(chain),
            plain(fullchain),
            Zeroizing::new(key_pem.as_bytes().to_vec()),
            combined,
            plain(pem::certificate(root)),
        ];
        Self { version, files }
    }

    /// Which generation it is.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// The contents of one file.
    pub fn file(&self, kind: FileKind) -> &[u8] {
        &self.files[kind as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_hold_what_their_names_say() {
        let version = Version { generation: 7, serial: "0A".into() };
        let bundle = Bundle::new(version, b"leaf", &[b"one".to_vec(), b"two".to_vec()], b"root", "KEY\n");
        let text = |kind| String::from_utf8_lossy(bundle.file(kind)).to_string();
        assert_eq!(bundle.version().to_string(), "7-0A");
        assert_eq!(text(FileKind::Certificate), pem::certificate(b"leaf"));
        assert_eq!(text(FileKind::Chain), pem::certificate(b"one") + &pem::certificate(b"two"));
        assert_eq!(text(FileKind::Fullchain), text(FileKind::Certificate) + &text(FileKind::Chain));
        assert_eq!(text(FileKind::Combined), text(FileKind::Fullchain) + "KEY\n");
        assert_eq!(text(FileKind::Key), "KEY\n");
        assert_eq!(text(FileKind::Root), pem::certificate(b"root"));
    }
}

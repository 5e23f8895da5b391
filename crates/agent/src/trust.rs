//! The roots that a delivered chain may end at: an operator's file, or else what the servers announced.
//!
//! It refuses roots that come along with a delivery, and announcements older than the one it holds.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use certwright_core::x509::inspect::inspect;
use certwright_core::x509::key::sha256;
use certwright_core::x509::pem;
use certwright_proto::agent::v1::TrustBundle;
use certwright_seams::Disk;

/// Octets of a trust bundle, as a file or as announced: some hundreds of roots.
pub const TRUST_OCTETS_MAX: u64 = 1024 * 1024;

/// An operator's trust bundle that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("trust bundle {path}: {cause}")]
pub struct TrustError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub cause: String,
}

/// The roots in force.
#[derive(Debug)]
pub struct Trust(Source);

#[derive(Debug)]
enum Source {
    /// SHA-256 of the roots of an operator's file: no server changes them.
    File(BTreeSet<[u8; 32]>),
    /// The newest announcement; none before the first contact.
    Announced(ArcSwapOption<TrustBundle>),
}

/// What an announcement is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Announcement {
    /// The roots that are held already, or nothing that this agent listens to.
    Known,
    /// Older than what is held.
    Stale,
    /// Other roots: those that were not held before, by authority and SHA-256.
    News(Vec<(String, String)>),
}

impl Trust {
    /// The roots of an operator's PEM file, for good.
    pub fn from_file(disk: &dyn Disk, path: &Path) -> Result<Self, TrustError> {
        let wrong = |cause: String| TrustError { path: path.to_path_buf(), cause };
        let octets = disk.read(path, TRUST_OCTETS_MAX).map_err(|error| wrong(error.to_string()))?;
        let roots = pem::certificates(&octets).map_err(|rejection| wrong(rejection.to_string()))?;
        for root in &roots {
            inspect(root).map_err(|rejection| wrong(rejection.to_string()))?;
        }
        Ok(Self(Source::File(roots.iter().map(|root| sha256(root)).collect())))
    }

    /// What was announced before, if anything was.
    pub fn announced(held: Option<TrustBundle>) -> Self {
        Self(Source::Announced(ArcSwapOption::new(held.map(Arc::new))))
    }

    /// Whether a chain may end at this root (DER).
    pub fn holds(&self, root: &[u8]) -> bool {
        match &self.0 {
            Source::File(roots) => roots.contains(&sha256(root)),
            Source::Announced(held) => {
                held.load().as_ref().is_some_and(|held| held.roots.iter().any(|it| it.certificate == root))
            }
        }
    }

    /// Compares an announcement with what is held; changes nothing.
    pub fn compare(&self, announced: &TrustBundle) -> Announcement {
        let Source::Announced(held) = &self.0 else { return Announcement::Known };
        let held = held.load();
        let before = held.as_ref().map_or(&[][..], |held| &held.roots);
        if held.as_ref().is_some_and(|held| held.roots == announced.roots) {
            return Announcement::Known;
        }
        if held.as_ref().is_some_and(|held| (announced.epoch, announced.index) <= (held.epoch, held.index)) {
            return Announcement::Stale;
        }
        let fresh = announced.roots.iter().filter(|root| !before.contains(root));
        Announcement::News(
            fresh.map(|root| (root.authority.clone(), hex::encode_upper(sha256(&root.certificate)))).collect(),
        )
    }

    /// Whether anything is trusted yet.
    pub fn is_empty(&self) -> bool {
        match &self.0 {
            Source::File(roots) => roots.is_empty(),
            Source::Announced(held) => held.load().as_ref().is_none_or(|held| held.roots.is_empty()),
        }
    }

    /// Puts an announcement in force.
    pub fn adopt(&self, announced: TrustBundle) {
        if let Source::Announced(held) = &self.0 {
            held.store(Some(Arc::new(announced)));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use certwright_proto::agent::v1::TrustedRoot;
    use certwright_seams::Seams;

    use super::*;

    fn bundle(epoch: u64, index: u64, roots: &[&str]) -> TrustBundle {
        let root =
            |name: &&str| TrustedRoot { authority: name.to_string(), certificate: name.as_bytes().to_vec().into() };
        TrustBundle { epoch, index, roots: roots.iter().map(root).collect() }
    }

    fn names(announcement: Announcement) -> Vec<String> {
        match announcement {
            Announcement::News(roots) => roots.into_iter().map(|(name, _)| name).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn before_the_first_contact_nothing_is_trusted() {
        let trust = Trust::announced(None);
        assert!(trust.is_empty() && !trust.holds(b"one"));
        assert_eq!(names(trust.compare(&bundle(1, 5, &["one"]))), ["one"]);
        assert!(!trust.holds(b"one"), "comparing changes nothing");
    }

    #[test]
    fn only_a_newer_announcement_changes_the_roots() {
        let trust = Trust::announced(Some(bundle(1, 5, &["one", "two"])));
        assert_eq!(trust.compare(&bundle(1, 9, &["one", "two"])), Announcement::Known);
        assert_eq!(trust.compare(&bundle(1, 5, &["one", "three"])), Announcement::Stale);
        assert_eq!(trust.compare(&bundle(1, 4, &["one"])), Announcement::Stale);
        assert_eq!(trust.compare(&bundle(0, 9, &["one"])), Announcement::Stale);
        assert_eq!(names(trust.compare(&bundle(1, 6, &["two", "three"]))), ["three"]);
        assert_eq!(names(trust.compare(&bundle(2, 1, &["two"]))), [""; 0], "a restored backup begins anew");
        trust.adopt(bundle(1, 6, &["two", "three"]));
        assert!(trust.holds(b"three") && trust.holds(b"two") && !trust.holds(b"one"));
    }

    #[test]
    fn a_file_is_the_last_word() {
        let directory = tempfile::tempdir().unwrap();
        let (path, disk) = (directory.path().join("roots.pem"), Seams::system().disk);
        let key = rcgen::KeyPair::generate().unwrap();
        let root = rcgen::CertificateParams::default().self_signed(&key).unwrap().der().to_vec();
        disk.write_atomic(&path, pem::certificate(&root).as_bytes(), 0o644).unwrap();
        let trust = Trust::from_file(&*disk, &path).unwrap();
        let announced = bundle(1, 5, &["other"]);
        assert_eq!(trust.compare(&announced), Announcement::Known);
        trust.adopt(announced);
        assert!(trust.holds(&root) && !trust.holds(b"other"));
    }

    #[test]
    fn a_file_without_certificates_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let (path, disk) = (directory.path().join("roots.pem"), Seams::system().disk);
        assert!(Trust::from_file(&*disk, &path).unwrap_err().to_string().contains("roots.pem"));
        disk.write_atomic(&path, b"nothing", 0o644).unwrap();
        assert!(Trust::from_file(&*disk, &path).unwrap_err().to_string().contains("roots.pem"));
    }
}

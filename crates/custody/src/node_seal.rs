//! A server's own HPKE key pair, to which the cluster's data key is wrapped.
//!
//! It refuses to keep its private half in clear on disk: `seal.key` is sealed by `unseal.key`, which an operator may
//! keep elsewhere.

use std::path::Path;

use certwright_core::ids::{ClusterId, NodeId};
use certwright_seams::{Disk, Entropy};
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256 as HPKE;
use rustls::crypto::hpke::{Hpke as _, HpkePrivateKey};
use zeroize::Zeroizing;

use crate::data_key::{self, DataKey, HPKE_PUBLIC_OCTETS};
use crate::{CustodyError, files, sealed};

/// Holds 32 random octets.
const UNSEAL_FILE: &str = "unseal.key";
/// Holds `version 1 | public key 32 | private key, sealed under the unseal key and bound to the public key`.
const SEAL_FILE: &str = "seal.key";
const SEAL_VERSION: u8 = 1;
const CONTEXT: &[u8] = b"certwright node seal 1";

/// The key pair, opened. Wiped when dropped; not to be copied.
pub struct NodeSeal {
    public: [u8; HPKE_PUBLIC_OCTETS],
    private: HpkePrivateKey,
}

impl NodeSeal {
    /// Opens the key pair in `data`, or makes it; safe to repeat when killed at any point. Blocks on the disk.
    pub fn create_or_open(disk: &dyn Disk, data: &Path, entropy: &dyn Entropy) -> Result<Self, CustodyError> {
        let stored = files::read(disk, &data.join(SEAL_FILE))?;
        let unseal_path = data.join(UNSEAL_FILE);
        let unseal = match files::read(disk, &unseal_path)? {
            Some(octets) => octets,
            None if stored.is_some() => {
                let source =
                    std::io::Error::new(std::io::ErrorKind::NotFound, "seal.key is here, its unseal key is not");
                return Err(CustodyError::Disk { path: unseal_path.display().to_string(), source });
            }
            None => {
                let mut octets = Zeroizing::new(vec![0; 32]);
                entropy.fill(&mut octets);
                files::write(disk, &unseal_path, &octets)?;
                octets
            }
        };
        let unseal: &[u8; 32] = unseal.as_slice().try_into().map_err(|_| CustodyError::Malformed(UNSEAL_FILE))?;
        match stored {
            Some(stored) => Self::open(unseal, &stored),
            None => Self::create(disk, data, unseal, entropy),
        }
    }

    fn create(disk: &dyn Disk, data: &Path, unseal: &[u8; 32], entropy: &dyn Entropy) -> Result<Self, CustodyError> {
        let (public, private) =
            HPKE.generate_key_pair().map_err(|_| CustodyError::Failed("generating an HPKE key pair"))?;
        let public: [u8; HPKE_PUBLIC_OCTETS] =
            public.0.as_slice().try_into().map_err(|_| CustodyError::Malformed("the HPKE public key"))?;
        let sealed = sealed::seal(unseal, &context(&public), private.secret_bytes(), entropy)?;
        files::write(disk, &data.join(SEAL_FILE), &[&[SEAL_VERSION], &public[..], &sealed].concat())?;
        Ok(Self { public, private })
    }

    fn open(unseal: &[u8; 32], stored: &[u8]) -> Result<Self, CustodyError> {
        let Some(([SEAL_VERSION], rest)) = stored.split_first_chunk::<1>() else {
            return Err(CustodyError::Malformed(SEAL_FILE));
        };
        let (public, sealed) =
            rest.split_first_chunk::<HPKE_PUBLIC_OCTETS>().ok_or(CustodyError::Malformed(SEAL_FILE))?;
        let private = sealed::open(unseal, &context(public), sealed, SEAL_FILE)?;
        Ok(Self { public: *public, private: HpkePrivateKey::from(private.to_vec()) })
    }

    /// The public half, for the join request and the node's record.
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// Opens the data key that was wrapped to this node.
    pub fn unwrap(
        &self,
        cluster_id: ClusterId,
        node_id: NodeId,
        data_key_id: u64,
        wrapped: &[u8],
    ) -> Result<DataKey, CustodyError> {
        data_key::unwrap(&self.private, cluster_id, node_id, data_key_id, wrapped)
    }
}

fn context(public: &[u8]) -> Vec<u8> {
    [CONTEXT, public].concat()
}

#[cfg(test)]
mod tests;

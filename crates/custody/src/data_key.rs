//! The cluster's data key: what CA keys are sealed under, wrapped to each server's own HPKE key (RFC 9180).
//!
//! It refuses to be written down in clear: it leaves this module only wrapped, or as a proof that somebody holds it.

use aws_lc_rs::{hkdf, hmac};
use certwright_core::ids::{ClusterId, NodeId};
use certwright_seams::Entropy;
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256 as HPKE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke as _, HpkePrivateKey, HpkePublicKey};
use zeroize::{Zeroize as _, Zeroizing};

use crate::CustodyError;

/// First octet of a wrapped data key.
const WRAP_VERSION: u8 = 1;
/// Octets of an X25519 public key, encapsulated secrets included.
pub(crate) const HPKE_PUBLIC_OCTETS: usize = 32;
/// Octets of a wrapped data key: version, encapsulated secret, key, tag.
const WRAPPED_OCTETS: usize = 1 + HPKE_PUBLIC_OCTETS + 32 + 16;

/// 32 random octets and the number they go by. Wiped when dropped; not to be copied.
pub struct DataKey {
    id: u64,
    secret: Zeroizing<[u8; 32]>,
}

impl DataKey {
    /// Draws a key and its id. Ids are drawn too, 53 bits so that JSON can hold them, never 0.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut id = [0; 8];
        entropy.fill(&mut id);
        let mut secret = Zeroizing::new([0; 32]);
        entropy.fill(&mut *secret);
        Self { id: (u64::from_be_bytes(id) >> 11).max(1), secret }
    }

    /// The number it goes by.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// A key derived from it for one purpose (HKDF-SHA-256, RFC 5869), so that no key serves two.
    pub(crate) fn derive(&self, purpose: &[u8]) -> Result<Zeroizing<[u8; 32]>, CustodyError> {
        let mut derived = Zeroizing::new([0; 32]);
        hkdf::Salt::new(hkdf::HKDF_SHA256, b"certwright data key")
            .extract(&*self.secret)
            .expand(&[purpose], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut *derived))
            .map_err(|_| CustodyError::Failed("deriving a key"))?;
        Ok(derived)
    }
}

/// What a wrapped key is bound to: nobody can pass it off as another cluster's, node's or key's.
fn wrap_info(cluster_id: ClusterId, node_id: NodeId, data_key_id: u64) -> Vec<u8> {
    [&b"certwright wrapped data key 1"[..], &cluster_id.0, &node_id.to_be_bytes(), &data_key_id.to_be_bytes()].concat()
}

/// Wraps the data key to a node: `version 1 | encapsulated secret 32 | ciphertext 32 | tag 16`, HPKE base mode with
/// X25519, HKDF-SHA-256 and AES-256-GCM, bound to cluster, node and data key id.
pub fn wrap(
    data_key: &DataKey,
    cluster_id: ClusterId,
    node_id: NodeId,
    hpke_public: &[u8],
) -> Result<Vec<u8>, CustodyError> {
    if hpke_public.len() != HPKE_PUBLIC_OCTETS {
        return Err(CustodyError::Malformed("the node's HPKE public key"));
    }
    let info = wrap_info(cluster_id, node_id, data_key.id);
    let (encapsulated, ciphertext) = HPKE
        .seal(&info, &[], &*data_key.secret, &HpkePublicKey(hpke_public.to_vec()))
        .map_err(|_| CustodyError::Failed("wrapping the data key"))?;
    Ok([&[WRAP_VERSION], &encapsulated.0[..], &ciphertext].concat())
}

/// Opens what [`wrap`] made for this node.
pub(crate) fn unwrap(
    private: &HpkePrivateKey,
    cluster_id: ClusterId,
    node_id: NodeId,
    data_key_id: u64,
    wrapped: &[u8],
) -> Result<DataKey, CustodyError> {
    const WHAT: &str = "the wrapped data key";
    if wrapped.len() != WRAPPED_OCTETS || wrapped[0] != WRAP_VERSION {
        return Err(CustodyError::Malformed(WHAT));
    }
    let (encapsulated, ciphertext) = wrapped[1..].split_at(HPKE_PUBLIC_OCTETS);
    let info = wrap_info(cluster_id, node_id, data_key_id);
    let mut plain = HPKE
        .open(&EncapsulatedSecret(encapsulated.to_vec()), &info, &[], ciphertext, private)
        .map_err(|_| CustodyError::Unopenable(WHAT))?;
    let mut secret = Zeroizing::new([0; 32]);
    let fits = plain.len() == secret.len();
    if fits {
        secret.copy_from_slice(&plain);
    }
    plain.zeroize();
    if fits { Ok(DataKey { id: data_key_id, secret }) } else { Err(CustodyError::Malformed(WHAT)) }
}

fn prover(data_key: &DataKey) -> Result<hmac::Key, CustodyError> {
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &*data_key.derive(b"prove")?))
}

/// Proves possession of the data key without showing it: HMAC-SHA-256 of the challenge under a key derived from it.
pub fn prove(data_key: &DataKey, challenge: &[u8]) -> Result<[u8; 32], CustodyError> {
    let mut proof = [0; 32];
    proof.copy_from_slice(hmac::sign(&prover(data_key)?, challenge).as_ref());
    Ok(proof)
}

/// Whether `proof` is what [`prove`] says for that challenge, compared in constant time.
pub fn proves(data_key: &DataKey, challenge: &[u8], proof: &[u8]) -> Result<bool, CustodyError> {
    Ok(hmac::verify(&prover(data_key)?, challenge, proof).is_ok())
}

#[cfg(test)]
pub(crate) mod tests;

//! Backups: a stream that one recipient key opens, and the data keys wrapped to it.
//!
//! It refuses to open anything that is not whole: what was cut off, altered or moved does not open, and nothing of a chunk
//! is shown before all of it verified.
//!
//! | what | octets |
//! |---|---|
//! | magic `CWRTBKP\n` | 8 |
//! | format version, big-endian | 4 |
//! | HPKE encapsulated secret | 32 |
//! | file key, sealed to the recipient by HPKE | 32 + 16 |
//! | chunks: AES-256-GCM under the file key; all but the last of 64 KiB | length + 16 each |
//!
//! A chunk's nonce is its number (11 octets, big-endian) and whether it is the last one: the STREAM construction.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use certwright_core::ids::{ClusterId, NodeId};
use certwright_seams::Entropy;
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256 as HPKE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke as _, HpkePrivateKey, HpkePublicKey};
use zeroize::{Zeroize as _, Zeroizing};

use crate::CustodyError;
use crate::data_key::{self, DataKey, HPKE_PUBLIC_OCTETS};

const MAGIC: &[u8; 8] = b"CWRTBKP\n";
const VERSION: u32 = 1;
const TAG_OCTETS: usize = 16;
const FILE_KEY_OCTETS: usize = 32;
/// Octets before the first chunk.
pub const HEADER_OCTETS: usize = 8 + 4 + HPKE_PUBLIC_OCTETS + FILE_KEY_OCTETS + TAG_OCTETS;
/// Octets of what a chunk but the last one holds.
const CHUNK_OCTETS: usize = 64 * 1024;
/// Octets of such a chunk in the file.
pub const SEALED_CHUNK_OCTETS: usize = CHUNK_OCTETS + TAG_OCTETS;
/// Whom data keys in a backup are wrapped for: no node has this id.
const RECIPIENT: NodeId = 0;
const PUBLIC_PREFIX: &str = "cwbackup1-";
const PRIVATE_PREFIX: &str = "cwbackupkey1-";
const CHECK_OCTETS: usize = 4;

/// To whom a backup is encrypted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recipient([u8; HPKE_PUBLIC_OCTETS]);

fn check(prefix: &str, octets: &[u8]) -> [u8; CHECK_OCTETS] {
    let value = digest(&SHA256, &[prefix.as_bytes(), octets].concat());
    let mut check = [0; CHECK_OCTETS];
    check.copy_from_slice(&value.as_ref()[..CHECK_OCTETS]);
    check
}

/// `prefix`, hex, and a check against typing errors.
fn to_text(prefix: &str, octets: &[u8]) -> Zeroizing<String> {
    let mut whole = Zeroizing::new(octets.to_vec());
    whole.extend_from_slice(&check(prefix, octets));
    let digits = Zeroizing::new(hex::encode(&*whole));
    Zeroizing::new(format!("{prefix}{}", *digits))
}

fn from_text(prefix: &str, text: &str, what: &'static str) -> Result<Zeroizing<Vec<u8>>, CustodyError> {
    let malformed = || CustodyError::Malformed(what);
    let digits = text.trim().strip_prefix(prefix).ok_or_else(malformed)?;
    let mut octets = Zeroizing::new(hex::decode(digits).map_err(|_| malformed())?);
    let length = octets.len().checked_sub(CHECK_OCTETS).ok_or_else(malformed)?;
    if octets[length..] != check(prefix, &octets[..length]) {
        return Err(malformed());
    }
    octets.truncate(length);
    Ok(octets)
}

impl Recipient {
    /// Reads what `Display` prints.
    pub fn parse(text: &str) -> Result<Self, CustodyError> {
        const WHAT: &str = "the recipient's public key";
        let octets = from_text(PUBLIC_PREFIX, text, WHAT)?;
        octets[..].try_into().map(Self).map_err(|_| CustodyError::Malformed(WHAT))
    }

    /// The X25519 public key.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    /// The recipient with that X25519 public key.
    pub fn from_octets(octets: &[u8]) -> Result<Self, CustodyError> {
        octets.try_into().map(Self).map_err(|_| CustodyError::Malformed("the recipient's public key"))
    }

    /// Wraps a data key, so that whoever can open the backup can open it.
    pub fn wrap(&self, data_key: &DataKey, cluster_id: ClusterId) -> Result<Vec<u8>, CustodyError> {
        data_key::wrap(data_key, cluster_id, RECIPIENT, &self.0)
    }
}

impl std::fmt::Display for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&to_text(PUBLIC_PREFIX, &self.0))
    }
}

/// What opens backups. Wiped when dropped; not to be copied.
pub struct BackupKey {
    recipient: Recipient,
    private: HpkePrivateKey,
}

impl BackupKey {
    /// Makes a key pair.
    pub fn generate() -> Result<Self, CustodyError> {
        let failed = |_| CustodyError::Failed("generating an HPKE key pair");
        let (public, private) = HPKE.generate_key_pair().map_err(failed)?;
        Ok(Self { recipient: Recipient::from_octets(&public.0)?, private })
    }

    /// Reads what [`to_text`](Self::to_text) wrote; lines that begin with `#` are for people.
    pub fn parse(text: &str) -> Result<Self, CustodyError> {
        const WHAT: &str = "the backup key";
        let line = text.lines().find(|line| !line.starts_with('#') && !line.trim().is_empty()).unwrap_or_default();
        let octets = from_text(PRIVATE_PREFIX, line, WHAT)?;
        let (public, private) = octets.split_at_checked(HPKE_PUBLIC_OCTETS).ok_or(CustodyError::Malformed(WHAT))?;
        Ok(Self { recipient: Recipient::from_octets(public)?, private: HpkePrivateKey::from(private.to_vec()) })
    }

    /// The file to keep: whoever has it opens every backup made for it.
    pub fn to_text(&self) -> Zeroizing<String> {
        let octets = Zeroizing::new([self.recipient.octets(), self.private.secret_bytes()].concat());
        let line = to_text(PRIVATE_PREFIX, &octets);
        let public = &self.recipient;
        Zeroizing::new(format!("# Opens every backup made for {public}. Keep it offline.\n{}\n", *line))
    }

    /// Whom to make backups for.
    pub fn recipient(&self) -> &Recipient {
        &self.recipient
    }

    /// Opens what [`Recipient::wrap`] made.
    pub fn unwrap(&self, cluster_id: ClusterId, data_key_id: u64, wrapped: &[u8]) -> Result<DataKey, CustodyError> {
        data_key::unwrap(&self.private, cluster_id, RECIPIENT, data_key_id, wrapped)
    }
}

/// What the file key is bound to.
fn info() -> Vec<u8> {
    [&MAGIC[..], &VERSION.to_be_bytes(), b"certwright backup"].concat()
}

/// The cipher of the chunks and the next one's number.
struct Chunks {
    key: LessSafeKey,
    next: u64,
}

impl Chunks {
    fn new(file_key: &[u8]) -> Result<Self, CustodyError> {
        let unbound = UnboundKey::new(&AES_256_GCM, file_key);
        let unbound = unbound.map_err(|_| CustodyError::Failed("setting up AES-256-GCM"))?;
        Ok(Self { key: LessSafeKey::new(unbound), next: 0 })
    }

    fn nonce(&mut self, is_last: bool) -> Nonce {
        let mut octets = [0; NONCE_LEN];
        octets[NONCE_LEN - 9..NONCE_LEN - 1].copy_from_slice(&self.next.to_be_bytes());
        octets[NONCE_LEN - 1] = u8::from(is_last);
        self.next += 1;
        Nonce::assume_unique_for_key(octets)
    }
}

/// Encrypts one backup.
pub struct Sealer {
    chunks: Chunks,
    plain: Zeroizing<Vec<u8>>,
}

impl Sealer {
    /// Draws a file key; answers the octets that the file begins with.
    pub fn begin(recipient: &Recipient, entropy: &dyn Entropy) -> Result<(Self, Vec<u8>), CustodyError> {
        let mut file_key = Zeroizing::new([0; FILE_KEY_OCTETS]);
        entropy.fill(&mut *file_key);
        let (encapsulated, sealed) = HPKE
            .seal(&info(), &[], &*file_key, &HpkePublicKey(recipient.octets().to_vec()))
            .map_err(|_| CustodyError::Failed("sealing a backup's key"))?;
        let header = [&MAGIC[..], &VERSION.to_be_bytes(), &encapsulated.0, &sealed].concat();
        Ok((Self { chunks: Chunks::new(&*file_key)?, plain: Zeroizing::new(Vec::new()) }, header))
    }

    /// Takes more; whole chunks go to the end of `out`.
    pub fn push(&mut self, mut data: &[u8], out: &mut Vec<u8>) -> Result<(), CustodyError> {
        while !data.is_empty() {
            // A full chunk is sealed only when something follows: the last one may be full as well.
            if self.plain.len() == CHUNK_OCTETS {
                self.seal(false, out)?;
            }
            let taken = data.len().min(CHUNK_OCTETS - self.plain.len());
            self.plain.extend_from_slice(&data[..taken]);
            data = &data[taken..];
        }
        Ok(())
    }

    /// The last chunk.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), CustodyError> {
        self.seal(true, out)
    }

    fn seal(&mut self, is_last: bool, out: &mut Vec<u8>) -> Result<(), CustodyError> {
        let start = out.len();
        out.extend_from_slice(&self.plain);
        let nonce = self.chunks.nonce(is_last);
        let tag = self.chunks.key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut out[start..]);
        out.extend_from_slice(tag.map_err(|_| CustodyError::Failed("sealing a backup"))?.as_ref());
        self.plain.zeroize();
        Ok(())
    }
}

/// Decrypts one backup.
pub struct Opener(Chunks);

impl Opener {
    /// Opens the file key in the first [`HEADER_OCTETS`] of a file.
    pub fn begin(key: &BackupKey, header: &[u8]) -> Result<Self, CustodyError> {
        const WHAT: &str = "the backup";
        if header.len() != HEADER_OCTETS || header[..8] != *MAGIC || header[8..12] != VERSION.to_be_bytes() {
            return Err(CustodyError::Malformed(WHAT));
        }
        let (encapsulated, sealed) = header[12..].split_at(HPKE_PUBLIC_OCTETS);
        let encapsulated = EncapsulatedSecret(encapsulated.to_vec());
        let file_key = HPKE.open(&encapsulated, &info(), &[], sealed, &key.private);
        let file_key = Zeroizing::new(file_key.map_err(|_| CustodyError::Unopenable(WHAT))?);
        Ok(Self(Chunks::new(&file_key)?))
    }

    /// Opens the next chunk, of [`SEALED_CHUNK_OCTETS`] unless it is the last one.
    pub fn open(&mut self, mut sealed: Vec<u8>, is_last: bool) -> Result<Zeroizing<Vec<u8>>, CustodyError> {
        let nonce = self.0.nonce(is_last);
        let opened = self.0.key.open_in_place(nonce, Aad::empty(), &mut sealed);
        let length = opened.map_err(|_| CustodyError::Unopenable("a chunk of the backup"))?.len();
        sealed.truncate(length);
        Ok(Zeroizing::new(sealed))
    }
}

#[cfg(test)]
mod tests;

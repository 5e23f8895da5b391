//! PEM of private keys, in memory that is wiped.
//!
//! It refuses buffers that grow: a buffer that moves leaves a copy of the key behind.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::CustodyError;

/// Octets on one line of 64 characters.
const LINE_OCTETS: usize = 48;
const LABELS: [&str; 3] = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];

/// One PEM block.
pub(crate) fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    let lines = der.len().div_ceil(LINE_OCTETS);
    let mut out = Zeroizing::new(String::with_capacity(64 + 2 * label.len() + lines * 65));
    out.extend(["-----BEGIN ", label, "-----\n"]);
    for line in der.chunks(LINE_OCTETS) {
        STANDARD.encode_string(line, &mut out);
        out.push('\n');
    }
    out.extend(["-----END ", label, "-----\n"]);
    out
}

/// The DER of the first private key block in `text`.
pub(crate) fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, CustodyError> {
    let malformed = || CustodyError::Malformed("the PEM text of a private key");
    let body = LABELS.iter().find_map(|label| {
        let (_, after) = text.split_once(&format!("-----BEGIN {label}-----"))?;
        Some(after.split_once(&format!("-----END {label}-----"))?.0)
    });
    let body = body.ok_or_else(malformed)?;
    let mut compact = Zeroizing::new(Vec::with_capacity(body.len()));
    compact.extend(body.bytes().filter(|octet| !octet.is_ascii_whitespace()));
    let mut der = Zeroizing::new(vec![0; compact.len()]);
    let length = STANDARD.decode_slice(&*compact, &mut der).map_err(|_| malformed())?;
    der.truncate(length);
    Ok(der)
}

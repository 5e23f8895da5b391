//! Resume tokens: where an answer stands in the log, sealed against mix-ups by a checksum.
//!
//! It refuses tokens of another cluster or of before a restore; they are no secret and prove nothing about their bearer.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use certwright_core::ids::ClusterId;
use certwright_core::log::Position;
use certwright_core::{Reason, Rejection};

use crate::v1;

/// cluster id | epoch | index | ordinal | CRC-32, big-endian.
const OCTETS: usize = 16 + 8 + 8 + 4 + 4;

/// What a token says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resume {
    /// The cluster that wrote it.
    pub cluster_id: ClusterId,
    /// The cluster's epoch when it was written.
    pub epoch: u64,
    /// The newest transaction that its bearer has seen.
    pub position: Position,
}

/// The token for this position.
pub fn encode(cluster_id: ClusterId, epoch: u64, position: Position) -> v1::Token {
    let mut octets = Vec::with_capacity(OCTETS);
    octets.extend_from_slice(&cluster_id.0);
    octets.extend_from_slice(&epoch.to_be_bytes());
    octets.extend_from_slice(&position.index.to_be_bytes());
    octets.extend_from_slice(&position.ordinal.to_be_bytes());
    octets.extend_from_slice(&crc32fast::hash(&octets).to_be_bytes());
    v1::Token { value: URL_SAFE_NO_PAD.encode(octets) }
}

/// The position of a token that this cluster wrote in this epoch; rejects others with `INVALID_TOKEN`, those of
/// another epoch with `OLD_EPOCH`.
pub fn decode(token: &v1::Token, cluster_id: ClusterId, epoch: u64) -> Result<Position, Rejection> {
    let resume = read(token)?;
    if resume.cluster_id != cluster_id {
        return Err(invalid(format!("the token was written by cluster {}, this is {cluster_id}", resume.cluster_id)));
    }
    if resume.epoch != epoch {
        let of = resume.epoch;
        let message = format!("the token is of epoch {of}, the cluster is in epoch {epoch}");
        return Err(Rejection::new(Reason::OldEpoch, message));
    }
    Ok(resume.position)
}

/// The same for a field that may be absent or empty.
pub fn decode_optional(
    token: Option<&v1::Token>,
    cluster_id: ClusterId,
    epoch: u64,
) -> Result<Option<Position>, Rejection> {
    token.filter(|token| !token.value.is_empty()).map(|token| decode(token, cluster_id, epoch)).transpose()
}

/// What the token says, whoever wrote it; rejects a damaged one with `INVALID_TOKEN`.
pub fn read(token: &v1::Token) -> Result<Resume, Rejection> {
    // Bounded before it is decoded: the text comes from outside.
    let octets = (token.value.len() <= OCTETS * 2)
        .then(|| URL_SAFE_NO_PAD.decode(&token.value).ok())
        .flatten()
        .and_then(|octets| <[u8; OCTETS]>::try_from(octets).ok())
        .ok_or_else(|| invalid("the token is not of the shape of one".into()))?;
    let (body, checksum) = octets.split_at(OCTETS - 4);
    if crc32fast::hash(body).to_be_bytes() != checksum {
        return Err(invalid("the token is damaged".into()));
    }
    let mut rest = body;
    Ok(Resume {
        cluster_id: ClusterId(take(&mut rest)),
        epoch: u64::from_be_bytes(take(&mut rest)),
        position: Position { index: u64::from_be_bytes(take(&mut rest)), ordinal: u32::from_be_bytes(take(&mut rest)) },
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (head, tail) = rest.split_first_chunk().expect("the length was checked before it was taken apart");
    *rest = tail;
    *head
}

fn invalid(message: String) -> Rejection {
    Rejection::new(Reason::InvalidToken, message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const CLUSTER: ClusterId = ClusterId([7; 16]);
    const POSITION: Position = Position { index: 0x0102_0304_0506_0708, ordinal: 9 };

    #[test]
    fn golden() {
        let token = encode(CLUSTER, 3, POSITION);
        assert_eq!(token.value, "BwcHBwcHBwcHBwcHBwcHBwAAAAAAAAADAQIDBAUGBwgAAAAJoeo_DQ");
        assert_eq!(decode(&token, CLUSTER, 3), Ok(POSITION));
        assert_eq!(decode_optional(Some(&token), CLUSTER, 3), Ok(Some(POSITION)));
    }

    #[test]
    fn absent_is_not_invalid() {
        assert_eq!(decode_optional(None, CLUSTER, 3), Ok(None));
        assert_eq!(decode_optional(Some(&v1::Token::default()), CLUSTER, 3), Ok(None));
        assert_eq!(decode(&v1::Token::default(), CLUSTER, 3).unwrap_err().reason, Reason::InvalidToken);
    }

    #[test]
    fn foreign_tokens_are_refused() {
        let token = encode(CLUSTER, 3, POSITION);
        for (cluster, epoch, reason, said) in [
            (ClusterId([8; 16]), 3, Reason::InvalidToken, "written by cluster"),
            (CLUSTER, 4, Reason::OldEpoch, "epoch 3"),
        ] {
            let rejection = decode(&token, cluster, epoch).unwrap_err();
            assert_eq!(rejection.reason, reason);
            assert!(rejection.message.contains(said), "{rejection}");
        }
    }

    #[test]
    fn every_tampered_or_truncated_token_is_refused() {
        let token = encode(CLUSTER, 3, POSITION).value;
        for at in 0..token.len() {
            let truncated = v1::Token { value: token[..at].to_owned() };
            assert_eq!(read(&truncated).unwrap_err().reason, Reason::InvalidToken, "cut at {at}");
            let mut tampered = token.clone().into_bytes();
            tampered[at] = if tampered[at] == b'A' { b'B' } else { b'A' };
            let tampered = v1::Token { value: String::from_utf8(tampered).unwrap() };
            assert_eq!(read(&tampered).unwrap_err().reason, Reason::InvalidToken, "changed at {at}");
        }
        let long = v1::Token { value: token.repeat(1000) };
        assert_eq!(read(&long).unwrap_err().reason, Reason::InvalidToken);
    }
}

//! Join tokens as people carry them: who may join which cluster, the secret that proves it, and the CA to trust.
//!
//! It refuses to print the secret except where the token is made, and to be copied; the secret is zeroised on drop.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use certwright_core::ids::{ClusterId, TokenId};
use certwright_core::{Reason, Rejection};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::identity::parse_cluster_id;

/// Every token starts so; the digit is the format's version.
const PREFIX: &str = "cw1.";

/// Longest text of a token: about 250 octets are used; the rest is room.
const TEXT_OCTETS_MAX: usize = 1024;

/// A file that holds a token: its text, and the room that an editor may leave around it.
pub const FILE_OCTETS_MAX: u64 = 4096;

/// What a token admits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JoinRole {
    /// A server.
    Node,
    /// An agent.
    Agent,
}

impl JoinRole {
    /// `node` or `agent`, as in API messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Agent => "agent",
        }
    }

    /// The role of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Node, Self::Agent].into_iter().find(|role| role.name() == name)
    }
}

/// A join token.
pub struct JoinToken {
    /// The cluster to join.
    pub cluster_id: ClusterId,
    /// The token's public half: its name in the cluster.
    pub id: TokenId,
    /// The half that proves it; the servers know only its SHA-256.
    pub secret: Zeroizing<[u8; 32]>,
    /// What it admits.
    pub role: JoinRole,
    /// SHA-256 of the system authority's certificate, DER: what the joiner trusts before it knows anybody.
    pub ca_hash: [u8; 32],
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("cluster_id", &self.cluster_id)
            .field("id", &self.id)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// The JSON inside; zeroised on drop, because it holds the secret.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct Body {
    c: String,
    i: String,
    s: String,
    r: String,
    h: String,
}

/// The token as text: the one place where the secret is printed.
pub fn format(token: &JoinToken) -> Zeroizing<String> {
    let body = Body {
        c: token.cluster_id.to_string(),
        i: token.id.to_string(),
        s: URL_SAFE_NO_PAD.encode(*token.secret),
        r: token.role.name().to_owned(),
        h: hex::encode(token.ca_hash),
    };
    let json = Zeroizing::new(serde_json::to_vec(&body).expect("strings always serialise"));
    let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(&*json));
    Zeroizing::new(format!("{PREFIX}{}", *encoded))
}

/// Parses what `format` printed, surrounding white space allowed; rejects with `INVALID_TOKEN`.
pub fn parse(text: &str) -> Result<JoinToken, Rejection> {
    let text = text.trim();
    if text.len() > TEXT_OCTETS_MAX {
        return Err(invalid("it is too long"));
    }
    let encoded = text.strip_prefix(PREFIX).ok_or_else(|| invalid("it does not start with 'cw1.'"))?;
    let json = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).map_err(|_| invalid("it is cut off or damaged"))?);
    // serde's own message could quote the secret.
    let body: Body = serde_json::from_slice(&json).map_err(|_| invalid("it is cut off or damaged"))?;
    let mut secret = Zeroizing::new([0; 32]);
    let written = URL_SAFE_NO_PAD.decode_slice(&body.s, &mut *secret);
    if written != Ok(secret.len()) {
        return Err(invalid("its secret is not of 32 octets"));
    }
    let mut ca_hash = [0; 32];
    hex::decode_to_slice(&body.h, &mut ca_hash).map_err(|_| invalid("its CA hash is not of 32 octets"))?;
    Ok(JoinToken {
        cluster_id: parse_cluster_id(&body.c).ok_or_else(|| invalid("its cluster id is not of 16 octets"))?,
        id: TokenId::parse(&body.i).map_err(|_| invalid("its id is not a name"))?,
        secret,
        role: JoinRole::parse(&body.r).ok_or_else(|| invalid("it admits neither a node nor an agent"))?,
        ca_hash,
    })
}

fn invalid(why: &str) -> Rejection {
    Rejection::new(Reason::InvalidToken, format!("the join token cannot be read: {why}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            cluster_id: ClusterId([1; 16]),
            id: TokenId::parse("t-0123").unwrap(),
            secret: Zeroizing::new([2; 32]),
            role: JoinRole::Agent,
            ca_hash: [3; 32],
        }
    }

    fn with(body: &str) -> String {
        format!("cw1.{}", URL_SAFE_NO_PAD.encode(body))
    }

    #[test]
    fn golden() {
        let text = format(&token());
        let json = String::from_utf8(URL_SAFE_NO_PAD.decode(text.strip_prefix("cw1.").unwrap()).unwrap()).unwrap();
        let expected = format!(
            r#"{{"c":"{}","i":"t-0123","s":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI","r":"agent","h":"{}"}}"#,
            "01".repeat(16),
            "03".repeat(32)
        );
        assert_eq!(json, expected);
        let read = parse(&format!("  {}\n", *text)).unwrap();
        let token = token();
        assert_eq!((read.cluster_id, &read.id, read.role), (token.cluster_id, &token.id, token.role));
        assert_eq!((*read.secret, read.ca_hash), (*token.secret, token.ca_hash));
    }

    #[test]
    fn debug_does_not_print_the_secret() {
        let printed = format!("{:?}", token());
        assert!(!printed.contains("AgIC") && !printed.contains("2, 2") && !printed.contains("secret"), "{printed}");
    }

    #[test]
    fn every_truncated_token_is_refused_without_its_secret() {
        let text = format(&token());
        for at in 0..text.len() {
            let rejection = parse(&text[..at]).unwrap_err();
            assert_eq!(rejection.reason, Reason::InvalidToken, "cut at {at}");
            assert!(!rejection.message.contains("AgIC"), "{rejection}");
        }
    }

    #[test]
    fn malformed_tokens_are_refused() {
        let (c, s, h) = ("01".repeat(16), URL_SAFE_NO_PAD.encode([2; 32]), "03".repeat(32));
        let short = URL_SAFE_NO_PAD.encode([2; 31]);
        let table = [
            (String::new(), "start with"),
            ("cw2.e30".to_owned(), "start with"),
            ("cw1.!!!".to_owned(), "damaged"),
            (with("{}"), "damaged"),
            (with(&format!(r#"{{"c":"{c}","i":"t","s":"{s}","r":"node","h":"{h}","x":1}}"#)), "damaged"),
            (with(&format!(r#"{{"c":"{c}","i":"t","s":"{short}","r":"node","h":"{h}"}}"#)), "secret"),
            (with(&format!(r#"{{"c":"{c}","i":"t","s":"{s}A","r":"node","h":"{h}"}}"#)), "secret"),
            (with(&format!(r#"{{"c":"{c}","i":"t","s":"{s}","r":"node","h":"00"}}"#)), "CA hash"),
            (with(&format!(r#"{{"c":"00","i":"t","s":"{s}","r":"node","h":"{h}"}}"#)), "cluster id"),
            (with(&format!(r#"{{"c":"{c}","i":"T!","s":"{s}","r":"node","h":"{h}"}}"#)), "id is not a name"),
            (with(&format!(r#"{{"c":"{c}","i":"t","s":"{s}","r":"root","h":"{h}"}}"#)), "neither"),
            ("cw1.".to_owned() + &"A".repeat(TEXT_OCTETS_MAX - 3), "too long"),
        ];
        for (text, why) in table {
            let rejection = parse(&text).unwrap_err();
            assert_eq!(rejection.reason, Reason::InvalidToken, "{text}");
            assert!(rejection.message.contains(why), "{text}: {rejection}");
        }
    }
}

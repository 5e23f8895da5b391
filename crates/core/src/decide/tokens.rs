//! Decisions about join tokens: created, revoked, and redeemed by one key.
//!
//! It refuses to say more to a stranger than that the token will not do; a wrong secret is an unknown token.

use super::draft::Draft;
use super::{already_exists, misdirected, not_found};
use crate::command::Command;
use crate::event::{Event, TokenGrant};
use crate::ids::TokenId;
use crate::limits;
use crate::mutant::{self, Mutant};
use crate::rejection::{Reason, Rejection};
use crate::spec::validate_labels;
use crate::state::Token;
use crate::time::Timestamp;

pub(super) fn decide(draft: &mut Draft<'_>, command: &Command) -> Result<(), Rejection> {
    match command {
        Command::CreateToken { id, secret_hash, grant, expires_at } => {
            if draft.state.tokens.contains(id) {
                return Err(already_exists("token", id));
            }
            check_life(draft.now, *expires_at)?;
            if let TokenGrant::Agent { labels, .. } = grant {
                validate_labels("labels", labels)?;
            }
            let created = Event::TokenCreated {
                id: id.clone(),
                secret_hash: *secret_hash,
                grant: grant.clone(),
                expires_at: *expires_at,
            };
            draft.push(id.stream(), created);
            Ok(())
        }
        Command::RevokeToken { id, etag } => {
            let token = draft.state.tokens.get(id).ok_or_else(|| not_found("token", id))?;
            etag.check(&token.etag())?;
            if !token.revoked {
                draft.push(id.stream(), Event::TokenRevoked);
            }
            Ok(())
        }
        _ => Err(misdirected()),
    }
}

fn check_life(now: Timestamp, expires_at: Timestamp) -> Result<(), Rejection> {
    let life = expires_at.since(now);
    if life.is_zero() || life > limits::TOKEN_DURATION_MAX {
        let max = limits::TOKEN_DURATION_MAX;
        let message = format!("is {life:?}, more than nothing and at most {max:?} is required");
        return Err(Rejection::field(Reason::InvalidSpec, "duration", message));
    }
    Ok(())
}

/// Redeems a token for the key with this hash: an event the first time, nothing when the same key repeats. The grant
/// must be one that `fits`.
pub(super) fn redeem<'a>(
    draft: &mut Draft<'a>,
    id: &TokenId,
    secret_hash: &[u8; 32],
    spki_hash: [u8; 32],
    fits: impl FnOnce(&TokenGrant) -> Result<(), String>,
) -> Result<&'a Token, Rejection> {
    let known = draft.state.tokens.get(id).filter(|token| token.secret_hash == *secret_hash);
    let token = known.ok_or_else(|| Rejection::new(Reason::TokenUnknown, format!("token {id} is not known here")))?;
    if draft.state.cluster.is_before_epoch(token.uid.0.index) {
        let message = format!("token {id} was made before the cluster was restored");
        return Err(Rejection::new(Reason::TokenOldEpoch, message));
    }
    if token.revoked {
        return Err(Rejection::new(Reason::TokenRevoked, format!("token {id} was revoked")));
    }
    let is_another_key = token.consumed_by.is_some_and(|key| key != spki_hash);
    if is_another_key && !mutant::is(Mutant::TokenUsedTwice) {
        return Err(Rejection::new(Reason::TokenUsed, format!("token {id} was used by another key")));
    }
    if token.expires_at <= draft.now {
        return Err(Rejection::new(Reason::TokenExpired, format!("token {id} expired at {}", token.expires_at)));
    }
    fits(&token.grant).map_err(|cause| Rejection::new(Reason::TokenForeign, format!("token {id} {cause}")))?;
    if token.consumed_by.is_none() {
        draft.push(id.stream(), Event::TokenConsumed { spki_hash });
    }
    Ok(token)
}

//! Join tokens: their public half drawn, their secret half shown once.
//!
//! It refuses to keep a secret: the log has its SHA-256, and a repeated request cannot be shown it again.

use std::time::Duration;

use certwright_core::command::Command;
use certwright_core::event::TokenGrant;
use certwright_core::ids::TokenId;
use certwright_core::{Reason, Rejection, limits};
use zeroize::Zeroizing;

use crate::digest;
use crate::order::{Call, NewToken};
use crate::sequencer::Refusal;
use crate::session::{Ask, Session};

/// Creates a token that admits one joiner within `duration`, 15 minutes when absent.
pub(crate) async fn create(
    session: &Session,
    call: Call,
    grant: TokenGrant,
    duration: Option<Duration>,
) -> Result<NewToken, Rejection> {
    let duration = duration.unwrap_or(limits::TOKEN_DURATION_DEFAULT);
    let digest = if call.request_id.is_some() { digest::of(&(&grant, duration)) } else { [0; 16] };
    let id = TokenId::parse(&hex::encode(session.tools.draw::<8>()))?;
    let secret = Zeroizing::new(session.tools.draw::<32>().to_vec());
    let expires_at = session.tools.now_here().plus(duration);
    let command = Command::CreateToken { id: id.clone(), secret_hash: digest::sha256(&secret), grant, expires_at };
    let settled = session.submit(Ask::standing_for(call, digest, command)).await.map_err(Refusal::into_rejection)?;
    if settled.repeated {
        let message = "this request created a token before, and its secret was shown once; create another one";
        return Err(Rejection::new(Reason::AlreadyExists, message));
    }
    Ok(NewToken { id, secret, expires_at, outcome: settled.outcome })
}

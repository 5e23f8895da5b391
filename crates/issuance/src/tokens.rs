//! Join tokens: their public half drawn, their secret half shown once.
//!
//! It refuses to keep a secret, or to derive it from what is kept: the log has its SHA-256, and a repeated request is
//! told which token it made, so that the token can be revoked and another one created.

use std::time::Duration;

use certwright_core::command::Command;
use certwright_core::event::{Event, TokenGrant};
use certwright_core::ids::TokenId;
use certwright_core::log::Position;
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
        return Err(shown_once(session, settled.outcome.position).await?);
    }
    Ok(NewToken { id, secret, expires_at, outcome: settled.outcome })
}

/// Why a repeat is refused: it names the token that the request made the first time.
async fn shown_once(session: &Session, position: Position) -> Result<Rejection, Rejection> {
    let created = session.tools.find_event(position, |event| match event {
        Event::TokenCreated { id, .. } => Some(id.clone()),
        _ => None,
    });
    let id = created.await?;
    let message = format!("this request created token {id} before, and its secret was shown then and is not kept");
    Ok(Rejection::object(Reason::SecretShownOnce, format!("tokens/{id}"), message))
}

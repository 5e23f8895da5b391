//! Join tokens: their public half drawn, their secret half shown once.
//!
//! It refuses to keep a secret, or to derive it from what is kept: the log has its SHA-256, and a repeated request is
//! told which token it made, so that the token can be revoked and another one created.

use std::time::Duration;

use certwright_core::command::Command;
use certwright_core::event::{Event, TokenGrant};
use certwright_core::ids::TokenId;
use certwright_core::log::Position;
use certwright_core::{Reason, Rejection, State, limits};
use zeroize::Zeroizing;

use crate::digest;
use crate::order::{Call, NewToken};
use crate::sequencer::Refusal;
use crate::session::{Ask, Session};
use crate::signing::ATTEMPTS_MAX;

/// Creates a token that admits one joiner within `duration`, 15 minutes when absent.
pub(crate) async fn create(
    session: &Session,
    call: Call,
    grant: TokenGrant,
    duration: Option<Duration>,
) -> Result<NewToken, Rejection> {
    let duration = duration.unwrap_or(limits::TOKEN_DURATION_DEFAULT);
    let digest = if call.request_id.is_some() { digest::of(&(&grant, duration)) } else { [0; 16] };
    for _ in 0..ATTEMPTS_MAX {
        let id = TokenId::parse(&hex::encode(session.tools.draw::<8>()))?;
        let secret = Zeroizing::new(session.tools.draw::<32>().to_vec());
        let (now, rebased) = session.tools.log.read(|view| (session.tools.now(view), last_rebase(view.state)));
        let (expires_at, secret_hash) = (now.plus(duration), digest::sha256(&secret));
        let command = Command::CreateToken { id: id.clone(), secret_hash, grant: grant.clone(), expires_at };
        // Its end was measured by the time that held then.
        let ask = Ask::standing_for(call.clone(), digest, command)
            .while_holds(Box::new(move |state: &State| last_rebase(state) == rebased));
        match session.submit(ask).await {
            Ok(settled) if settled.repeated => return Err(shown_once(session, settled.outcome.position).await?),
            Ok(settled) => return Ok(NewToken { id, secret, expires_at, outcome: settled.outcome }),
            Err(Refusal::Moved) => {}
            Err(Refusal::Rejected(rejection)) => return Err(rejection),
        }
    }
    Err(Refusal::Moved.into_rejection())
}

/// Where log time was set back last.
fn last_rebase(state: &State) -> Option<u64> {
    state.cluster.rebases.last().map(|rebase| rebase.index)
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

//! Hands leadership over while this server's disk has no room for the log's next segment: others may have.
//!
//! It refuses to stay leader for the sake of it, and to hand over to whoever is short of room too.

use std::sync::Arc;
use std::time::Duration;

use crate::session::Session;
use crate::succession::heirs_with_room;

/// Between looks; each has the log look for room again, so that it goes on soon after some was made.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between attempts to hand over.
const ATTEMPT_EVERY: Duration = Duration::from_secs(3);

/// Runs until the term is over.
pub(crate) async fn run(session: Arc<Session>) {
    let mut attempts = 0;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if session.tools.log.has_room() {
            attempts = 0;
            continue;
        }
        let heirs = heirs_with_room(&session.tools).await;
        if heirs.is_empty() {
            continue;
        }
        let heir = heirs[attempts % heirs.len()];
        attempts += 1;
        tracing::warn!(heir, "no room for the log: leadership is handed over; free disk space on this server");
        if let Err(error) = session.tools.log.transfer_leader(heir).await {
            tracing::warn!(%error, heir, "leadership was not handed over");
        }
        tokio::time::sleep(ATTEMPT_EVERY).await;
    }
}

//! The agent's scope on its way down: the complete one, then what changed since.
//!
//! It refuses to hold the state's lock while it sends or reads certificates from the log.

use certwright_core::log::{Position, Transaction};
use certwright_core::state::{ScopeChange, ScopePage};
use certwright_core::{Event, Reason, Rejection};
use certwright_proto::agent::v1::server_message::Kind as Down;
use certwright_proto::agent::v1::{Bookmark, Gone};

use super::{Over, Session};

/// Instances looked up under one lock.
const PAGE: usize = 64;

impl Session {
    /// Sends the complete scope; answers the position it stands at.
    pub(super) async fn tell_everything(&self) -> Result<Position, Over> {
        // What changes while pages are sent changes after this position and is told again from there.
        let start = self.doors.log.read(|view| view.position);
        let mut cursor = None;
        loop {
            let page = self.doors.log.read(|view| view.state.scope_complete(&self.agent, cursor, PAGE));
            let Some(page) = page else { return Err(self.begin_again().await) };
            cursor = page.next.clone();
            self.tell(page).await?;
            if cursor.is_none() {
                break;
            }
        }
        self.bookmark(start, true).await?;
        Ok(start)
    }

    /// Sends what changed after a position; answers the position it stands at then.
    pub(super) async fn tell_changes(&self, after: Position) -> Result<Position, Over> {
        let mut cursor = after.into();
        let mut sent = false;
        loop {
            let (page, now) = self.doors.log.read(|view| {
                let moved = view.state.scope_changed(&self.agent) > after || sent;
                let page =
                    if moved { view.state.scope_since(&self.agent, cursor, PAGE) } else { Some(ScopePage::default()) };
                (page, view.position)
            });
            let Some(page) = page else { return Err(self.begin_again().await) };
            sent |= !page.changes.is_empty();
            let next = page.next.clone();
            self.tell(page).await?;
            match next {
                Some(next) => cursor = next,
                None => {
                    if sent {
                        self.bookmark(now, false).await?;
                    }
                    return Ok(now);
                }
            }
        }
    }

    /// What left the scope is not remembered that far back, because too much left, or because this server took its state over
    /// from another one. Only a session that says so at its beginning makes the agent forget what is not named.
    async fn begin_again(&self) -> Over {
        let message =
            "what left the agent's scope is not remembered that far back: it begins again with the complete scope";
        self.end(Rejection::new(Reason::TokenTooOld, message)).await
    }

    async fn tell(&self, page: ScopePage) -> Result<(), Over> {
        for change in page.changes {
            match change {
                ScopeChange::Present { certificate, instance } => {
                    match self.assignment(&certificate, instance).await {
                        Ok(Some((assignment, trace))) => self.send(Down::Assignment(assignment), trace).await?,
                        Ok(None) => {}
                        // No bookmark may follow: the agent would take what it was not told for gone.
                        Err(rejection) => return Err(self.end(rejection).await),
                    }
                }
                ScopeChange::Gone { certificate, instance } => {
                    let gone = Gone { certificate: certificate.stream().to_string(), instance: instance.to_string() };
                    self.send(Down::Gone(gone), String::new()).await?;
                }
            }
        }
        Ok(())
    }

    pub(super) async fn bookmark(&self, position: Position, complete: bool) -> Result<(), Over> {
        let token = Some(self.doors.token(position));
        self.send(Down::Bookmark(Bookmark { token, complete }), String::new()).await
    }

    /// The transaction at a position that state refers to, read on a worker: it may have to come from disk.
    pub(super) async fn transaction(&self, position: Position) -> Option<Transaction<Event>> {
        let found = crate::history::transaction(&self.doors, position).await;
        let found = found.inspect_err(|error| {
            tracing::warn!(%position, %error, "an entry that state refers to cannot be read");
        });
        found.ok().flatten().map(|found| found.transaction)
    }
}

//! Which agents have news: one look at state for all sessions of this server, so that a busy log wakes those alone whom
//! it concerns.
//!
//! It refuses to tell anything: a session that is woken looks for itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use certwright_core::State;
use certwright_core::ids::{AgentName, Uid};
use certwright_core::log::{Position, Revision};
use tokio::sync::watch;
use tokio::time::sleep;

use super::trust::{self, Announced};
use crate::doors::Doors;
use crate::limits::NEWS_PAUSE;

/// Sessions looked at under one lock of state.
const SLICE: usize = 256;

/// Everything that a session has to tell its agent when it changes, but for checkpoints, which it looks for now and then.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    registered: Option<(Uid, Revision)>,
    scope: Position,
    roots: Announced,
}

impl Seen {
    fn of(state: &State, agent: &AgentName, roots: Announced) -> Self {
        let registered = state.agents.get(agent).map(|agent| (agent.uid, agent.revision));
        Self { registered, scope: state.scope_changed(agent), roots }
    }
}

/// The sessions of this server that wait for news.
#[derive(Default)]
pub(crate) struct News(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    sessions: BTreeMap<u64, Session>,
    newest: u64,
    is_over: bool,
}

struct Session {
    agent: AgentName,
    seen: Option<Seen>,
    wake: watch::Sender<()>,
}

/// A session's place among those that wait, until it is dropped.
pub(super) struct Subscription {
    doors: Arc<Doors>,
    number: u64,
    woken: watch::Receiver<()>,
}

impl News {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes everybody who has news.
    fn tell(&self, doors: &Doors) {
        let mut after = 0;
        loop {
            let mut waiting = self.waiting();
            let mut left = SLICE;
            doors.log.read(|view| {
                let roots = trust::mark(view.state);
                for (number, session) in waiting.sessions.range_mut(after + 1..).take(SLICE) {
                    (after, left) = (*number, left - 1);
                    let seen = Some(Seen::of(view.state, &session.agent, roots));
                    if session.seen != seen {
                        session.seen = seen;
                        session.wake.send_replace(());
                    }
                }
            });
            if left > 0 {
                return;
            }
        }
    }

    /// Nobody is woken any more, and everybody is told so.
    fn end(&self) {
        let mut waiting = self.waiting();
        waiting.is_over = true;
        waiting.sessions.clear();
    }
}

/// Wakes sessions until this server stops or its log does.
pub(crate) async fn run(doors: Arc<Doors>) {
    let mut applied = doors.log.applied();
    loop {
        tokio::select! {
            biased;
            () = doors.draining.cancelled() => break,
            changed = applied.changed() => if changed.is_err() { break },
        }
        doors.news.tell(&doors);
        sleep(NEWS_PAUSE).await;
    }
    doors.news.end();
}

impl Subscription {
    /// From here on whatever changes for the agent wakes its session.
    pub(super) fn of(doors: &Arc<Doors>, agent: &AgentName) -> Self {
        let (wake, woken) = watch::channel(());
        let mut waiting = doors.news.waiting();
        waiting.newest += 1;
        let number = waiting.newest;
        if !waiting.is_over {
            waiting.sessions.insert(number, Session { agent: agent.clone(), seen: None, wake });
        }
        Self { doors: doors.clone(), number, woken }
    }

    /// What is looked at from now on is no news any more.
    pub(super) fn look(&mut self) {
        self.woken.mark_unchanged();
    }

    /// Waits for news since the last look; `false` when none will come.
    pub(super) async fn changed(&mut self) -> bool {
        self.woken.changed().await.is_ok()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.doors.news.waiting().sessions.remove(&self.number);
    }
}

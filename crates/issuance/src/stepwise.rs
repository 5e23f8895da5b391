//! How the leader brings the cluster to where it should be: the next steps follow from state, each is taken until it
//! succeeds, and nothing is remembered in between, so that whoever leads next goes on.
//!
//! It refuses to know what the steps are.

use std::sync::Arc;
use std::time::Duration;

use crate::session::Session;

/// First and longest wait before a step that failed is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// Between looks when nothing changes.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// One such work.
pub(crate) trait Work: Send + Sync + 'static {
    type Step: Send;

    /// What is to be done now.
    fn steps(session: &Session) -> Vec<Self::Step>;

    /// Does it; whether it succeeded.
    fn take(session: &Session, step: Self::Step) -> impl Future<Output = bool> + Send;
}

/// Runs until the term is over.
pub(crate) async fn run<W: Work>(session: Arc<Session>) {
    let mut wait = RETRY.0;
    let mut seen = None;
    loop {
        let revision = session.tools.log.read(|view| view.state.cluster.revision);
        // What failed may succeed now that something changed.
        if seen.replace(revision) != Some(revision) {
            wait = RETRY.0;
        }
        let pause = if round::<W>(&session).await {
            wait = RETRY.0;
            LOOK_EVERY
        } else {
            wait = (wait * 2).min(RETRY.1);
            wait
        };
        tokio::select! {
            biased;
            () = session.cluster_moves(revision) => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Takes steps until nothing is left to do, or one failed: then it is false.
async fn round<W: Work>(session: &Session) -> bool {
    loop {
        let steps = W::steps(session);
        if steps.is_empty() {
            return true;
        }
        let mut done = true;
        for step in steps {
            done &= W::take(session, step).await;
        }
        if !done {
            return false;
        }
    }
}

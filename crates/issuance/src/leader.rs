//! Follows leadership: opens the keys and starts the rooms of a term when this server may decide, stops and locks them
//! when it may not.
//!
//! It refuses to act between terms: there is a session only while this server leads and can open the data key.

use std::sync::Arc;
use std::time::Duration;

use certwright_custody::Custody;
use certwright_raft::Leadership;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::admission::Admission;
use crate::rotation::Rotation;
use crate::sequencer::{QUEUE_MAX, Sequencer};
use crate::session::{Session, Tools};
use crate::{authorities, checkpoints, retention, scheduler, space, stepwise, succession, upgrade};

/// Between attempts to open the data key.
const UNLOCK_RETRY: Duration = Duration::from_secs(1);

/// The session of the current term, as calls find it.
pub(crate) type Current = watch::Sender<Option<Arc<Session>>>;

/// Runs until the log stops or `stopped` is cancelled.
pub(crate) async fn follow(tools: Arc<Tools>, current: Arc<Current>, stopped: CancellationToken) {
    let mut leadership = tools.log.leadership();
    loop {
        let now = *leadership.borrow_and_update();
        if now.ready {
            lead(&tools, &current, &mut leadership, now.term, &stopped).await;
        }
        tokio::select! {
            biased;
            () = stopped.cancelled() => return,
            // A term may have ended and another begun while the last one was wound down.
            () = until(&mut leadership, |now| now.ready) => {}
        }
        if leadership.has_changed().is_err() {
            return;
        }
    }
}

/// Resolves when leadership is so, or will never change again.
async fn until(leadership: &mut watch::Receiver<Leadership>, so: impl FnMut(&Leadership) -> bool) {
    let _ = leadership.wait_for(so).await;
}

/// One term.
async fn lead(
    tools: &Arc<Tools>,
    current: &Current,
    leadership: &mut watch::Receiver<Leadership>,
    term: u64,
    stopped: &CancellationToken,
) {
    let lost = async {
        tokio::select! {
            biased;
            () = stopped.cancelled() => {}
            () = until(leadership, |now| !now.ready || now.term != term) => {}
        }
    };
    tokio::pin!(lost);
    tokio::select! {
        biased;
        () = &mut lost => {}
        () = unlock(tools) => {
            let session = start(tools);
            current.send_replace(Some(session.clone()));
            tracing::info!(term, "leading");
            lost.await;
            current.send_replace(None);
            session.over.cancel();
            tracing::info!(term, "no longer leading");
        }
    }
    tools.custody.lock();
    tools.metrics.leading.set(0);
    tools.metrics.held.set(0);
}

fn start(tools: &Arc<Tools>) -> Arc<Session> {
    let (queue, queued) = mpsc::unbounded_channel();
    let session = Arc::new(Session::new(tools.clone(), queue, QUEUE_MAX));
    tools.metrics.leading.set(1);
    tokio::spawn(Sequencer::new(tools.clone(), session.over.clone()).run(queued));
    spawn_for(&session, scheduler::run(session.clone()));
    spawn_for(&session, authorities::resume(session.clone()));
    spawn_for(&session, checkpoints::run(session.clone()));
    spawn_for(&session, retention::run(session.clone()));
    spawn_for(&session, space::run(session.clone()));
    spawn_for(&session, upgrade::run(session.clone()));
    spawn_for(&session, stepwise::run::<Admission>(session.clone()));
    spawn_for(&session, stepwise::run::<Rotation>(session.clone()));
    session
}

/// Runs a room of the term, at most until the term is over.
fn spawn_for(session: &Arc<Session>, room: impl Future<Output = ()> + Send + 'static) {
    let over = session.over.clone();
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = over.cancelled() => {}
            () = room => {}
        }
    });
}

/// Opens the data key and hands it to custody; returns at once before the cluster exists.
async fn unlock(tools: &Arc<Tools>) {
    loop {
        match tools.data_keys() {
            Ok(Some((in_use, replaced))) => {
                tools.custody.unlock_rotating(in_use, replaced);
                return;
            }
            Ok(None) => return,
            Err(error) => {
                tracing::error!(%error, "this server leads but cannot open the data key");
                succession::give_up(tools).await;
            }
        }
        tokio::time::sleep(UNLOCK_RETRY).await;
    }
}

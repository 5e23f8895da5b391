//! This agent as a witness of the servers' log: it keeps the newest checkpoint and takes nothing from a server whose log
//! contradicts it.
//!
//! It refuses quietly never: the refused server and the next one that is taken are told, and the log is.

use std::sync::Arc;

use certwright_core::ids::ClusterId;
use certwright_proto::agent::v1::{
    AgentMessage, Checkpoint, CheckpointMark, CheckpointRefused, Welcome, agent_message,
};
use certwright_seams::Seams;
use certwright_seams::exec::compute;
use tokio::sync::watch;

use super::{Agent, AgentError};
use crate::checkpoint::{self, Contradiction, Kept};
use crate::store::Store;

/// What this agent has seen of the servers' log.
pub(super) struct Witness {
    cluster_id: ClusterId,
    kept: Option<Kept>,
    /// As greetings name it.
    mark: watch::Sender<Option<CheckpointMark>>,
    /// The open session's server has not come to what is kept: whether it gets there is asked anew.
    is_behind: bool,
    /// Ends the session whenever it changes.
    refusals: watch::Sender<u64>,
    /// The server of the open session is not listened to.
    pub(super) is_refusing: bool,
    /// What the next server is to be told.
    untold: Option<CheckpointRefused>,
}

impl Witness {
    /// With what was kept before.
    pub(super) async fn open(cluster_id: ClusterId, store: Arc<Store>, seams: &Seams) -> Result<Self, AgentError> {
        let kept = compute(&*seams.exec, "files", move || store.load_checkpoint(cluster_id)).await?;
        Ok(Self {
            cluster_id,
            kept,
            mark: watch::Sender::new(kept.map(|kept| kept.mark())),
            refusals: watch::Sender::new(0),
            is_behind: false,
            is_refusing: false,
            untold: None,
        })
    }

    /// As greetings name it.
    pub(super) fn mark(&self) -> watch::Receiver<Option<CheckpointMark>> {
        self.mark.subscribe()
    }

    /// Whether the servers' log is one that was restored: it may know less than this agent.
    pub(super) fn is_restored(&self) -> bool {
        self.restored_epoch().is_some()
    }

    /// Epoch of a log that was restored.
    pub(super) fn restored_epoch(&self) -> Option<u64> {
        self.kept.map(|kept| kept.epoch()).filter(|epoch| *epoch > 1)
    }

    /// Changes when the session is to end.
    pub(super) fn refusals(&self) -> watch::Receiver<u64> {
        self.refusals.subscribe()
    }
}

impl Agent {
    /// Whether the server may be listened to, by what it says of its log.
    pub(super) async fn is_trustworthy(&mut self, welcome: &Welcome) -> bool {
        let Witness { kept, cluster_id, .. } = self.witness;
        match checkpoint::greeted(kept, welcome, cluster_id) {
            Ok(greeted) => {
                self.witness.is_behind = greeted.is_behind;
                if let (Some(shown), true) = (&welcome.checkpoint, greeted.kept != kept) {
                    self.keep(greeted.kept, shown.clone()).await;
                }
                if let Some(untold) = self.witness.untold.take() {
                    self.say(untold);
                }
                true
            }
            Err(contradiction) => {
                self.distrust(&welcome.server, &contradiction);
                false
            }
        }
    }

    /// A newer checkpoint, during a session.
    pub(super) async fn on_checkpoint(&mut self, shown: Checkpoint) {
        let Witness { kept, cluster_id, .. } = self.witness;
        let next = Kept::verified(&shown, cluster_id).and_then(|shown| checkpoint::told(kept, shown));
        match next {
            Ok(next) if Some(next) != kept && self.witness.is_behind => {
                // It has come past what is kept: on the same way, as it must show in another greeting.
                self.witness.refusals.send_modify(|ends| *ends += 1);
            }
            Ok(next) if Some(next) != kept => self.keep(Some(next), shown).await,
            Ok(_) => {}
            Err(contradiction) => {
                let server = self.identity.server().to_string();
                self.distrust(&server, &contradiction);
            }
        }
    }

    /// Makes it durable; what is not durable is not kept, and shown again.
    async fn keep(&mut self, next: Option<Kept>, shown: Checkpoint) {
        let store = self.store.clone();
        if let Err(error) = compute(&*self.seams.exec, "files", move || store.save_checkpoint(&shown)).await {
            return tracing::error!(%error, "the state directory cannot be written: the checkpoint is not kept");
        }
        let epoch = |kept: &Option<Kept>| kept.as_ref().map(Kept::epoch);
        if self.witness.kept.is_some() && epoch(&next) != epoch(&self.witness.kept) {
            tracing::warn!(
                epoch = epoch(&next),
                "the servers' log is a restored one: what it does not know is kept here and shown to them"
            );
        }
        tracing::debug!(index = next.as_ref().map(Kept::index), "a checkpoint of the servers' log is kept");
        self.witness.kept = next;
        self.witness.mark.send_replace(next.map(|kept| kept.mark()));
    }

    fn distrust(&mut self, server: &str, contradiction: &Contradiction) {
        let address = self.identity.server();
        tracing::error!(server, address, cause = %contradiction, "nothing is taken from a server: its log is not the one that this agent has seen");
        let refused = CheckpointRefused { server: server.to_string(), message: contradiction.to_string() };
        self.say(refused.clone());
        self.witness.untold = Some(refused);
        self.witness.is_refusing = true;
        self.welcomed = false;
        self.witness.refusals.send_modify(|refusals| *refusals += 1);
    }

    /// Tells the server of the open session, if there is room: it is told again by the next refusal.
    fn say(&self, refused: CheckpointRefused) {
        self.send_up(agent_message::Kind::CheckpointRefused(refused));
    }

    /// Sends what needs no answer, if there is room.
    pub(super) fn send_up(&self, kind: agent_message::Kind) {
        if let Some(sender) = &self.sender {
            let _ = sender.try_send(AgentMessage { kind: Some(kind), traceparent: String::new() });
        }
    }
}

//! The log's checkpoints on their way to agents: the newest one, and what became of the one that an agent has.
//!
//! It refuses to repeat what the agent says: the chain that it is told comes from this server's own log.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use certwright_core::rejection;
use certwright_core::state::State;
use certwright_proto::agent::v1::server_message::Kind as Down;
use certwright_proto::agent::v1::{Checkpoint, CheckpointMark, CheckpointRefused, Recalled};
use certwright_proto::internal::v1::RefusedLog;
use certwright_seams::exec::compute;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{Over, Session};
use crate::doors::Doors;
use crate::limits::{CHECKPOINT_INTERVAL, RECALL_WAIT, RECALLED_CHAINS_MAX, REFUSAL_OCTETS_MAX, REFUSED_LOGS_MAX};

/// What a session was told last: which checkpoint, and when.
#[derive(Clone, Copy)]
pub(super) struct Told {
    index: u64,
    at: Duration,
}

impl Session {
    /// The newest checkpoint and how far this server has applied, at least.
    pub(super) fn newest_checkpoint(&self) -> (Option<Checkpoint>, u64) {
        // Before the state is read: what is published as applied is never ahead of it.
        let applied = self.doors.log.applied().borrow().index;
        (self.doors.log.read(|view| newest(view.state)), applied)
    }

    /// What Welcome has told.
    pub(super) fn told(&self, checkpoint: Option<&Checkpoint>) -> Told {
        Told { index: checkpoint.map_or(0, |checkpoint| checkpoint.index), at: self.doors.seams.clock.monotonic() }
    }

    /// Tells the newest checkpoint, now and then.
    pub(super) async fn tell_checkpoint(&self, last: Told) -> Result<Told, Over> {
        let now = self.doors.seams.clock.monotonic();
        if now.saturating_sub(last.at) < CHECKPOINT_INTERVAL {
            return Ok(last);
        }
        let newest = self.doors.log.read(|view| newest(view.state).filter(|newest| newest.index > last.index));
        let Some(checkpoint) = newest else { return Ok(last) };
        let told = Told { index: checkpoint.index, at: now };
        self.send(Down::Checkpoint(checkpoint), String::new()).await?;
        Ok(told)
    }

    /// How the log stood where the agent's checkpoint ends.
    pub(super) async fn recall(&self, mark: &CheckpointMark) -> Recalled {
        if mark.epoch != self.doors.epoch {
            return Recalled::default();
        }
        let chain = self.doors.chains.after(mark.index, &self.doors).await;
        let told = |chain: [u8; 32]| Recalled { is_read: true, chain: chain.to_vec().into(), index: mark.index };
        chain.map_or_else(Recalled::default, told)
    }

    /// An agent takes nothing from a server, perhaps this one.
    pub(super) fn checkpoint_refused(&self, refused: &CheckpointRefused) {
        self.doors.metrics.checkpoints_refused.inc();
        let [server, cause] =
            [&refused.server, &refused.message].map(|it| rejection::told(it.clone(), REFUSAL_OCTETS_MAX));
        tracing::error!(agent = %self.agent, server, cause, "an agent has seen another log than that server has");
        self.doors.refused_logs.note(server, cause);
    }
}

/// How the log stood after entries that agents asked for. Most of them keep one of the newest few checkpoints, and come all
/// at once when a server goes: each value is computed once. Computing one reads up to a segment of the log; an agent that
/// asks for what nobody signed delays others for a moment, and then they do without.
pub(crate) struct Chains {
    /// The oldest first.
    known: std::sync::Mutex<VecDeque<(u64, [u8; 32])>>,
    /// One at a time.
    reading: Semaphore,
}

impl Default for Chains {
    fn default() -> Self {
        Self { known: std::sync::Mutex::default(), reading: Semaphore::new(1) }
    }
}

impl Chains {
    fn known(&self, index: u64) -> Option<[u8; 32]> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|(at, _)| *at == index).map(|(_, chain)| *chain)
    }

    async fn after(&self, index: u64, doors: &Doors) -> Option<[u8; 32]> {
        if index > doors.log.applied().borrow().index {
            return None;
        }
        if let Some(chain) = self.known(index) {
            return Some(chain);
        }
        let _turn = timeout(RECALL_WAIT, self.reading.acquire()).await.ok()?.ok()?;
        // Whoever was before may have asked for the same.
        if let Some(chain) = self.known(index) {
            return Some(chain);
        }
        let log = doors.log.clone();
        let read = compute(&*doors.seams.exec, "read", move || log.chain_after(index)).await;
        let chain = read.inspect_err(|error| tracing::warn!(index, %error, "the log cannot be read")).ok()??;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.push_back((index, chain));
        if known.len() > RECALLED_CHAINS_MAX {
            known.pop_front();
        }
        Some(chain)
    }
}

/// Whose log agents refused, and why the last one did.
#[derive(Clone, Default)]
pub(crate) struct RefusedLogs(Arc<std::sync::Mutex<BTreeMap<String, (u64, String)>>>);

impl RefusedLogs {
    /// An agent names servers as it likes: only so many are remembered.
    fn note(&self, server: String, cause: String) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < REFUSED_LOGS_MAX || known.contains_key(&server) {
            let (times, newest) = known.entry(server).or_default();
            (*times, *newest) = (*times + 1, cause);
        }
    }

    /// All of them, by name.
    pub(crate) fn told(&self) -> Vec<RefusedLog> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = known.iter().map(|(server, (times, cause))| (server.clone(), *times, cause.clone()));
        told.map(|(server, times, cause)| RefusedLog { server, times, cause }).collect()
    }
}

fn newest(state: &State) -> Option<Checkpoint> {
    let checkpoints = &state.cluster.checkpoints;
    let (key, (signed, _)) = (checkpoints.key.as_ref()?, checkpoints.last?);
    Some(Checkpoint {
        epoch: signed.epoch,
        index: signed.index,
        chain: signed.chain.to_vec().into(),
        at_millis: signed.at.millis(),
        public_key: key.public_key.to_vec().into(),
        signature: signed.signature.to_vec().into(),
    })
}

//! Roots as the servers announce them: made durable, then trusted, and said out loud.
//!
//! It refuses to trust what is not on disk: a restart must not believe less, or more, than it did.

use std::sync::Arc;

use certwright_proto::agent::v1::TrustBundle;
use certwright_seams::Seams;
use certwright_seams::exec::compute;
use prost::Message;

use super::{Agent, AgentError, AgentOptions};
use crate::failure::FailureReason;
use crate::store::Store;
use crate::trust::{Announcement, TRUST_OCTETS_MAX, Trust};

/// The operator's file, or what was announced before.
pub(super) async fn open(options: &AgentOptions, seams: &Seams, store: Arc<Store>) -> Result<Trust, AgentError> {
    let (path, disk) = (options.trust_bundle.clone(), seams.disk.clone());
    compute(&*seams.exec, "files", move || match path {
        Some(path) => Ok(Trust::from_file(&*disk, &path)?),
        None => Ok(Trust::announced(store.load_trust()?)),
    })
    .await
}

impl Agent {
    /// The servers announce the estate's roots.
    pub(super) async fn on_trust(&mut self, announced: TrustBundle) {
        let fresh = match self.worker.trust.compare(&announced) {
            Announcement::Known => return,
            Announcement::Stale => {
                return tracing::warn!(index = announced.index, "an announcement of roots is older than the one held");
            }
            Announcement::News(fresh) => fresh,
        };
        if announced.encoded_len() as u64 > TRUST_OCTETS_MAX {
            return tracing::error!("the announced roots are more than an agent remembers");
        }
        let (store, kept) = (self.store.clone(), announced.clone());
        if let Err(error) = compute(&*self.seams.exec, "files", move || store.save_trust(&kept)).await {
            // Said again in the next session; until then what chains there is refused, and reported so.
            return tracing::error!(%error, "the state directory cannot be written: the announced roots are not trusted");
        }
        // The first roots are expected; one that comes later is somebody's decision, and worth a look.
        let first = self.worker.trust.is_empty();
        for (authority, sha256) in fresh {
            match first {
                true => tracing::info!(authority, sha256, index = announced.index, "a root is trusted"),
                false => {
                    tracing::warn!(authority, sha256, index = announced.index, "another root is trusted from now on")
                }
            }
        }
        self.worker.trust.adopt(announced);
        self.forgive_roots();
    }

    /// What was refused for its root is tried again at once.
    fn forgive_roots(&mut self) {
        for (instance, entry) in &mut self.entries {
            if entry.held.refused.is_some_and(|(_, reason)| reason == FailureReason::UntrustedRoot) {
                entry.held.attempts.clear();
                self.ready.insert(*instance);
            }
        }
    }
}

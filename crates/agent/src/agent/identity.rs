//! The agent's own context: its servers as they name themselves, and its identity, renewed over the session when half of
//! its life is over, or when it begins in the future by the servers' clocks, taken into use without a restart.
//!
//! It refuses an identity that is not for its key or names another, and to ask again and again. Every identity has a new
//! key, durable before it is asked for: servers may commit it and the answer be lost, then the same key is asked for again,
//! under the old one, which they take until then.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use certwright_core::limits::BEGINS_AHEAD_MAX;
use certwright_core::spec::{KeyAlgorithm, KeyEncoding};
use certwright_core::time::Timestamp;
use certwright_core::x509::inspect::inspect;
use certwright_core::x509::{Names, pem};
use certwright_custody::LeafKey;
use certwright_proto::agent::v1::{IdentityIssued, IdentityRenewal};
use certwright_seams::Seams;
use certwright_seams::exec::compute;
use zeroize::Zeroizing;

use super::AgentOptions;
use crate::connect::{Connector, IdentitySource};
use crate::context::Context;
use crate::fault::{Fault, WriteStep};
use crate::plan::Now;
use crate::store::Store;

/// Between two attempts; also what a lost answer costs.
const ATTEMPT_INTERVAL: Duration = Duration::from_secs(60);

/// Servers of one cluster that are remembered.
const SERVERS_MAX: usize = 64;

/// Keeps the identity young.
pub(super) struct IdentityKeeper {
    source: Arc<IdentitySource>,
    context: Context,
    path: PathBuf,
    store: Arc<Store>,
    fault: Fault,
    /// The key of the next identity, durable, once it was needed.
    next: Option<LeafKey>,
    /// Whether a certificate was asked for in this session.
    pending: bool,
    not_before_next: Duration,
    /// The servers' wall clock minus ours, in milliseconds: they judge the identity by theirs.
    offset_millis: i64,
    server: String,
}

impl IdentityKeeper {
    pub(super) fn new(connector: &Connector, context: Context, options: &AgentOptions, store: Arc<Store>) -> Self {
        Self {
            source: connector.identity().clone(),
            context,
            path: options.context_path.clone(),
            store,
            fault: options.fault.clone(),
            next: None,
            pending: false,
            not_before_next: Duration::ZERO,
            offset_millis: 0,
            server: String::new(),
        }
    }

    /// `agent/{name}`.
    pub(super) fn name(&self) -> String {
        self.context.actor.to_string()
    }

    pub(super) fn on_server(&mut self, server: String) {
        self.server = server;
    }

    /// The server of the open session.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    pub(super) fn on_welcome(&mut self, servers_clock: Option<Timestamp>, now: Now) {
        if let Some(clock) = servers_clock {
            self.offset_millis = clock.millis() as i64 - now.wall.millis() as i64;
        }
    }

    pub(super) fn on_down(&mut self) {
        self.pending = false;
    }

    /// Whether it is time to ask for a new identity; says so once an interval.
    pub(super) fn is_due(&mut self, now: Now) -> bool {
        let Some((not_before, not_after)) = self.source.dates() else { return false };
        let half = not_before.plus(not_after.since(not_before) / 2);
        let is_wanted = self.servers_now(now) >= half || self.is_ahead(not_before, now);
        if !is_wanted || now.monotonic < self.not_before_next {
            return false;
        }
        self.not_before_next = now.monotonic + self.interval((not_before, not_after), now);
        true
    }

    fn servers_now(&self, now: Now) -> Timestamp {
        Timestamp::from_millis(now.wall.millis().saturating_add_signed(self.offset_millis))
    }

    /// Whether what begins then was issued while log time was ahead of the servers' clocks: its half life may be a year
    /// away, and all that time it would open sessions although it was to live for a day.
    fn is_ahead(&self, not_before: Timestamp, now: Now) -> bool {
        self.servers_now(now).plus(BEGINS_AHEAD_MAX) < not_before
    }

    /// From one attempt to the next, with an identity of that life. One that begins in the future is good meanwhile, and
    /// while log time is ahead the next one begins there, too: asked for at once, every one would bring another entry.
    fn interval(&self, (not_before, not_after): (Timestamp, Timestamp), now: Now) -> Duration {
        let eighth = not_after.since(not_before) / 8;
        if self.is_ahead(not_before, now) { eighth } else { ATTEMPT_INTERVAL.min(eighth) }
    }

    /// The request for a new identity.
    pub(super) async fn request(&mut self, seams: &Seams) -> Option<IdentityRenewal> {
        match self.make_request(seams).await {
            Ok(csr) => {
                self.pending = true;
                Some(IdentityRenewal { csr: csr.into() })
            }
            Err(cause) => {
                tracing::error!(cause, "no request for a new identity could be made");
                None
            }
        }
    }

    async fn make_request(&mut self, seams: &Seams) -> Result<Vec<u8>, String> {
        let name = self.context.actor.to_string();
        let name = name.split_once('/').map_or(name.as_str(), |(_, name)| name).to_string();
        let key = match self.next.take() {
            Some(key) => key,
            None => {
                let present = LeafKey::from_pem(&self.context.key_pem).map_err(|error| error.to_string())?;
                let (store, present) = (self.store.clone(), present.spki_hash());
                let key = compute(&*seams.exec, "keys", move || next_key(&store, present)).await?;
                self.fault.at(WriteStep::IdentityKeyStored);
                key
            }
        };
        let key = self.next.insert(key);
        key.request(&Names { common_name: Some(name), ..Names::default() }).map_err(|error| error.to_string())
    }

    /// The servers answered.
    pub(super) async fn on_issued(&mut self, issued: IdentityIssued, now: Now, seams: &Seams) {
        if !std::mem::take(&mut self.pending) {
            return;
        }
        if !issued.reason.is_empty() {
            tracing::error!(reason = issued.reason, message = issued.message, "no new identity");
            return;
        }
        self.fault.at(WriteStep::IdentityAnswered);
        match self.adopt(&issued, now, seams).await {
            Ok(not_after) => tracing::info!(%not_after, "identity renewed"),
            Err(cause) => tracing::error!(cause, "the new identity cannot be used; the old one stays"),
        }
    }

    async fn adopt(&mut self, issued: &IdentityIssued, now: Now, seams: &Seams) -> Result<Timestamp, String> {
        let certificate = inspect(&issued.certificate).map_err(|rejection| rejection.to_string())?;
        let key = self.next.as_ref().ok_or("it was not asked for")?;
        if certificate.spki_hash != key.spki_hash() {
            return Err("it is not for our key".to_string());
        }
        let named = certificate.names.uris.iter().find_map(|uri| certwright_proto::identity::parse_uri(uri));
        if named != Some((self.context.cluster_id, self.context.actor.clone())) {
            return Err("it names another agent or cluster".to_string());
        }
        let root = self.context.root()?;
        let intermediates = issued.chain.iter().filter(|der| der.as_ref() != root.as_ref());
        let intermediates = intermediates.map(|der| pem::certificate(der));
        let next = Context {
            cluster_id: self.context.cluster_id,
            actor: self.context.actor.clone(),
            servers: self.context.servers.clone(),
            ca_pem: self.context.ca_pem.clone(),
            certificate_pem: std::iter::once(pem::certificate(&issued.certificate)).chain(intermediates).collect(),
            key_pem: key.to_pem(KeyEncoding::Pkcs8).map_err(|error| error.to_string())?,
        };
        // Durable before it is used: a restart must not fall back to one that is about to end.
        self.save(&next, seams).await?;
        self.fault.at(WriteStep::IdentityStored);
        self.source.replace(&next)?;
        (self.context, self.next) = (next, None);
        let store = self.store.clone();
        if let Err(error) = compute(&*seams.exec, "files", move || store.remove_identity_key()).await {
            tracing::warn!(%error, "the copy of the identity's key could not be removed");
        }
        self.fault.at(WriteStep::IdentityAdopted);
        self.not_before_next = now.monotonic + self.interval((certificate.not_before, certificate.not_after), now);
        Ok(certificate.not_after)
    }

    /// The servers named themselves: returns whom to connect to from now on, when that is news. The one that this
    /// session goes to stays among them: it is known to work from here, whatever the servers think they are called.
    pub(super) async fn on_servers(&mut self, named: &[String], seams: &Seams) -> Option<Vec<String>> {
        let mut servers: Vec<String> = named.iter().take(SERVERS_MAX).cloned().collect();
        if !servers.contains(&self.server) {
            servers.push(self.server.clone());
        }
        servers.sort();
        if named.is_empty() || servers == self.context.servers {
            return None;
        }
        self.context.servers = servers.clone();
        if let Err(cause) = self.save(&self.context, seams).await {
            tracing::error!(cause, "the servers cannot be remembered");
        }
        Some(servers)
    }

    async fn save(&self, context: &Context, seams: &Seams) -> Result<(), String> {
        let (octets, path, disk): (Zeroizing<Vec<u8>>, _, _) =
            (context.format(), self.path.clone(), seams.disk.clone());
        compute(&*seams.exec, "files", move || disk.write_atomic(&path, &octets, 0o600))
            .await
            .map_err(|error| format!("{}: {error}", self.path.display()))
    }
}

/// The key of the next identity: the one that may have been asked for before, or a new one.
fn next_key(store: &Store, present: [u8; 32]) -> Result<LeafKey, String> {
    let stored = store.load_identity_key().map_err(|error| format!("state directory: {error}"))?;
    let stored = stored.and_then(|der| match LeafKey::from_der(&der) {
        Ok(key) => Some(key),
        Err(error) => {
            tracing::warn!(%error, "the key of the next identity is unusable; another one is made");
            None
        }
    });
    // One that is in use already was left by a crash right after it came into use.
    if let Some(key) = stored.filter(|key| key.spki_hash() != present) {
        return Ok(key);
    }
    let key = LeafKey::generate(KeyAlgorithm::EcdsaP256).map_err(|error| error.to_string())?;
    let pkcs8 = key.to_pkcs8().map_err(|error| error.to_string())?;
    store.save_identity_key(&pkcs8).map_err(|error| format!("state directory: {error}"))?;
    Ok(key)
}

#[cfg(test)]
mod tests;

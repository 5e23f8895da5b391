//! The agent's own context: its servers as they name themselves, and its identity, renewed over the session when half of its life is over, taken into use without a restart.
//!
//! It refuses an identity that is not for its key or names another, and to ask again and again. The key stays the same:
//! servers know an agent by its newest key, and a reply lost after a new key was committed would lock the agent out.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use certwright_core::time::Timestamp;
use certwright_core::x509::inspect::inspect;
use certwright_core::x509::{Names, pem};
use certwright_custody::{CustodyError, LeafKey};
use certwright_proto::agent::v1::{IdentityIssued, IdentityRenewal};
use certwright_seams::Seams;
use certwright_seams::exec::compute;
use zeroize::Zeroizing;

use crate::connect::IdentitySource;
use crate::context::Context;
use crate::plan::Now;

/// Between two attempts; also what a lost answer costs.
const ATTEMPT_INTERVAL: Duration = Duration::from_secs(60);

/// Servers of one cluster that are remembered.
const SERVERS_MAX: usize = 64;

/// Keeps the identity young.
pub(super) struct IdentityKeeper {
    source: Arc<IdentitySource>,
    context: Context,
    path: PathBuf,
    /// Whether a certificate was asked for in this session.
    pending: bool,
    not_before_next: Duration,
    /// The servers' wall clock minus ours, in milliseconds: they judge the identity by theirs.
    offset_millis: i64,
    server: String,
}

impl IdentityKeeper {
    pub(super) fn new(source: Arc<IdentitySource>, context: Context, path: PathBuf) -> Self {
        Self {
            source,
            context,
            path,
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

    /// The request for a new identity, when it is time.
    pub(super) fn due(&mut self, now: Now) -> Option<IdentityRenewal> {
        let (not_before, not_after) = self.source.dates()?;
        let half = not_before.plus(not_after.since(not_before) / 2);
        let servers_now = now.wall.millis().saturating_add_signed(self.offset_millis);
        if servers_now < half.millis() || now.monotonic < self.not_before_next {
            return None;
        }
        self.not_before_next = now.monotonic + ATTEMPT_INTERVAL.min(not_after.since(not_before) / 8);
        match self.request() {
            Ok(csr) => Some(IdentityRenewal { csr: csr.into() }),
            Err(error) => {
                tracing::error!(%error, "no request for a new identity could be made");
                None
            }
        }
    }

    fn request(&mut self) -> Result<Vec<u8>, CustodyError> {
        let name = self.context.actor.to_string();
        let name = name.split_once('/').map_or(name.as_str(), |(_, name)| name).to_string();
        let key = LeafKey::from_pem(&self.context.key_pem)?;
        let csr = key.request(&Names { common_name: Some(name), ..Names::default() })?;
        self.pending = true;
        Ok(csr)
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
        match self.adopt(&issued, now, seams).await {
            Ok(not_after) => tracing::info!(%not_after, "identity renewed"),
            Err(cause) => tracing::error!(cause, "the new identity cannot be used; the old one stays"),
        }
    }

    async fn adopt(&mut self, issued: &IdentityIssued, now: Now, seams: &Seams) -> Result<Timestamp, String> {
        let certificate = inspect(&issued.certificate).map_err(|rejection| rejection.to_string())?;
        let key = LeafKey::from_pem(&self.context.key_pem).map_err(|error| error.to_string())?;
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
            key_pem: self.context.key_pem.clone(),
        };
        // Durable before it is used: a restart must not fall back to one that is about to end.
        self.save(&next, seams).await?;
        self.source.replace(&next)?;
        self.context = next;
        self.not_before_next = now.monotonic;
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

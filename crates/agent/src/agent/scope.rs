//! What servers say: the scope comes in, changes, and leaves; answers and acknowledgements find their questions.
//!
//! It refuses to forget what a complete scope does not name before that scope has come to its end.

use std::collections::BTreeSet;
use std::time::Duration;

use certwright_core::event::Stage;
use certwright_core::ids::{InstanceId, TargetName};
use certwright_proto::agent::v1::server_message::Kind;
use certwright_proto::agent::v1::{
    Assignment, Bookmark, CsrAnswer, HeldCertificate, Issued, ServerMessage, Welcome, agent_message,
};
use certwright_proto::api::{names, values};
use certwright_seams::exec::compute;

use super::Agent;
use super::entry::Entry;
use crate::assignment::Told;
use crate::fault::WriteStep;
use crate::plan::{Attempt, Installed, Request};

/// What of a session could not be kept. It has to be told again: until then no bookmark counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Missed {
    Nothing,
    /// Asking again would bring the same; every later session, also of a newer agent, brings it by itself.
    NotUnderstood,
    /// It is asked for again, by a session without a token.
    NotStored,
}

impl Agent {
    /// One message of the session.
    pub(super) async fn on_message(&mut self, message: ServerMessage) {
        if self.witness.is_refusing {
            return;
        }
        match message.kind {
            Some(Kind::Welcome(welcome)) => {
                if self.is_trustworthy(&welcome).await {
                    self.on_welcome(&welcome).await;
                }
            }
            Some(Kind::Assignment(assignment)) => self.on_assignment(assignment, message.traceparent).await,
            Some(Kind::Gone(gone)) => {
                if let Some(instance) = InstanceId::parse(&gone.instance) {
                    self.forget(instance).await;
                }
            }
            Some(Kind::Bookmark(bookmark)) => self.on_bookmark(bookmark).await,
            Some(Kind::CsrAnswer(answer)) => self.on_csr_answer(&answer),
            Some(Kind::ReportAck(acknowledged)) => self.on_acknowledged(acknowledged.id),
            Some(Kind::Identity(issued)) => {
                let now = self.now();
                self.identity.on_issued(issued, now, &self.seams).await;
            }
            Some(Kind::TrustBundle(announced)) => self.on_trust(announced).await,
            Some(Kind::Checkpoint(shown)) => self.on_checkpoint(shown).await,
            // Draining ends the stream before it gets here; heartbeats only prove that the stream lives.
            Some(Kind::Draining(_) | Kind::Heartbeat(_)) | None => {}
        }
    }

    async fn on_welcome(&mut self, welcome: &Welcome) {
        self.welcomed = true;
        self.complete = welcome.complete.then(BTreeSet::new);
        // The token of this session is older than anything missed: all of that comes again.
        self.missed = Missed::Nothing;
        let clock = welcome.clock.as_ref().and_then(|clock| values::moment_from_message("clock", clock).ok());
        let now = self.now();
        self.identity.on_welcome(clock, now);
        self.heartbeat_at = now.monotonic;
        let server = self.identity.server().to_string();
        tracing::info!(server = welcome.server, address = server, complete = welcome.complete, "welcomed");
        self.ready_signal.send_if_modified(|ready| {
            let first = ready.is_none();
            *ready = Some(server);
            first
        });
        self.ready.extend(std::mem::take(&mut self.unsettled));
        if let Some(servers) = self.identity.on_servers(&welcome.servers, &self.seams).await {
            self.connector.set_servers(servers);
        }
        self.say_stuck().await;
    }

    /// Shows again what the servers do not know yet although they were shown it: they wait for a generation that is here.
    pub(super) async fn say_stuck(&mut self) {
        if !self.witness.is_restored() {
            return;
        }
        self.stuck_said_at = self.now().monotonic;
        let waited_for = |entry: &Entry| 1..=entry.issued_generation();
        let stuck = |(_, entry): &(&InstanceId, &Entry)| waited_for(entry).contains(&entry.wish.wanted_generation);
        let stuck: Vec<InstanceId> = self.entries.iter().filter(stuck).map(|(id, _)| *id).collect();
        for instance in stuck {
            self.say_unknown(instance).await;
        }
    }

    /// After a restore the servers may know an older generation than this agent has: that one stays, and they are told.
    async fn keep_newer(&mut self, assignment: &mut Assignment) {
        let Some(instance) = InstanceId::parse(&assignment.instance).filter(|_| self.witness.is_restored()) else {
            return;
        };
        let told = assignment.issued.as_ref().map_or(0, |issued| issued.generation);
        if self.entries.get(&instance).is_none_or(|entry| entry.issued_generation() <= told) {
            return;
        }
        let store = self.store.clone();
        let stored = compute(&*self.seams.exec, "files", move || store.load_assignment(instance)).await;
        let Some(held) = stored.ok().and_then(|stored| stored.issued).filter(|held| held.generation > told) else {
            return;
        };
        tracing::warn!(
            certificate = assignment.certificate,
            generation = held.generation,
            known = told,
            "the restored servers know an older generation than this agent has: it stays, and they are told"
        );
        self.say_held(&assignment.certificate, instance, &held);
        assignment.issued = Some(held);
    }

    /// Shows the servers a certificate that they do not know.
    fn say_held(&self, certificate: &str, instance: InstanceId, held: &Issued) {
        let held = HeldCertificate {
            certificate: certificate.to_owned(),
            instance: instance.to_string(),
            generation: held.generation,
            der: held.certificate.clone(),
        };
        self.send_up(agent_message::Kind::Held(held));
    }

    async fn on_assignment(&mut self, mut assignment: Assignment, traceparent: String) {
        let known_to_servers = assignment.issued.as_ref().map_or(0, |issued| issued.generation);
        self.keep_newer(&mut assignment).await;
        // What cannot be understood is in the scope all the same; what cannot even be named could be any of ours.
        match InstanceId::parse(&assignment.instance) {
            Some(instance) => drop(self.complete.as_mut().map(|named| named.insert(instance))),
            None => self.complete = None,
        }
        let understood = Told::parse(assignment.clone()).and_then(|told| {
            let certificate = names::certificate(&told.certificate).map_err(|rejection| rejection.to_string())?;
            Ok((told, certificate))
        });
        let (told, certificate) = match understood {
            Ok(understood) => understood,
            Err(cause) => {
                tracing::error!(instance = assignment.instance, cause, "an assignment makes no sense");
                self.missed = self.missed.max(Missed::NotUnderstood);
                return;
            }
        };
        let instance = told.instance;
        let store = self.store.clone();
        let stored = compute(&*self.seams.exec, "files", move || store.save_assignment(instance, &assignment)).await;
        let sum = match stored {
            Ok(sum) => sum,
            Err(error) => {
                // Without it on disk nothing can be done about it.
                tracing::error!(%instance, %error, "the state directory cannot be written");
                self.on_not_stored();
                0
            }
        };
        self.worker.fault.at(WriteStep::AssignmentStored);
        let now = self.now();
        let held = self.remembered.remove(&instance).unwrap_or_default();
        let fresh = || Entry::new(certificate, told.wish(), held, now.monotonic);
        let entry = self.entries.entry(instance).or_insert_with(fresh);
        let before = entry.known_generation();
        entry.wish = told.wish();
        if entry.sum == 0 {
            // What failed while it was not on disk need not wait any longer.
            entry.held.attempts.clear();
        }
        entry.sum = sum;
        if !traceparent.is_empty() {
            entry.traceparent = traceparent;
        }
        let generation = entry.issued_generation();
        let answered = entry.is_answered();
        if answered {
            entry.request = Request::Idle;
        }
        if generation > before {
            entry.known = generation;
            entry.received_at = now.monotonic;
            self.report(instance, generation, None, Stage::Received, None);
        }
        if answered {
            self.free_request(instance);
        }
        self.say_installed(instance, known_to_servers);
        self.release_claims(instance);
        self.look.soon(instance);
        self.ready.insert(instance);
    }

    /// A restored log may lack reports that were acknowledged: what is installed of the generation that the servers know is
    /// reported once more in every epoch. What they know they drop.
    fn say_installed(&mut self, instance: InstanceId, generation: u64) {
        let Some(epoch) = self.witness.restored_epoch() else { return };
        let Some(entry) = self.entries.get_mut(&instance).filter(|entry| entry.vouched_in < epoch) else { return };
        let is_told = |target: &TargetName, installed: &Installed| {
            installed.generation == generation && installed.stage >= Stage::Written && !entry.held.lost.contains(target)
        };
        let told = entry.held.targets.iter().filter(|(target, installed)| is_told(target, installed));
        let told: Vec<_> = told.map(|(target, installed)| (target.clone(), installed.stage)).collect();
        if told.is_empty() {
            return;
        }
        entry.vouched_in = epoch;
        for (target, stage) in told {
            self.report(instance, generation, Some(target), stage, None);
        }
    }

    /// What a restored log leaves out may have come after the backup: the servers are told before it is let go of.
    async fn say_unknown(&mut self, instance: InstanceId) {
        if !self.witness.is_restored() {
            return;
        }
        let store = self.store.clone();
        let stored = compute(&*self.seams.exec, "files", move || store.load_assignment(instance)).await;
        if let Ok(Assignment { certificate, issued: Some(held), .. }) = stored {
            self.say_held(&certificate, instance, &held);
        }
    }

    /// Something could not be stored: a while later everything is asked for again, and that less and less often.
    fn on_not_stored(&mut self) {
        if self.missed != Missed::NotStored {
            self.missed = Missed::NotStored;
            self.ask_again = Some(Attempt::after(self.ask_again, 0, self.now().monotonic));
        }
    }

    /// Begins another session without a token, when it is time to ask for what was not stored.
    pub(super) fn ask_again(&mut self, now: Duration) {
        if self.missed == Missed::NotStored && self.ask_again.is_some_and(|attempt| now >= attempt.retry_at) {
            self.resume.send_replace(None);
        }
    }

    /// Directories that the instance's targets no longer name are free for others.
    fn release_claims(&mut self, instance: InstanceId) {
        let Some(entry) = self.entries.get(&instance) else { return };
        let named =
            |directory: &String| entry.wish.targets.iter().any(|target| target.directory.as_ref() == Some(directory));
        self.claims.retain(|directory, (holder, _)| *holder != instance || named(directory));
    }

    /// The instance left the scope: its files stay, its management ends.
    async fn forget(&mut self, instance: InstanceId) {
        let remembered = self.remembered.remove(&instance).is_some();
        match self.entries.remove(&instance) {
            Some(entry) => {
                tracing::info!(certificate = %entry.certificate, %instance, "left the scope; its files stay")
            }
            None if remembered => tracing::info!(%instance, "left the scope; its files stay"),
            None => return,
        }
        self.claims.retain(|_, (holder, _)| *holder != instance);
        self.outbox.forget(instance);
        self.free_request(instance);
        let store = self.store.clone();
        if let Err(error) = compute(&*self.seams.exec, "files", move || store.remove_instance(instance)).await {
            tracing::error!(%instance, %error, "the state directory cannot be written");
        }
        // Whoever waits for one of its directories may go on.
        self.ready.extend(self.unsettled.iter().copied());
    }

    async fn on_bookmark(&mut self, bookmark: Bookmark) {
        if bookmark.complete
            && let Some(named) = self.complete.take()
        {
            let known = self.entries.keys().chain(self.remembered.keys());
            let gone: Vec<InstanceId> = known.filter(|known| !named.contains(known)).copied().collect();
            for instance in gone {
                self.say_unknown(instance).await;
                self.forget(instance).await;
            }
        }
        let Some(token) = bookmark.token else { return };
        if self.complete.is_some() || self.missed == Missed::NotStored {
            return;
        }
        self.ask_again = None;
        if self.missed == Missed::NotUnderstood {
            return;
        }
        if self.resume.borrow().as_ref() != Some(&token.value) {
            self.resume.send_replace(Some(token.value));
            self.resume_unsaved = true;
        }
    }

    fn on_csr_answer(&mut self, answer: &CsrAnswer) {
        if answer.reason.is_empty() {
            return; // The certificate itself comes as an assignment.
        }
        let Some(instance) = InstanceId::parse(&answer.instance) else { return };
        tracing::warn!(%instance, generation = answer.generation, reason = answer.reason, message = answer.message,
            "the servers refused a request");
        let retry_after = values::span_from_optional("retry_after", answer.retry_after.as_ref()).ok().flatten();
        self.on_refused(instance, answer.generation, retry_after);
    }

    /// Stores where to go on.
    pub(super) async fn save_resume(&mut self) {
        let Some(token) = self.resume.borrow().clone() else { return };
        let sum = self.entries.values().fold(0u64, |sum, entry| sum.wrapping_add(entry.sum));
        let store = self.store.clone();
        match compute(&*self.seams.exec, "files", move || store.save_resume(&token, sum)).await {
            Ok(()) => self.resume_unsaved = false,
            Err(error) => tracing::error!(%error, "the state directory cannot be written"),
        }
    }
}

//! What an agent must know of one instance: intent, its targets, the generation wanted, the newest certificate.
//!
//! It refuses certificates from memory: the DER comes from the log, where the position in state says.

use certwright_core::event::Issued;
use certwright_core::ids::{CertificateName, InstanceId};
use certwright_core::log::Position;
use certwright_core::spec::{CertificateSpec, Holder, Target};
use certwright_core::state::{Agent, Generated};
use certwright_core::{Reason, Rejection};
use certwright_issuance::chain;
use certwright_proto::agent::v1 as wire;
use certwright_proto::api::session::issued_to_message;
use certwright_proto::api::spec::spec_to_message;
use certwright_proto::api::target_to_message;

use super::Session;
use crate::{history, trace};

/// What state says of an instance, copied out of its lock.
struct Draft {
    revision: u64,
    spec: CertificateSpec,
    targets: Vec<Target>,
    wanted_generation: u64,
    current: Option<Generated>,
    changed: Position,
}

impl Session {
    /// The assignment as of now with the trace of what changed it last; `None` when it has left the scope meanwhile,
    /// which the next change says. `BEHIND` when this server cannot read what state refers to, as below a snapshot that it
    /// installed: that is no reason to tell the agent anything else than to ask another server.
    pub(super) async fn assignment(
        &self,
        name: &CertificateName,
        instance: InstanceId,
    ) -> Result<Option<(wire::Assignment, String)>, Rejection> {
        let Some(draft) = self.draft(name, instance) else { return Ok(None) };
        let issued = match draft.current {
            Some(current) if !self.is_let_go(&current) => Some(self.issued(&current, instance).await?),
            _ => None,
        };
        let changed = self.transaction(draft.changed).await;
        let trace = changed.map(|transaction| trace::format(&transaction.trace));
        let assignment = wire::Assignment {
            certificate: name.stream().to_string(),
            instance: instance.to_string(),
            revision: draft.revision,
            spec: Some(spec_to_message(&draft.spec)),
            targets: draft.targets.iter().map(target_to_message).collect(),
            wanted_generation: draft.wanted_generation,
            issued,
        };
        Ok(Some((assignment, trace.unwrap_or_default())))
    }

    fn draft(&self, name: &CertificateName, id: InstanceId) -> Option<Draft> {
        self.doors.log.read(|view| {
            let certificate = view.state.certificates.get(name)?;
            let instance = certificate.instance(id).filter(|instance| instance.agent == self.agent)?;
            let agent = view.state.agents.get(&self.agent)?;
            let spec = certificate.spec();
            let targets = spec.targets.iter().filter(|target| holds(agent, target)).cloned().collect();
            Some(Draft {
                revision: certificate.revision,
                spec,
                targets,
                wanted_generation: instance.open.map_or(0, |open| open.generation),
                current: instance.current,
                changed: instance.changed,
            })
        })
    }

    /// Whether the entry that issued it is older than the history that is kept. Its certificate had ended before that was let
    /// go: the agent keeps what it has and is told what comes next.
    fn is_let_go(&self, current: &Generated) -> bool {
        current.position.index < self.doors.first_kept()
    }

    async fn issued(&self, current: &Generated, instance: InstanceId) -> Result<wire::Issued, Rejection> {
        let unreadable = || {
            let index = current.position.index;
            Rejection::new(Reason::Behind, format!("entry {index} of the log cannot be read on this server"))
        };
        let transaction = self.transaction(current.position).await.ok_or_else(unreadable)?;
        let fits = |issued: &Issued| issued.instance == Some(instance) && issued.generation == current.generation;
        let issued = history::issued(transaction, fits).ok_or_else(unreadable)?;
        let chain = self.doors.log.read(|view| chain::of(view.state, &issued.authority)).map_err(|_| unreadable())?;
        issued_to_message(&issued, &chain).map_err(|_| unreadable())
    }
}

/// Whether the agent holds a target.
fn holds(agent: &Agent, target: &Target) -> bool {
    match &target.holder {
        Holder::Agent(name) => *name == agent.name,
        Holder::Selector(labels) => labels.iter().all(|(key, value)| agent.labels.get(key) == Some(value)),
    }
}

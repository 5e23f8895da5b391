//! Folding a certificate's events, and keeping the indexes in step with every change of an instance.
//!
//! It refuses to move an instance's place in its agent's feed for a delivery: that would echo the agent's own report.

use crate::event::{Delivered, Event, Issued, Trigger};
use crate::ids::{AgentName, CertificateName, InstanceId, Uid};
use crate::limits;
use crate::log::{Applied, Position, Revision};
use crate::spec::{CertificateSpec, PackedSpec};
use crate::state::indexes::Facts;
use crate::state::{Certificate, Delivery, Generated, Instance, Open, State};

impl State {
    pub(super) fn apply_certificate(&mut self, applied: &Applied<'_>, name: &CertificateName, event: &Event) {
        match event {
            Event::CertificateDeclared { spec, .. } => return self.declare(applied, name, spec),
            Event::CertificateDeleted => return self.delete(applied, name),
            _ => {}
        }
        let Some(certificate) = self.certificates.get_mut(name) else {
            return;
        };
        certificate.revision = applied.revision.unwrap_or(certificate.revision);
        match event {
            Event::CertificateUpdated { spec } => self.update(applied, name, spec),
            Event::InstanceAdded { agent, .. } => {
                if let Some(id) = event.instance(applied.position) {
                    self.add_instance(applied, name, id, agent);
                }
            }
            Event::InstanceRemoved { instance } => self.remove_instance(applied, name, *instance),
            Event::CertificateDelivered(report) => self.deliver(applied, name, report),
            _ => self.apply_issuance(applied, name, event),
        }
    }

    fn apply_issuance(&mut self, applied: &Applied<'_>, name: &CertificateName, event: &Event) {
        let Some(id) = event.instance(applied.position) else {
            return;
        };
        let mut is_counted = false;
        self.change_instance(name, id, |instance, spec_revision| {
            is_counted = instance.failures == 0;
            instance.changed = applied.position;
            match event {
                Event::IssuanceOpened { generation, trigger, .. } => {
                    instance.open = Some(Open { generation: *generation, opened_at: applied.at, trigger: *trigger });
                    instance.retry_at = None;
                }
                Event::IssuanceFailed { reason, message, retry_at, .. } => {
                    instance.open = None;
                    instance.failures = instance.failures.saturating_add(1);
                    instance.last_failure = Some(Box::new((reason.clone(), message.clone(), applied.at)));
                    instance.retry_at = Some(*retry_at);
                }
                Event::IssuanceAbandoned { .. } => instance.open = None,
                Event::CertificateIssued(issued) => succeed(instance, issued, spec_revision, applied.position),
                _ => {}
            }
        });
        // A retry takes nobody's place.
        if let (Event::IssuanceOpened { trigger: Trigger::Due, .. }, true, Some(hold)) =
            (event, is_counted, &mut self.cluster.hold)
        {
            hold.begin(applied.at);
        }
    }

    fn declare(&mut self, applied: &Applied<'_>, name: &CertificateName, spec: &CertificateSpec) {
        if self.certificates.contains(name) {
            return;
        }
        let name = self.indexes.enter(name);
        let revision = applied.revision.unwrap_or(1);
        self.certificates.insert(Certificate {
            uid: Uid::new(applied.position, self.cluster.epoch),
            revision,
            name: name.clone(),
            spec: PackedSpec::pack(spec),
            spec_revision: revision,
            created_at: applied.at,
            updated_at: applied.at,
            next_instance: 1,
            instances: Vec::new(),
        });
        self.indexes.holders.add_certificate(&name, &spec.issuer, spec.holders(), |_| false);
        self.settle_certificate(&name, spec, None);
    }

    fn update(&mut self, applied: &Applied<'_>, name: &CertificateName, spec: &CertificateSpec) {
        let Some(certificate) = self.certificates.get_mut(name) else {
            return;
        };
        let shared = certificate.name.clone();
        let before = std::mem::replace(&mut certificate.spec, PackedSpec::pack(spec)).unpack();
        certificate.updated_at = applied.at;
        let spec_revision_before = certificate.spec_revision;
        let asks_the_same = spec.asks_the_same(&before);
        if !asks_the_same {
            certificate.spec_revision = certificate.revision;
        }
        for instance in &mut certificate.instances {
            let facts = Facts::of(instance, spec_revision_before);
            instance.changed = applied.position;
            if !asks_the_same {
                instance.failures = 0;
                instance.retry_at = None;
            }
            instance.deliveries.retain(|delivery| {
                delivery.target.as_ref().is_none_or(|name| spec.targets.iter().any(|target| target.name == *name))
            });
            let after = Facts::of(instance, certificate.spec_revision);
            self.indexes.change(&shared, &instance.agent, &facts, &after);
        }
        self.indexes.holders.remove_certificate(&shared, &before);
        self.indexes
            .holders
            .add_certificate(&shared, &spec.issuer, spec.holders(), |agent| certificate.instance_of(agent).is_some());
        self.settle_certificate(&shared, spec, Some(&before));
    }

    fn delete(&mut self, applied: &Applied<'_>, name: &CertificateName) {
        let Some(certificate) = self.certificates.remove(name) else {
            return;
        };
        let (name, spec) = (&certificate.name, certificate.spec());
        for instance in &certificate.instances {
            let facts = Facts::of(instance, certificate.spec_revision);
            self.indexes.remove(name, &instance.agent, &facts);
            self.indexes.scope_mut(&instance.agent).leave(name, instance.id, applied.position);
        }
        self.indexes.holders.remove_certificate(name, &spec);
        for agent in self.holders_of(&spec).iter().chain(certificate.instances.iter().map(|instance| &instance.agent)) {
            self.indexes.holders.unsettled.remove(&(name.clone(), agent.clone()));
        }
        self.indexes.leave(name);
    }

    fn add_instance(&mut self, applied: &Applied<'_>, name: &CertificateName, id: InstanceId, agent: &AgentName) {
        // The agent's own name is held once and shared.
        let agent = self.agents.get(agent).map_or_else(|| agent.clone(), |agent| agent.name.clone());
        let Some(certificate) = self.certificates.get_mut(name) else {
            return;
        };
        let taken = certificate.instances.iter().any(|known| known.id.number == id.number || known.agent == agent);
        if taken || id.certificate != certificate.uid {
            return;
        }
        let shared = certificate.name.clone();
        certificate.next_instance = certificate.next_instance.max(id.number.saturating_add(1));
        let instance = Instance {
            id,
            agent: agent.clone(),
            changed: applied.position,
            current: None,
            open: None,
            failures: 0,
            last_failure: None,
            retry_at: None,
            deliveries: Vec::new(),
        };
        self.indexes.add(&shared, &agent, &Facts::of(&instance, certificate.spec_revision));
        // Most certificates have one instance: no room is kept for others.
        certificate.instances.reserve_exact(usize::from(certificate.instances.len() < 4));
        certificate.instances.push(instance);
        let is_full = certificate.instances.len() >= limits::INSTANCES_MAX;
        let spec = certificate.spec();
        self.indexes.holders.hold(&shared, &agent);
        self.settle(&shared, &spec, &agent);
        if is_full {
            // Who found no place waits no longer.
            self.settle_certificate(&shared, &spec, None);
        }
    }

    fn remove_instance(&mut self, applied: &Applied<'_>, name: &CertificateName, id: InstanceId) {
        let Some(certificate) = self.certificates.get_mut(name) else {
            return;
        };
        let shared = certificate.name.clone();
        let Some(at) = certificate.instances.iter().position(|instance| instance.id == id) else {
            return;
        };
        let was_full = certificate.instances.len() >= limits::INSTANCES_MAX;
        let instance = certificate.instances.remove(at);
        let facts = Facts::of(&instance, certificate.spec_revision);
        let spec = certificate.spec();
        self.indexes.remove(&shared, &instance.agent, &facts);
        self.indexes.scope_mut(&instance.agent).leave(&shared, id, applied.position);
        self.indexes.holders.release(&shared, &spec, &instance.agent);
        if !self.agents.contains(&instance.agent) {
            self.indexes.forget_scope(&instance.agent, applied.position);
        }
        self.settle(&shared, &spec, &instance.agent);
        if was_full {
            self.settle_certificate(&shared, &spec, None);
        }
    }

    /// Folds a report: the newest of each target, about the newest generation reported. What was reported before any
    /// target is forgotten when a target is written: that says as much.
    fn deliver(&mut self, applied: &Applied<'_>, name: &CertificateName, report: &Delivered) {
        let Some(certificate) = self.certificates.get_mut(name) else {
            return;
        };
        let Some(instance) = certificate.instances.iter_mut().find(|instance| instance.id == report.instance) else {
            return;
        };
        let deliveries = &mut instance.deliveries;
        let mut delivery = Delivery::of(report, applied.at);
        delivery.target = delivery.target.map(|target| self.indexes.share_target(target));
        if delivery.supersedes_all_before_targets() {
            deliveries.retain(|known| known.target.is_some() || known.generation > delivery.generation);
        }
        match deliveries.iter_mut().find(|known| known.target == delivery.target) {
            Some(known) if known.generation > delivery.generation => {}
            Some(known) => *known = delivery,
            None => {
                deliveries.reserve_exact(1);
                deliveries.push(delivery);
            }
        }
        deliveries.shrink_to_fit();
    }

    /// Changes an instance and moves it in the indexes.
    pub(super) fn change_instance(
        &mut self,
        name: &CertificateName,
        id: InstanceId,
        change: impl FnOnce(&mut Instance, Revision),
    ) {
        let Some(certificate) = self.certificates.get_mut(name) else {
            return;
        };
        let spec_revision = certificate.spec_revision;
        let Some(instance) = certificate.instances.iter_mut().find(|instance| instance.id == id) else {
            return;
        };
        let before = Facts::of(instance, spec_revision);
        change(instance, spec_revision);
        self.indexes.change(&certificate.name, &instance.agent, &before, &Facts::of(instance, spec_revision));
    }

    /// The agent has lost its keys: whatever it holds counts as issued under an older specification and is issued anew.
    pub(super) fn doubt_instances_of(&mut self, agent: &AgentName, position: Position) {
        let held: Vec<CertificateName> =
            self.indexes.scopes.get(agent).map(|scope| scope.names().iter().cloned().collect()).unwrap_or_default();
        for name in held {
            let id = self.certificates.get(&name).and_then(|held| held.instance_of(agent)).map(|instance| instance.id);
            if let Some(id) = id {
                self.change_instance(&name, id, |instance, _| {
                    instance.changed = position;
                    instance.retry_at = None;
                    if let Some(current) = &mut instance.current {
                        current.spec_revision = 0;
                    }
                });
            }
        }
    }
}

fn succeed(instance: &mut Instance, issued: &Issued, spec_revision: Revision, position: Position) {
    instance.current = Some(Generated {
        generation: issued.generation,
        serial: issued.serial,
        spki_hash: issued.spki_hash,
        not_before: issued.not_before,
        not_after: issued.not_after,
        renew_at: issued.renew_at.unwrap_or(issued.not_after),
        spec_revision,
        position,
    });
    instance.open = None;
    instance.failures = 0;
    instance.last_failure = None;
    instance.retry_at = None;
}

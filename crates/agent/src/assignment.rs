//! An assignment as the agent understands it: names parsed, dates and targets in the domain's types.
//!
//! It refuses an assignment that it cannot understand as a whole.

use certwright_core::ids::{InstanceId, TargetName};
use certwright_core::spec::{CertificateSpec, FilesSink, KeyEncoding, Labels, RotationPolicy, Sink, Target};
use certwright_core::time::Timestamp;
use certwright_core::x509::key::sha256;
use certwright_proto::agent::v1::{Assignment, Issued};
use certwright_proto::api::spec::spec_from_message;
use certwright_proto::api::values::moment_from_message;
use certwright_proto::v1;

use crate::plan::{IssuedFacts, TargetWish, Wish};

/// What the servers say of one instance.
pub(crate) struct Told {
    /// `namespaces/{ns}/certificates/{name}`.
    pub(crate) certificate: String,
    /// The instance.
    pub(crate) instance: InstanceId,
    /// What is wished for; its targets are those that this agent holds.
    pub(crate) spec: CertificateSpec,
    /// The newest generation.
    pub(crate) issued: Option<Issued>,
    revision: u64,
    wanted_generation: u64,
}

impl Told {
    /// Understands an assignment; the error says which part makes no sense.
    pub(crate) fn parse(assignment: Assignment) -> Result<Self, String> {
        let instance = InstanceId::parse(&assignment.instance)
            .ok_or_else(|| format!("{:?} is no instance", assignment.instance))?;
        // The specification travels with every target; only those that this agent holds are its business.
        let spec = assignment.spec.ok_or("no specification")?;
        let spec = v1::CertificateSpec { targets: assignment.targets, ..spec };
        let spec = spec_from_message(spec, Labels::new()).map_err(|rejection| rejection.to_string())?;
        Ok(Self {
            certificate: assignment.certificate,
            instance,
            spec,
            issued: assignment.issued,
            revision: assignment.revision,
            wanted_generation: assignment.wanted_generation,
        })
    }

    /// What planning must know of it.
    pub(crate) fn wish(&self) -> Wish {
        Wish {
            revision: self.revision,
            wanted_generation: self.wanted_generation,
            issued: self.issued.as_ref().map(issued_facts),
            targets: self.spec.targets.iter().map(|target| self.target_wish(target)).collect(),
        }
    }

    /// The target of that name.
    pub(crate) fn target(&self, name: &TargetName) -> Option<&Target> {
        self.spec.targets.iter().find(|target| target.name == *name)
    }

    /// Whether all generations share one key.
    pub(crate) fn keeps_key(&self) -> bool {
        self.spec.private_key.rotation_policy == RotationPolicy::Never
    }

    fn target_wish(&self, target: &Target) -> TargetWish {
        let files = match &target.sink {
            Sink::Files(files) => Some(files),
            Sink::Secret { .. } => None,
        };
        TargetWish {
            name: target.name.clone(),
            digest: files.map_or(0, |files| digest(files, self.spec.private_key.encoding)),
            served_check: target.served_check.is_some(),
            directory: files.map(|files| files.directory.clone()),
        }
    }
}

fn issued_facts(issued: &Issued) -> IssuedFacts {
    let moment = |moment: &Option<prost_types::Timestamp>| {
        let moment = moment.as_ref().and_then(|moment| moment_from_message("issued", moment).ok());
        moment.unwrap_or(Timestamp::EPOCH)
    };
    IssuedFacts {
        generation: issued.generation,
        serial: issued.serial.clone(),
        not_before: moment(&issued.not_before),
        not_after: moment(&issued.not_after),
    }
}

/// Changes whenever the files would have to be written anew. Part of what is stored: its form stays.
fn digest(files: &FilesSink, encoding: KeyEncoding) -> u64 {
    let mut text = vec![files.directory.clone()];
    text.extend(files.names.iter().flat_map(|(name, other)| [name.clone(), other.clone()]));
    text.push(format!("owner {} group {}", files.owner.as_deref().unwrap_or(""), files.group.as_deref().unwrap_or("")));
    text.push(format!("mode {:o}", files.mode.unwrap_or(u32::MAX)));
    text.push(match encoding {
        KeyEncoding::Pkcs1 => "pkcs1".to_string(),
        KeyEncoding::Pkcs8 => "pkcs8".to_string(),
    });
    let hash = sha256(text.join("\0").as_bytes());
    u64::from_be_bytes(hash[..8].try_into().expect("SHA-256 has more than eight octets"))
}

//! Specifications as they rest in state: packed into a few hundred octets, because a million of them must fit.
//!
//! It refuses to be stored or sent; what is on disk and on the wire is defined in `proto`.

mod octets;

use octets::{Reader, Writer};

use super::{
    CertificateSpec, Dialect, FilesSink, Holder, KeyAlgorithm, KeyEncoding, PrivateKeySpec, Reload, ReloadAction,
    RotationPolicy, ServedCheck, Sink, Subject, Target, Usage,
};
use crate::ids::{AgentName, IssuerName, TargetName};

/// A certificate's specification, packed. Equal specifications pack equally.
#[derive(Clone, PartialEq, Eq)]
pub struct PackedSpec(Box<[u8]>);

/// What a specification refers to: what indexes are made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct References {
    /// Who signs.
    pub issuer: IssuerName,
    /// Who holds each of its targets, in their order.
    pub holders: Vec<Holder>,
}

impl PackedSpec {
    /// Packs a specification.
    pub fn pack(spec: &CertificateSpec) -> Self {
        let mut w = Writer::default();
        write_spec(&mut w, spec);
        Self(w.finish())
    }

    /// The specification.
    pub fn unpack(&self) -> CertificateSpec {
        read_spec(&mut Reader::new(&self.0))
    }

    /// What it refers to, without unpacking the rest.
    pub fn references(&self) -> References {
        read_references(&mut Reader::new(&self.0))
    }

    /// How many octets it takes.
    pub fn octets(&self) -> usize {
        self.0.len()
    }
}

impl std::fmt::Debug for PackedSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.unpack().fmt(f)
    }
}

fn write_spec(w: &mut Writer, spec: &CertificateSpec) {
    // What it refers to stands in front.
    w.text(spec.issuer.as_str());
    w.list(&spec.targets, |w, target| write_holder(w, &target.holder));
    w.flag(spec.dialect == Dialect::CertManager);
    w.flag(spec.is_ca);
    w.option(spec.common_name.as_ref(), |w, name| w.text(name));
    w.list(&spec.dns_names, |w, name| w.text(name));
    w.list(&spec.ip_addresses, |w, address| w.address(*address));
    w.list(&spec.uris, |w, uri| w.text(uri));
    w.list(&spec.email_addresses, |w, address| w.text(address));
    w.option((spec.subject != Subject::default()).then_some(&spec.subject), write_subject);
    w.option(spec.duration.as_ref(), |w, duration| w.duration(*duration));
    w.option(spec.renew_before.as_ref(), |w, duration| w.duration(*duration));
    w.option(spec.renew_before_percentage.as_ref(), |w, percentage| w.number((*percentage).into()));
    w.list(&spec.usages, |w, usage| w.number(*usage as u64));
    w.number(spec.private_key.algorithm as u64);
    w.flag(spec.private_key.encoding == KeyEncoding::Pkcs1);
    w.flag(spec.private_key.rotation_policy == RotationPolicy::Never);
    w.option(spec.revision_history_limit.as_ref(), |w, limit| w.number((*limit).into()));
    for target in &spec.targets {
        write_target(w, target);
    }
    w.map(&spec.labels);
    w.option(spec.secret_name.as_ref(), |w, name| w.text(name));
}

fn read_references(r: &mut Reader<'_>) -> References {
    References {
        issuer: IssuerName::parse(r.str()).expect("it was a name when it was packed"),
        holders: r.list(read_holder),
    }
}

fn read_spec(r: &mut Reader<'_>) -> CertificateSpec {
    let References { issuer, holders } = read_references(r);
    CertificateSpec {
        dialect: if r.flag() { Dialect::CertManager } else { Dialect::Certwright },
        is_ca: r.flag(),
        common_name: r.option(Reader::text),
        dns_names: r.list(Reader::text),
        ip_addresses: r.list(Reader::address),
        uris: r.list(Reader::text),
        email_addresses: r.list(Reader::text),
        subject: r.option(read_subject).unwrap_or_default(),
        duration: r.option(Reader::duration),
        renew_before: r.option(Reader::duration),
        renew_before_percentage: r.option(|r| r.number() as u8),
        usages: r.list(|r| Usage::ALL[r.number() as usize]),
        private_key: PrivateKeySpec {
            algorithm: KeyAlgorithm::ALL[r.number() as usize],
            encoding: if r.flag() { KeyEncoding::Pkcs1 } else { KeyEncoding::Pkcs8 },
            rotation_policy: if r.flag() { RotationPolicy::Never } else { RotationPolicy::Always },
        },
        revision_history_limit: r.option(|r| r.number() as u32),
        issuer,
        targets: holders.into_iter().map(|holder| read_target(r, holder)).collect(),
        labels: r.map(),
        secret_name: r.option(Reader::text),
    }
}

fn subject_lists(subject: &Subject) -> [&Vec<String>; 7] {
    [
        &subject.organizations,
        &subject.organizational_units,
        &subject.countries,
        &subject.localities,
        &subject.provinces,
        &subject.street_addresses,
        &subject.postal_codes,
    ]
}

fn write_subject(w: &mut Writer, subject: &Subject) {
    for list in subject_lists(subject) {
        w.list(list, |w, value| w.text(value));
    }
    w.option(subject.serial_number.as_ref(), |w, number| w.text(number));
}

fn read_subject(r: &mut Reader<'_>) -> Subject {
    Subject {
        organizations: r.list(Reader::text),
        organizational_units: r.list(Reader::text),
        countries: r.list(Reader::text),
        localities: r.list(Reader::text),
        provinces: r.list(Reader::text),
        street_addresses: r.list(Reader::text),
        postal_codes: r.list(Reader::text),
        serial_number: r.option(Reader::text),
    }
}

fn write_holder(w: &mut Writer, holder: &Holder) {
    match holder {
        Holder::Agent(agent) => {
            w.flag(true);
            w.text(agent.as_str());
        }
        Holder::Selector(labels) => {
            w.flag(false);
            w.map(labels);
        }
    }
}

fn read_holder(r: &mut Reader<'_>) -> Holder {
    if r.flag() {
        Holder::Agent(AgentName::parse(r.str()).expect("it was a name when it was packed"))
    } else {
        Holder::Selector(r.map())
    }
}

/// All of a target but its holder.
fn write_target(w: &mut Writer, target: &Target) {
    w.text(target.name.as_str());
    match &target.sink {
        Sink::Files(files) => {
            w.flag(true);
            write_files(w, files);
        }
        Sink::Secret { namespace, name } => {
            w.flag(false);
            w.text(namespace);
            w.text(name);
        }
    }
    w.option(target.reload.as_ref(), write_reload);
    w.option(target.served_check.as_ref(), |w, check| {
        w.text(&check.address);
        w.text(&check.server_name);
    });
}

fn read_target(r: &mut Reader<'_>, holder: Holder) -> Target {
    Target {
        name: TargetName::parse(r.str()).expect("it was a name when it was packed"),
        holder,
        sink: if r.flag() { Sink::Files(read_files(r)) } else { Sink::Secret { namespace: r.text(), name: r.text() } },
        reload: r.option(read_reload),
        served_check: r.option(|r| ServedCheck { address: r.text(), server_name: r.text() }),
    }
}

fn write_files(w: &mut Writer, files: &FilesSink) {
    w.text(&files.directory);
    w.map(&files.names);
    w.option(files.owner.as_ref(), |w, owner| w.text(owner));
    w.option(files.group.as_ref(), |w, group| w.text(group));
    w.option(files.mode.as_ref(), |w, mode| w.number((*mode).into()));
}

fn read_files(r: &mut Reader<'_>) -> FilesSink {
    FilesSink {
        directory: r.text(),
        names: r.map(),
        owner: r.option(Reader::text),
        group: r.option(Reader::text),
        mode: r.option(|r| r.number() as u32),
    }
}

fn write_reload(w: &mut Writer, reload: &Reload) {
    match &reload.action {
        ReloadAction::Exec(argv) => {
            w.flag(true);
            w.list(argv, |w, argument| w.text(argument));
        }
        ReloadAction::Signal { signal, pid_file } => {
            w.flag(false);
            w.text(signal);
            w.text(pid_file);
        }
    }
    w.list(&reload.test_exec, |w, argument| w.text(argument));
    w.number(reload.timeout_seconds.into());
}

fn read_reload(r: &mut Reader<'_>) -> Reload {
    Reload {
        action: if r.flag() {
            ReloadAction::Exec(r.list(Reader::text))
        } else {
            ReloadAction::Signal { signal: r.text(), pid_file: r.text() }
        },
        test_exec: r.list(Reader::text),
        timeout_seconds: r.number() as u32,
    }
}

#[cfg(test)]
mod tests;

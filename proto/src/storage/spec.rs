//! Specifications to and from their stored form.
//!
//! It refuses enums and oneofs that are absent: a stored specification says everything.

use std::net::IpAddr;
use std::time::Duration;

use certwright_core::ids::{AgentName, AuthorityName, IssuerName, TargetName};
use certwright_core::log::CodecError;
use certwright_core::spec::{
    AuthorityPurpose, AuthoritySpec, CertificateSpec, Dialect, FilesSink, Holder, IssuerKind, IssuerSpec, KeyAlgorithm,
    KeyEncoding, PrivateKeySpec, Reload, ReloadAction, RotationPolicy, ServedCheck, Sink, Subject, Target, Usage,
};

use super::v1;
use super::wire::{broken, map, name, need, octets, pairs, small};

impl From<&CertificateSpec> for v1::CertificateSpec {
    fn from(spec: &CertificateSpec) -> Self {
        Self {
            dialect: match spec.dialect {
                Dialect::Certwright => v1::certificate_spec::Dialect::Certwright,
                Dialect::CertManager => v1::certificate_spec::Dialect::CertManager,
            }
            .into(),
            common_name: spec.common_name.clone(),
            dns_names: spec.dns_names.clone(),
            ip_addresses: spec.ip_addresses.iter().map(encode_ip).collect(),
            uris: spec.uris.clone(),
            email_addresses: spec.email_addresses.clone(),
            subject: Some((&spec.subject).into()),
            duration: spec.duration.map(Into::into),
            renew_before: spec.renew_before.map(Into::into),
            renew_before_percentage: spec.renew_before_percentage.map(Into::into),
            usages: spec.usages.iter().map(|usage| usage.name().to_owned()).collect(),
            is_ca: spec.is_ca,
            private_key: Some((&spec.private_key).into()),
            revision_history_limit: spec.revision_history_limit,
            issuer: spec.issuer.to_string(),
            targets: spec.targets.iter().map(Into::into).collect(),
            labels: pairs(&spec.labels),
            secret_name: spec.secret_name.clone(),
        }
    }
}

impl TryFrom<v1::CertificateSpec> for CertificateSpec {
    type Error = CodecError;

    fn try_from(spec: v1::CertificateSpec) -> Result<Self, CodecError> {
        Ok(Self {
            dialect: match spec.dialect() {
                v1::certificate_spec::Dialect::Certwright => Dialect::Certwright,
                v1::certificate_spec::Dialect::CertManager => Dialect::CertManager,
                v1::certificate_spec::Dialect::Unspecified => return Err(broken("dialect", "unknown")),
            },
            ip_addresses: spec.ip_addresses.iter().map(|octets| decode_ip(octets)).collect::<Result<_, _>>()?,
            subject: need("subject", spec.subject)?.into(),
            duration: spec.duration.map(Duration::try_from).transpose()?,
            renew_before: spec.renew_before.map(Duration::try_from).transpose()?,
            renew_before_percentage: spec
                .renew_before_percentage
                .map(|percentage| small("renew before percentage", percentage))
                .transpose()?,
            usages: spec.usages.iter().map(|name| decode_usage(name)).collect::<Result<_, _>>()?,
            is_ca: spec.is_ca,
            private_key: need("private key", spec.private_key)?.try_into()?,
            revision_history_limit: spec.revision_history_limit,
            issuer: name("issuer", IssuerName::parse(&spec.issuer))?,
            targets: spec.targets.into_iter().map(Target::try_from).collect::<Result<_, _>>()?,
            labels: map("labels", spec.labels)?,
            common_name: spec.common_name,
            dns_names: spec.dns_names,
            uris: spec.uris,
            email_addresses: spec.email_addresses,
            secret_name: spec.secret_name,
        })
    }
}

fn encode_ip(address: &IpAddr) -> bytes::Bytes {
    match address {
        IpAddr::V4(address) => octets(&address.octets()),
        IpAddr::V6(address) => octets(&address.octets()),
    }
}

fn decode_ip(octets: &[u8]) -> Result<IpAddr, CodecError> {
    match octets.len() {
        4 => super::wire::fixed::<4>("IP address", octets).map(IpAddr::from),
        _ => super::wire::fixed::<16>("IP address", octets).map(IpAddr::from),
    }
}

fn decode_usage(name: &str) -> Result<Usage, CodecError> {
    let known = Usage::ALL.iter().copied().find(|usage| usage.name() == name);
    known.ok_or_else(|| broken("usage", format!("{name:?} is unknown")))
}

impl From<&Subject> for v1::Subject {
    fn from(subject: &Subject) -> Self {
        Self {
            organizations: subject.organizations.clone(),
            organizational_units: subject.organizational_units.clone(),
            countries: subject.countries.clone(),
            localities: subject.localities.clone(),
            provinces: subject.provinces.clone(),
            street_addresses: subject.street_addresses.clone(),
            postal_codes: subject.postal_codes.clone(),
            serial_number: subject.serial_number.clone(),
        }
    }
}

impl From<v1::Subject> for Subject {
    fn from(subject: v1::Subject) -> Self {
        Self {
            organizations: subject.organizations,
            organizational_units: subject.organizational_units,
            countries: subject.countries,
            localities: subject.localities,
            provinces: subject.provinces,
            street_addresses: subject.street_addresses,
            postal_codes: subject.postal_codes,
            serial_number: subject.serial_number,
        }
    }
}

impl From<KeyAlgorithm> for v1::KeyAlgorithm {
    fn from(algorithm: KeyAlgorithm) -> Self {
        match algorithm {
            KeyAlgorithm::Rsa2048 => Self::Rsa2048,
            KeyAlgorithm::Rsa3072 => Self::Rsa3072,
            KeyAlgorithm::Rsa4096 => Self::Rsa4096,
            KeyAlgorithm::EcdsaP256 => Self::EcdsaP256,
            KeyAlgorithm::EcdsaP384 => Self::EcdsaP384,
            KeyAlgorithm::Ed25519 => Self::Ed25519,
        }
    }
}

impl TryFrom<v1::KeyAlgorithm> for KeyAlgorithm {
    type Error = CodecError;

    fn try_from(algorithm: v1::KeyAlgorithm) -> Result<Self, CodecError> {
        Ok(match algorithm {
            v1::KeyAlgorithm::Rsa2048 => Self::Rsa2048,
            v1::KeyAlgorithm::Rsa3072 => Self::Rsa3072,
            v1::KeyAlgorithm::Rsa4096 => Self::Rsa4096,
            v1::KeyAlgorithm::EcdsaP256 => Self::EcdsaP256,
            v1::KeyAlgorithm::EcdsaP384 => Self::EcdsaP384,
            v1::KeyAlgorithm::Ed25519 => Self::Ed25519,
            v1::KeyAlgorithm::Unspecified => return Err(broken("key algorithm", "unknown")),
        })
    }
}

impl From<&PrivateKeySpec> for v1::PrivateKey {
    fn from(key: &PrivateKeySpec) -> Self {
        Self {
            algorithm: v1::KeyAlgorithm::from(key.algorithm).into(),
            encoding: match key.encoding {
                KeyEncoding::Pkcs1 => v1::private_key::Encoding::Pkcs1,
                KeyEncoding::Pkcs8 => v1::private_key::Encoding::Pkcs8,
            }
            .into(),
            rotation_policy: match key.rotation_policy {
                RotationPolicy::Always => v1::private_key::RotationPolicy::Always,
                RotationPolicy::Never => v1::private_key::RotationPolicy::Never,
            }
            .into(),
        }
    }
}

impl TryFrom<v1::PrivateKey> for PrivateKeySpec {
    type Error = CodecError;

    fn try_from(key: v1::PrivateKey) -> Result<Self, CodecError> {
        Ok(Self {
            algorithm: key.algorithm().try_into()?,
            encoding: match key.encoding() {
                v1::private_key::Encoding::Pkcs1 => KeyEncoding::Pkcs1,
                v1::private_key::Encoding::Pkcs8 => KeyEncoding::Pkcs8,
                v1::private_key::Encoding::Unspecified => return Err(broken("key encoding", "unknown")),
            },
            rotation_policy: match key.rotation_policy() {
                v1::private_key::RotationPolicy::Always => RotationPolicy::Always,
                v1::private_key::RotationPolicy::Never => RotationPolicy::Never,
                v1::private_key::RotationPolicy::Unspecified => return Err(broken("rotation policy", "unknown")),
            },
        })
    }
}

impl From<&Target> for v1::Target {
    fn from(target: &Target) -> Self {
        use v1::target::{Holder as WireHolder, Sink as WireSink};
        Self {
            name: target.name.to_string(),
            holder: Some(match &target.holder {
                Holder::Agent(agent) => WireHolder::Agent(agent.to_string()),
                Holder::Selector(labels) => WireHolder::Selector(v1::Labels { pairs: pairs(labels) }),
            }),
            sink: Some(match &target.sink {
                Sink::Files(files) => WireSink::Files(files.into()),
                Sink::Secret { namespace, name } => {
                    WireSink::Secret(v1::SecretSink { namespace: namespace.clone(), name: name.clone() })
                }
            }),
            reload: target.reload.as_ref().map(Into::into),
            served_check: target.served_check.as_ref().map(|check| v1::ServedCheck {
                address: check.address.clone(),
                server_name: check.server_name.clone(),
            }),
        }
    }
}

impl TryFrom<v1::Target> for Target {
    type Error = CodecError;

    fn try_from(target: v1::Target) -> Result<Self, CodecError> {
        use v1::target::{Holder as WireHolder, Sink as WireSink};
        Ok(Self {
            name: name("target", TargetName::parse(&target.name))?,
            holder: match need("target's holder", target.holder)? {
                WireHolder::Agent(agent) => Holder::Agent(name("agent", AgentName::parse(&agent))?),
                WireHolder::Selector(labels) => Holder::Selector(map("selector", labels.pairs)?),
            },
            sink: match need("target's sink", target.sink)? {
                WireSink::Files(files) => Sink::Files(files.try_into()?),
                WireSink::Secret(secret) => Sink::Secret { namespace: secret.namespace, name: secret.name },
            },
            reload: target.reload.map(Reload::try_from).transpose()?,
            served_check: target
                .served_check
                .map(|check| ServedCheck { address: check.address, server_name: check.server_name }),
        })
    }
}

impl From<&FilesSink> for v1::FilesSink {
    fn from(files: &FilesSink) -> Self {
        Self {
            directory: files.directory.clone(),
            names: pairs(&files.names),
            owner: files.owner.clone(),
            group: files.group.clone(),
            mode: files.mode,
        }
    }
}

impl TryFrom<v1::FilesSink> for FilesSink {
    type Error = CodecError;

    fn try_from(files: v1::FilesSink) -> Result<Self, CodecError> {
        Ok(Self {
            directory: files.directory,
            names: map("file names", files.names)?,
            owner: files.owner,
            group: files.group,
            mode: files.mode,
        })
    }
}

impl From<&Reload> for v1::Reload {
    fn from(reload: &Reload) -> Self {
        use v1::reload::Action;
        Self {
            action: Some(match &reload.action {
                ReloadAction::Exec(arguments) => Action::Exec(v1::Argv { arguments: arguments.clone() }),
                ReloadAction::Signal { signal, pid_file } => {
                    Action::Signal(v1::Signal { signal: signal.clone(), pid_file: pid_file.clone() })
                }
            }),
            test_exec: reload.test_exec.clone(),
            timeout_seconds: reload.timeout_seconds,
        }
    }
}

impl TryFrom<v1::Reload> for Reload {
    type Error = CodecError;

    fn try_from(reload: v1::Reload) -> Result<Self, CodecError> {
        use v1::reload::Action;
        Ok(Self {
            action: match need("reload's action", reload.action)? {
                Action::Exec(argv) => ReloadAction::Exec(argv.arguments),
                Action::Signal(signal) => ReloadAction::Signal { signal: signal.signal, pid_file: signal.pid_file },
            },
            test_exec: reload.test_exec,
            timeout_seconds: reload.timeout_seconds,
        })
    }
}

impl From<&IssuerSpec> for v1::IssuerSpec {
    fn from(spec: &IssuerSpec) -> Self {
        use v1::issuer_spec::Kind;
        Self {
            kind: Some(match &spec.kind {
                IssuerKind::Ca { authority } => Kind::Ca(v1::CaIssuer { authority: authority.to_string() }),
                IssuerKind::Reserved(kind) => Kind::Reserved(kind.clone()),
            }),
            max_duration: spec.max_duration.map(Into::into),
            allowed_dns_suffixes: spec.allowed_dns_suffixes.clone(),
        }
    }
}

impl TryFrom<v1::IssuerSpec> for IssuerSpec {
    type Error = CodecError;

    fn try_from(spec: v1::IssuerSpec) -> Result<Self, CodecError> {
        use v1::issuer_spec::Kind;
        Ok(Self {
            kind: match need("issuer's kind", spec.kind)? {
                Kind::Ca(ca) => IssuerKind::Ca { authority: name("authority", AuthorityName::parse(&ca.authority))? },
                Kind::Reserved(kind) => IssuerKind::Reserved(kind),
            },
            max_duration: spec.max_duration.map(Duration::try_from).transpose()?,
            allowed_dns_suffixes: spec.allowed_dns_suffixes,
        })
    }
}

impl From<&AuthoritySpec> for v1::AuthoritySpec {
    fn from(spec: &AuthoritySpec) -> Self {
        Self {
            common_name: spec.common_name.clone(),
            key_algorithm: v1::KeyAlgorithm::from(spec.key_algorithm).into(),
            parent: spec.parent.as_ref().map(ToString::to_string),
            duration: Some(spec.duration.into()),
            path_len: spec.path_len.map(Into::into),
            purpose: match spec.purpose {
                AuthorityPurpose::System => v1::authority_spec::Purpose::System,
                AuthorityPurpose::Issuing => v1::authority_spec::Purpose::Issuing,
            }
            .into(),
        }
    }
}

impl TryFrom<v1::AuthoritySpec> for AuthoritySpec {
    type Error = CodecError;

    fn try_from(spec: v1::AuthoritySpec) -> Result<Self, CodecError> {
        Ok(Self {
            key_algorithm: spec.key_algorithm().try_into()?,
            purpose: match spec.purpose() {
                v1::authority_spec::Purpose::System => AuthorityPurpose::System,
                v1::authority_spec::Purpose::Issuing => AuthorityPurpose::Issuing,
                v1::authority_spec::Purpose::Unspecified => return Err(broken("authority's purpose", "unknown")),
            },
            parent: spec.parent.map(|parent| name("authority", AuthorityName::parse(&parent))).transpose()?,
            duration: need("authority's duration", spec.duration)?.try_into()?,
            path_len: spec.path_len.map(|len| small("path length", len)).transpose()?,
            common_name: spec.common_name,
        })
    }
}

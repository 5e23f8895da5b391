//! Samples of what people declare.
//!
//! It refuses to leave a field out, except where the smallest specification is the sample.

use std::time::Duration;

use certwright_core::ids::{AuthorityName, IssuerName, TargetName};
use certwright_core::spec::{
    AuthorityPurpose, AuthoritySpec, CertificateSpec, Dialect, FilesSink, Holder, IssuerKind, IssuerSpec, KeyAlgorithm,
    KeyEncoding, Labels, PrivateKeySpec, Reload, ReloadAction, RotationPolicy, ServedCheck, Sink, Subject, Target,
    Usage,
};

use super::*;

fn targets() -> Vec<Target> {
    let files = FilesSink {
        directory: "/etc/nginx/tls".to_owned(),
        names: labels(&[("cert.pem", "tls.crt"), ("key.pem", "tls.key")]),
        owner: Some("root".to_owned()),
        group: Some("www-data".to_owned()),
        mode: Some(0o640),
    };
    let signal = ReloadAction::Signal { signal: "HUP".to_owned(), pid_file: "/run/nginx.pid".to_owned() };
    vec![
        Target {
            name: TargetName::parse("nginx").unwrap(),
            holder: Holder::Selector(labels(&[("region", "eu"), ("role", "edge")])),
            sink: Sink::Files(files),
            reload: Some(Reload { action: signal, test_exec: words(&["nginx", "-t"]), timeout_seconds: 20 }),
            served_check: Some(ServedCheck {
                address: "127.0.0.1:443".to_owned(),
                server_name: "front.example.com".to_owned(),
            }),
        },
        Target {
            name: TargetName::parse("exec").unwrap(),
            holder: Holder::Agent(agent_name()),
            sink: Sink::Files(FilesSink { directory: "/srv/tls".to_owned(), ..FilesSink::default() }),
            reload: Some(Reload {
                action: ReloadAction::Exec(words(&["systemctl", "reload", "haproxy"])),
                test_exec: Vec::new(),
                timeout_seconds: 30,
            }),
            served_check: None,
        },
    ]
}

/// Every field there; no Secret target, which the API refuses.
pub(crate) fn spec() -> CertificateSpec {
    CertificateSpec {
        dialect: Dialect::Certwright,
        common_name: Some("front.example.com".to_owned()),
        dns_names: words(&["front.example.com", "*.front.example.com"]),
        ip_addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        uris: words(&["spiffe://example.com/front"]),
        email_addresses: words(&["ops@example.com"]),
        subject: Subject {
            organizations: words(&["Example"]),
            organizational_units: words(&["Web"]),
            countries: words(&["DE"]),
            localities: words(&["Berlin"]),
            provinces: words(&["BE"]),
            street_addresses: words(&["Street 1"]),
            postal_codes: words(&["10115"]),
            serial_number: Some("42".to_owned()),
        },
        duration: Some(Duration::from_secs(30)),
        renew_before: Some(Duration::from_millis(10_500)),
        renew_before_percentage: Some(33),
        usages: vec![Usage::DigitalSignature, Usage::ServerAuth],
        is_ca: true,
        private_key: PrivateKeySpec {
            algorithm: KeyAlgorithm::EcdsaP384,
            encoding: KeyEncoding::Pkcs8,
            rotation_policy: RotationPolicy::Never,
        },
        revision_history_limit: Some(5),
        issuer: IssuerName::parse("demo").unwrap(),
        targets: targets(),
        labels: labels(&[("app", "front"), ("team", "web")]),
        secret_name: Some("front-tls".to_owned()),
    }
}

/// As little as a specification can say, in cert-manager's dialect, with the target kind that the API refuses.
pub(crate) fn small_spec() -> CertificateSpec {
    CertificateSpec {
        dialect: Dialect::CertManager,
        common_name: None,
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        uris: Vec::new(),
        email_addresses: Vec::new(),
        subject: Subject::default(),
        duration: None,
        renew_before: None,
        renew_before_percentage: None,
        usages: Vec::new(),
        is_ca: false,
        private_key: PrivateKeySpec {
            algorithm: KeyAlgorithm::Rsa2048,
            encoding: KeyEncoding::Pkcs1,
            rotation_policy: RotationPolicy::Always,
        },
        revision_history_limit: None,
        issuer: IssuerName::parse("demo").unwrap(),
        targets: vec![Target {
            name: TargetName::parse("secret").unwrap(),
            holder: Holder::Agent(agent_name()),
            sink: Sink::Secret { namespace: "backend".to_owned(), name: "tls".to_owned() },
            reload: None,
            served_check: None,
        }],
        labels: Labels::new(),
        secret_name: None,
    }
}

pub(crate) fn issuer_spec() -> IssuerSpec {
    IssuerSpec {
        kind: IssuerKind::Ca { authority: AuthorityName::parse("demo-ca").unwrap() },
        max_duration: Some(Duration::from_secs(86_400)),
        allowed_dns_suffixes: words(&["example.com"]),
    }
}

pub(crate) fn authority_spec() -> AuthoritySpec {
    AuthoritySpec {
        common_name: "Demo CA".to_owned(),
        key_algorithm: KeyAlgorithm::EcdsaP256,
        parent: Some(AuthorityName::parse("demo-root").unwrap()),
        duration: Duration::from_secs(31_536_000),
        path_len: Some(0),
        purpose: AuthorityPurpose::Issuing,
    }
}

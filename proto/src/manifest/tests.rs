//! Manifests in, manifests out, and what is refused.

#![allow(clippy::unwrap_used)]

mod print;

use super::*;

/// What a cert-manager installation has today.
const API_INTERNAL: &str = include_str!("../../testdata/api-internal-cert.yaml");
const PAYMENTS: &str = include_str!("../../testdata/payments-service-tls.yaml");

fn one(text: &str) -> Resource {
    let mut documents = parse(text, "default").unwrap();
    assert_eq!(documents.len(), 1);
    documents.remove(0).resource
}

fn certificate(text: &str) -> v1::Certificate {
    match one(text) {
        Resource::Certificate(certificate) => *certificate,
        other => panic!("{} is no certificate", other.kind()),
    }
}

fn refuse(text: &str) -> Rejection {
    parse(text, "default").unwrap_err()
}

fn ours(spec: &str) -> String {
    let spec = spec.trim_end().replace('\n', "\n  ");
    format!(
        "apiVersion: certwright.dev/v1\nkind: Certificate\nmetadata: {{name: c}}\nspec:\n  issuerRef: {{name: demo}}\n  {spec}\n"
    )
}

#[test]
fn certificates_of_cert_manager_are_taken_as_they_are() {
    let first = certificate(API_INTERNAL);
    assert_eq!(first.name, "namespaces/backend/certificates/api-internal-cert");
    let spec = first.spec.unwrap();
    assert_eq!(spec.dialect(), v1::certificate_spec::Dialect::CertManager);
    assert_eq!((&*spec.issuer, &*spec.secret_name), ("internal-ca", "api-internal-tls"));
    assert_eq!(spec.dns_names, ["api.backend.svc.cluster.local", "api.backend.svc"]);
    assert_eq!(spec.duration.unwrap().seconds, 2160 * 3600);
    assert_eq!(spec.renew_before.unwrap().seconds, 360 * 3600);

    let second = certificate(PAYMENTS);
    assert_eq!(second.name, "namespaces/payments/certificates/payments-service-tls");
    for message in [API_INTERNAL, PAYMENTS].map(certificate) {
        let wish = crate::api::certificate::certificate_from_message(Some(message)).unwrap();
        wish.spec.validate().unwrap();
        assert_eq!(wish.spec.private_key.algorithm, certwright_core::spec::KeyAlgorithm::Rsa2048);
        assert_eq!(wish.spec.private_key.encoding, certwright_core::spec::KeyEncoding::Pkcs1);
    }
}

#[test]
fn the_other_documents_of_an_installation_are_named() {
    let table = [
        (include_str!("../../testdata/internal-ca-issuer.yaml"), Reason::NotYetSupported, "kind ClusterIssuer"),
        (include_str!("../../testdata/letsencrypt-prod.yaml"), Reason::NotYetSupported, "kind ClusterIssuer"),
        (include_str!("../../testdata/my-app-ingress.yaml"), Reason::NotYetSupported, "kind Ingress"),
        (include_str!("../../testdata/csi-volume.yaml"), Reason::InvalidManifest, "kind Pod of v1"),
        (include_str!("../../testdata/prometheus-rules.yaml"), Reason::InvalidManifest, "no apiVersion and kind"),
    ];
    for (text, reason, said) in table {
        let rejection = refuse(&format!("{API_INTERNAL}\n---\n{text}"));
        assert_eq!(rejection.reason, reason, "{rejection}");
        assert!(rejection.message.starts_with("document 2: "), "{rejection}");
        assert!(rejection.message.contains(said), "{rejection}");
    }
}

#[test]
fn many_documents_are_numbered_and_placed() {
    let documents = parse(&format!("# head\n---\n---\n{API_INTERNAL}---\n{PAYMENTS}"), "default").unwrap();
    let placed: Vec<_> = documents.iter().map(|document| (document.number, document.line)).collect();
    assert_eq!(placed, [(1, 3), (2, 4 + API_INTERNAL.lines().count())]);
}

const FULL: &str = "
apiVersion: certwright.dev/v1
kind: Certificate
metadata:
  name: front
  labels: {app: front, version: \"1\"}
spec:
  commonName: front.example.com
  dnsNames: [front.example.com]
  ipAddresses: [192.0.2.1]
  uris: ['spiffe://example.com/front']
  emailAddresses: [ops@example.com]
  subject: {organizations: [Example], serialNumber: \"42\"}
  duration: 30s
  renewBefore: 10.5s
  renewBeforePercentage: 33
  usages: [server auth, digital signature]
  isCA: false
  privateKey: {algorithm: ECDSA, size: 384, encoding: PKCS8, rotationPolicy: Never}
  revisionHistoryLimit: 5
  issuerRef: {name: demo, kind: Issuer, group: certwright.dev}
  targets:
    - name: nginx
      selector: {role: edge}
      files:
        directory: /etc/nginx/tls
        names: {cert.pem: tls.crt}
        owner: root
        group: 33
        mode: 0640
      reload:
        signal: HUP
        pidFile: /run/nginx.pid
        testExec: [nginx, -t]
        timeoutSeconds: 20
      servedCheck: {address: '127.0.0.1:443', serverName: front.example.com}
    - name: haproxy
      agent: edge-1
      files: {directory: /srv/tls}
      reload: {exec: [systemctl, reload, haproxy]}
";

#[test]
fn every_field_of_ours_arrives() {
    let message = certificate(FULL);
    assert_eq!(message.name, "namespaces/default/certificates/front");
    assert_eq!(message.labels["version"], "1");
    let spec = message.spec.as_ref().unwrap();
    assert_eq!(spec.renew_before, Some(prost_types::Duration { seconds: 10, nanos: 500_000_000 }));
    let files = spec.targets[0].files.as_ref().unwrap();
    assert_eq!((files.mode, &*files.group), (Some(0o640), "33"));
    assert_eq!(spec.targets[0].reload.as_ref().unwrap().test_exec, ["nginx", "-t"]);
    assert_eq!(spec.targets[1].reload.as_ref().unwrap().exec.len(), 3);
    crate::api::certificate::certificate_from_message(Some(message)).unwrap();
}

#[test]
fn modes_are_octal_however_they_are_written() {
    for (text, mode) in [("0640", 0o640), ("640", 0o640), ("'0640'", 0o640), ("0o600", 0o600), ("\"7777\"", 0o7777)] {
        let text = ours(&format!("targets: [{{name: t, agent: a, files: {{directory: /d, mode: {text}}}}}]"));
        assert_eq!(certificate(&text).spec.unwrap().targets[0].files.as_ref().unwrap().mode, Some(mode), "{text}");
    }
    for wrong in ["0680", "rw", "'+640'", "10000", "-1"] {
        let text = ours(&format!("targets: [{{name: t, agent: a, files: {{directory: /d, mode: {wrong}}}}}]"));
        assert_eq!(refuse(&text).field.as_deref(), Some("spec.targets[0].files.mode"), "{wrong}");
    }
}

#[test]
fn issuers_and_authorities() {
    let Resource::Issuer(issuer) = one("apiVersion: certwright.dev/v1\nkind: Issuer\nmetadata: {name: demo}\n\
         spec: {ca: {authority: demo-ca}, maxDuration: 24h, allowedDnsSuffixes: [example.com]}")
    else {
        panic!("no issuer")
    };
    let wish = crate::api::issuer::issuer_from_message(Some(issuer)).unwrap();
    assert_eq!((wish.name.as_str(), wish.spec.max_duration.unwrap().as_secs()), ("demo", 86_400));

    for kind in crate::api::issuer::RESERVED_KINDS {
        let text =
            format!("apiVersion: certwright.dev/v1\nkind: Issuer\nmetadata: {{name: x}}\nspec: {{{kind}: {{a: 1}}}}");
        let Resource::Issuer(issuer) = one(&text) else { panic!("no issuer") };
        let rejection = crate::api::issuer::issuer_from_message(Some(issuer)).unwrap_err();
        assert_eq!(rejection.reason, Reason::NotYetSupported);
        assert_eq!(rejection.field, Some(format!("spec.{kind}")));
    }
    let both = "apiVersion: certwright.dev/v1\nkind: Issuer\nmetadata: {name: x}\nspec: {ca: {authority: a}, acme: {}}";
    assert!(refuse(both).message.contains("ca and acme"));

    let Resource::Authority(authority) =
        one("apiVersion: certwright.dev/v1\nkind: Authority\nmetadata: {name: demo-ca}\n\
         spec: {commonName: Demo CA, keyAlgorithm: ECDSA-P384, parent: demo-root, duration: 8760h, pathLen: 0}")
    else {
        panic!("no authority")
    };
    let (name, spec) = crate::api::authority::authority_from_message(Some(authority)).unwrap();
    assert_eq!((name.as_str(), spec.path_len, spec.parent.unwrap().as_str()), ("demo-ca", Some(0), "demo-root"));
}

#[test]
fn unknown_fields_are_named_with_their_line() {
    let table = [
        ("dnsName: [a]", "line 6: unknown field \"dnsName\""),
        ("privateKey:\n  algoritm: RSA", "line 7: unknown field \"algoritm\""),
        ("targets:\n- name: t\n  file: {}", "line 8: unknown field \"file\""),
        ("targets:\n- name: t\n  reload:\n    shell: x", "line 9: unknown field \"shell\""),
    ];
    for (spec, said) in table {
        let rejection = refuse(&ours(spec));
        assert_eq!(rejection.reason, Reason::InvalidManifest);
        assert!(rejection.message.contains(said), "{rejection}");
        let second = refuse(&format!("{API_INTERNAL}---\n{}", ours(spec)));
        let lines = API_INTERNAL.lines().count() + 1;
        let line: usize = said.split([' ', ':']).nth(1).unwrap().parse().unwrap();
        assert!(second.message.starts_with(&format!("document 2: line {}: unknown", line + lines)), "{second}");
    }
    assert!(refuse("apiVersion: certwright.dev/v1\nkind: Certificate\nmetadat: {}\n").message.contains("metadat"));
}

#[test]
fn malformed_documents_name_the_line_in_one_sentence() {
    let table = [
        ("apiVersion: [", "line "),
        ("a: b: c", "line 1"),
        ("apiVersion: certwright.dev/v1\nkind: Certificate\nkind: Issuer\n", "line 3"),
        (&ours("dnsNames: notalist"), "line 6"),
        (&ours("renewBeforePercentage: many"), "line 6"),
        (&ours("dnsNames: &a [*a]"), "line 6"),
        ("- a\n- b\n", "line 1"),
        ("just text", "line 1"),
        ("a: 'b\nc: d\n", "line 2"),
        ("\0", "line 1"),
    ];
    for (text, said) in table {
        let rejection = refuse(text);
        assert_eq!(rejection.reason, Reason::InvalidManifest, "{text:?}: {rejection}");
        assert!(rejection.message.contains(said), "{text:?}: {rejection}");
        assert!(!rejection.message.contains('\n'), "{rejection}");
    }
}

#[test]
fn missing_and_wrong_values_name_the_field() {
    let kind = "apiVersion: certwright.dev/v1\nkind: Certificate\n";
    let table = [
        (format!("{kind}metadata: {{}}\nspec: {{}}"), "metadata.name"),
        (format!("{kind}metadata: {{name: c}}"), "spec"),
        (format!("{kind}metadata: {{name: c}}\nspec:\n"), "spec"),
        (format!("{kind}metadata: {{name: c}}\nspec: {{dnsNames: [a]}}"), "spec.issuerRef"),
        (format!("{kind}metadata: {{name: c}}\nspec: {{issuerRef: {{}}}}"), "spec.issuerRef.name"),
        (ours("duration: 30d"), "spec.duration"),
        (ours("renewBefore: 3600"), "spec.renewBefore"),
        (ours("targets: [{agent: a}]"), "spec.targets[0].name"),
    ];
    for (text, field) in table {
        let rejection = refuse(&text);
        assert_eq!((rejection.reason, rejection.field.as_deref()), (Reason::InvalidManifest, Some(field)), "{text}");
    }
}

#[test]
fn null_is_absent_as_in_kubernetes() {
    let text = "apiVersion: certwright.dev/v1\nkind: Certificate\nmetadata:\n  name: c\n  labels:\n  annotations: ~\n\
                spec:\n  issuerRef: {name: demo}\n  dnsNames:\n  duration: null\n  targets:\nstatus:\n";
    let message = certificate(text);
    assert_eq!((message.labels.len(), message.spec.unwrap().dns_names.len()), (0, 0));
}

#[test]
fn what_kubernetes_clients_add_is_ignored() {
    let text = API_INTERNAL.replace(
        "  namespace: backend\n",
        "  namespace: backend\n  annotations: {kubectl.kubernetes.io/last-applied-configuration: x}\n  uid: abc\n  \
         resourceVersion: '7'\n  generation: 2\n  managedFields: [{manager: kubectl}]\n  finalizers: [a]\n",
    );
    assert_eq!(certificate(&text), certificate(API_INTERNAL));
    let with_status =
        format!("{API_INTERNAL}\nstatus:\n  conditions: [{{type: Ready, status: 'True'}}]\n  revision: 1\n");
    assert_eq!(certificate(&with_status), certificate(API_INTERNAL));
}

#[test]
fn fields_of_cert_manager_that_are_not_there_yet_are_named() {
    let table = [
        ("additionalOutputFormats: [{type: DER}]", "additionalOutputFormats"),
        ("keystores: {jks: {create: true}}", "keystores"),
        ("literalSubject: CN=a", "literalSubject"),
        ("nameConstraints: {critical: true}", "nameConstraints"),
        ("otherNames: [{oid: 1.2.3, utf8Value: a}]", "otherNames"),
        ("secretTemplate: {labels: {a: b}}", "secretTemplate"),
        ("signatureAlgorithm: SHA256WithRSA", "signatureAlgorithm"),
        ("renewal: {policy: Disabled}", "renewal.policy"),
    ];
    for (field, name) in table {
        let rejection = refuse(&format!("{API_INTERNAL}\n  {field}\n"));
        assert_eq!(rejection.reason, Reason::NotYetSupported, "{field}");
        assert_eq!(rejection.field, Some(format!("spec.{name}")));
    }
    let windows =
        certificate(&format!("{API_INTERNAL}\n  renewal: {{windows: [{{cron: 0 3 * * *, windowDuration: 2h}}]}}\n"));
    assert_eq!(windows.spec.unwrap().renewal_windows, ["0 3 * * * 2h"]);
    let accepted = format!("{API_INTERNAL}\n  encodeUsagesInRequest: false\n  renewal: {{policy: RenewBefore}}\n");
    assert_eq!(certificate(&accepted), certificate(API_INTERNAL));
    let foreign = API_INTERNAL.replace("kind: ClusterIssuer", "kind: AWSPCAIssuer");
    assert_eq!(refuse(&foreign).field.as_deref(), Some("spec.issuerRef.kind"));
    let foreign = API_INTERNAL.replace("kind: ClusterIssuer", "group: awspca.cert-manager.io");
    assert_eq!(refuse(&foreign).field.as_deref(), Some("spec.issuerRef.group"));
}

#[test]
fn one_octet_too_many() {
    let padding = MANIFEST_OCTETS_MAX - API_INTERNAL.len() - 2;
    let full = format!("#{}\n{API_INTERNAL}", "x".repeat(padding));
    assert_eq!(full.len(), MANIFEST_OCTETS_MAX);
    assert_eq!(certificate(&full), certificate(API_INTERNAL));
    assert_eq!(refuse(&format!("{full}\n")).reason, Reason::TooLarge);
}

#[test]
fn one_document_too_many() {
    let full = format!("---\n{PAYMENTS}").repeat(DOCUMENTS_MAX);
    assert_eq!(parse(&full, "default").unwrap().len(), DOCUMENTS_MAX);
    assert_eq!(refuse(&format!("{full}---\n{PAYMENTS}")).reason, Reason::TooLarge);
}

#[test]
fn one_level_too_deep() {
    let nested = |depth: usize| format!("{API_INTERNAL}\nstatus: {}{}\n", "[".repeat(depth), "]".repeat(depth));
    assert!(parse(&nested(DEPTH_MAX - 2), "default").is_ok());
    let rejection = refuse(&nested(DEPTH_MAX + 1));
    assert_eq!(rejection.reason, Reason::InvalidManifest);
    assert_eq!(refuse(&nested(100_000)).reason, Reason::InvalidManifest);
}

#[test]
fn aliases_cannot_multiply() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let references = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{references}]\n"));
    }
    assert_eq!(refuse(&bomb).reason, Reason::InvalidManifest);
}

#[test]
fn nothing_is_no_manifest() {
    for text in ["", "\n\n", "# comment\n", "---\n---\n"] {
        assert!(refuse(text).message.contains("no document"), "{text:?}");
    }
}

proptest::proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "[ -~\\n]{0,200}") {
        let _ = parse(&text, "default");
    }

    #[test]
    fn damaged_manifests_never_panic(at in proptest::prelude::any::<proptest::sample::Index>(), with in "[\\PC\\n]{0,3}") {
        let mut at = at.index(FULL.len());
        while !FULL.is_char_boundary(at) {
            at -= 1;
        }
        let _ = parse(&format!("{}{with}{}", &FULL[..at], &FULL[at..]), "default");
    }
}

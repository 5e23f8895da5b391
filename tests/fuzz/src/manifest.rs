//! Manifests: YAML documents of ours and of cert-manager, to API messages, to the domain, and printed again.
//!
//! It refuses a document that means something else after `get -o yaml` and `apply`.

use certwright_proto::api::authority::authority_from_message;
use certwright_proto::api::certificate::certificate_from_message;
use certwright_proto::api::issuer::issuer_from_message;
use certwright_proto::manifest::{DOCUMENTS_MAX, MANIFEST_OCTETS_MAX, Resource, parse, to_yaml};
use certwright_proto::v1;

use crate::verdict::{accepted, took};

/// What a manifest wishes for.
#[derive(Default)]
pub(crate) struct Wishes {
    pub(crate) certificates: Vec<v1::Certificate>,
    pub(crate) issuers: Vec<v1::Issuer>,
    pub(crate) authorities: Vec<v1::Authority>,
}

/// The wishes of a manifest of this repository.
pub(crate) fn wishes(text: &str) -> Wishes {
    let mut wishes = Wishes::default();
    for document in parse(text, "default").expect("an example") {
        match document.resource {
            Resource::Certificate(certificate) => wishes.certificates.push(*certificate),
            Resource::Issuer(issuer) => wishes.issuers.push(issuer),
            Resource::Authority(authority) => wishes.authorities.push(authority),
            Resource::Agent(_) => {}
        }
    }
    wishes
}

pub(crate) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Some(documents) = accepted(parse(text, "default")) else { return };
    assert!(text.len() <= MANIFEST_OCTETS_MAX && (1..=DOCUMENTS_MAX).contains(&documents.len()));
    for (document, number) in documents.into_iter().zip(1..) {
        assert_eq!(document.number, number);
        assert!((1..=text.lines().count().max(1)).contains(&document.line), "line {}", document.line);
        declared(document.resource);
    }
}

fn declared(resource: Resource) {
    match &resource {
        Resource::Certificate(certificate) => {
            let Some(wish) = accepted(certificate_from_message(Some((**certificate).clone()))) else { return };
            crate::api::understood(&wish.spec);
            // As a server answers it, every default spelled out.
            let spec = certwright_proto::api::spec::spec_to_message(&wish.spec);
            let answered = v1::Certificate { spec: Some(spec), ..(**certificate).clone() };
            let same = printed(&Resource::Certificate(Box::new(answered)));
            let Resource::Certificate(same) = same else { panic!("another kind") };
            assert_eq!(certificate_from_message(Some(*same)), Ok(wish));
            took();
        }
        Resource::Issuer(issuer) => {
            let Some(wish) = accepted(issuer_from_message(Some(issuer.clone()))) else { return };
            let Resource::Issuer(same) = printed(&resource) else { panic!("another kind") };
            assert_eq!(issuer_from_message(Some(same)), Ok(wish));
            took();
        }
        Resource::Authority(authority) => {
            let Some(wish) = accepted(authority_from_message(Some(authority.clone()))) else { return };
            let Resource::Authority(same) = printed(&resource) else { panic!("another kind") };
            assert_eq!(authority_from_message(Some(same)), Ok(wish));
            took();
        }
        Resource::Agent(_) => panic!("an agent was declared"),
    }
}

/// What is printed of it, read again.
fn printed(resource: &Resource) -> Resource {
    let text = to_yaml(resource);
    let mut read = parse(&text, "default").unwrap_or_else(|why| panic!("{why}\n{text}"));
    assert_eq!(read.len(), 1, "{text}");
    let same = read.remove(0).resource;
    assert_eq!(same.name(), resource.name(), "{text}");
    same
}

/// A document with every field of ours.
const FULL: &str = "\
apiVersion: certwright.dev/v1
kind: Certificate
metadata: {name: full, namespace: web, labels: {team: web}}
spec:
  commonName: full.example.com
  dnsNames: [full.example.com, '*.full.example.com']
  ipAddresses: [192.0.2.1, '2001:db8::1']
  uris: ['spiffe://example.com/full']
  emailAddresses: [full@example.com]
  subject: {organizations: [Example], countries: [DE], serialNumber: '7'}
  duration: 24h
  renewBefore: 8h
  usages: [server auth, client auth]
  privateKey: {algorithm: RSA, size: 3072, encoding: PKCS1, rotationPolicy: Never}
  revisionHistoryLimit: 3
  issuerRef: {name: internal-ca, kind: ClusterIssuer, group: cert-manager.io}
  targets:
  - name: files
    selector: {zone: a}
    files: {directory: /etc/tls/full, names: {tls.crt: full.pem}, owner: nginx, group: nginx, mode: 0640}
    reload: {signal: HUP, pidFile: /run/nginx.pid, timeoutSeconds: 5}
    servedCheck: {address: 'localhost:443', serverName: full.example.com}
";

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        include_str!("../../../examples/shop.yaml"),
        include_str!("../../../examples/issuers.yaml"),
        include_str!("../../../examples/authorities.yaml"),
        include_str!("../../../examples/cert-manager/api-internal-cert.yaml"),
        include_str!("../../../examples/cert-manager/payments-service-tls.yaml"),
        include_str!("../../../proto/testdata/letsencrypt-prod.yaml"),
        include_str!("../../../proto/testdata/csi-volume.yaml"),
        include_str!("../../../proto/testdata/my-app-ingress.yaml"),
        FULL,
        "a: &a [1, 1]\nb: [*a, *a]\napiVersion: certwright.dev/v1\nkind: Issuer\n",
        "%YAML 1.2\n---\n# nothing\n...\n---\n{apiVersion: v1, kind: List, items: []}\n",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

//! Events as `events -o json` prints them.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::*;
use crate::storage::tests::samples;

fn data_of(kind: &str) -> Value {
    let event = samples::events().into_iter().rev().find(|event| event.kind() == kind).unwrap();
    data(&event)
}

#[test]
fn an_issued_certificate() {
    let event = Event::CertificateIssued(Box::new(samples::issued()));
    let serial = samples::serial(0x31).to_string();
    let expected = json!({
        "instance": "7-2-3",
        "generation": 9,
        "serial": serial,
        "issuer": "demo",
        "authority": "demo-ca",
        "notBefore": samples::at(3_000).to_string(),
        "notAfter": samples::at(4_000).to_string(),
        "renewAt": samples::at(3_666).to_string(),
        "keyHash": "33".repeat(32),
    });
    assert_eq!(data(&event), expected);
    let direct = data_of("CertificateIssued");
    assert_eq!((&direct["instance"], &direct["generation"]), (&json!(serial), &json!(1)));
    assert_eq!(direct["renewAt"], Value::Null);
}

#[test]
fn a_delivery() {
    let data = data(&Event::CertificateDelivered(samples::delivered()));
    assert_eq!(data["target"], "nginx");
    assert_eq!(data["stage"], "written");
    assert_eq!(data["failure"], json!({ "reason": "RELOAD_FAILED", "message": "exit status 1" }));
    assert_eq!(data["elapsedMs"], 1250);
    assert_eq!(data_of("CertificateDelivered").get("failure"), None);
}

#[test]
fn every_event_is_an_object_without_secrets() {
    for event in samples::events() {
        let text = data(&event).to_string();
        assert!(text.starts_with('{'), "{}: {text}", event.kind());
        for canary in ["sealed-canary", "wrapped-canary", "secret-hash-canary"] {
            let hidden = [canary.to_owned(), hex::encode(canary), canary.to_uppercase()];
            for form in &hidden {
                assert!(!text.contains(form), "{}: {text}", event.kind());
            }
            let list = canary.bytes().map(|octet| octet.to_string()).collect::<Vec<_>>().join(",");
            assert!(!text.contains(&list), "{}: {text}", event.kind());
        }
    }
}

#[test]
fn what_each_kind_says() {
    let mut keys = BTreeMap::new();
    for event in samples::events() {
        let Value::Object(object) = data(&event) else { panic!("{} is no object", event.kind()) };
        keys.insert(event.kind(), object.keys().cloned().collect::<Vec<_>>().join(" "));
    }
    let expected = [
        ("AdministratorIdentityIssued", "identity name"),
        ("AgentIdentityIssued", "identity readmitted"),
        ("AgentLabelsChanged", "labels"),
        ("AgentRegistered", "keyHash labels name"),
        ("AgentRemoved", ""),
        ("AuthorityCertificateIntended", "serial tbsHash"),
        ("AuthorityCertified", "notAfter notBefore serial"),
        ("AuthorityDeclared", "dataKeyId name spec"),
        ("AuthorityKeyResealed", "dataKeyId"),
        ("CertificateDeclared", "labels name spec"),
        ("CertificateDeleted", ""),
        ("CertificateDelivered", "elapsedMs generation instance stage target"),
        ("CertificateIssued", "authority generation instance issuer keyHash notAfter notBefore renewAt serial"),
        ("CertificateUpdated", "labels spec"),
        ("CheckpointKeyMade", "dataKeyId publicKey"),
        ("CheckpointKeyResealed", "dataKeyId"),
        ("CheckpointSigned", "at chain epoch index signature"),
        ("ClusterBootstrapped", "clusterId epoch"),
        ("DataKeyProved", "dataKeyId nodeId"),
        ("DataKeyRetired", "dataKeyId"),
        ("DataKeyRotated", "dataKeyId nodeIds"),
        ("DataKeyWrapped", "dataKeyId nodeId"),
        ("EpochOpened", "after afterChain afterIndex at cause epoch"),
        ("FormatRaised", "format"),
        ("HistoryTrimmed", "chain digest digestVersion firstIndex lastAt lastNotAfter"),
        ("InstanceAdded", "agent instance"),
        ("InstanceRemoved", "instance"),
        ("IssuanceAbandoned", "generation instance reason"),
        ("IssuanceFailed", "generation instance message reason retryAt"),
        ("IssuanceOpened", "generation instance trigger"),
        ("IssuerDeclared", "name spec"),
        ("IssuerDeleted", ""),
        ("IssuerUpdated", "spec"),
        ("NodeIdentityIssued", "identity nodeId"),
        ("NodeJoined", "apiAddress httpAddress keyHash name nodeId raftAddress"),
        ("NodeRemoved", "nodeId"),
        ("NodeRoleSet", "learner nodeId"),
        ("RenewalsHeld", "aheadMillis"),
        ("RenewalsReleased", ""),
        ("RetentionSet", "keepSeconds"),
        ("TimeRebased", "from to"),
        ("TokenConsumed", "keyHash"),
        ("TokenCreated", "expiresAt grant id"),
        ("TokenRevoked", ""),
    ];
    assert_eq!(keys, expected.map(|(kind, keys)| (kind, keys.to_owned())).into());
}

#[test]
fn a_transaction_is_numbered_through() {
    let events = events_of(samples::position(5, 2), samples::at(1), &samples::transaction());
    let seen: Vec<_> =
        events.iter().map(|event| (event.number, event.revision, &*event.stream, &*event.r#type)).collect();
    assert_eq!(
        seen,
        [
            (0, 1, "namespaces/web/certificates/front", "CertificateDeclared"),
            (1, 2, "namespaces/web/certificates/front", "InstanceAdded"),
            (2, 0, "direct/31", "CertificateIssued"),
        ]
    );
    for event in &events {
        assert_eq!((event.index, event.ordinal, &*event.actor), (5, 2, "administrator/admin"));
        assert_eq!(event.trace_id, "63".repeat(16));
        assert_eq!(event.at, Some(moment_to_message(samples::at(1))));
    }
    let mut untraced = samples::transaction();
    untraced.trace = Trace::default();
    assert_eq!(events_of(samples::position(5, 2), samples::at(1), &untraced)[0].trace_id, "");
}

#[test]
fn a_declared_certificate_shows_its_manifest() {
    let data = data_of("CertificateDeclared");
    assert_eq!(data["name"], "namespaces/web/certificates/front");
    assert_eq!(data["spec"]["dnsNames"][1], "*.front.example.com");
    assert_eq!(data["spec"]["issuerRef"], json!({ "name": "demo" }));
    assert_eq!(data["spec"]["duration"], "30s");
    assert_eq!(data["spec"]["targets"][0]["files"]["mode"], "0640");
}

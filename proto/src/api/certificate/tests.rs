//! Certificates, issuers, authorities, agents and tokens as callers see them.

#![allow(clippy::unwrap_used)]

use certwright_core::Reason;
use certwright_core::ids::Uid;
use certwright_core::log::Position;
use certwright_core::spec::{IssuerKind, KeyAlgorithm};

use super::*;
use crate::api::{authority, estate, issuer};
use crate::storage::tests::samples;

#[test]
fn a_certificate_is_shown_and_can_be_sent_back() {
    let stored = samples::certificate();
    let message = certificate_to_message(&stored, samples::at(15_000));
    assert_eq!(message.name, "namespaces/web/certificates/front");
    assert_eq!((&*message.uid, &*message.etag), ("7-2", "7-2.12"));
    let wish = certificate_from_message(Some(message)).unwrap();
    assert_eq!((wish.name, wish.etag), (stored.name.clone(), Etag("7-2.12".into())));
    assert_eq!(*wish.spec, samples::spec());
}

#[test]
fn status_shows_instances_and_deliveries() {
    let status = certificate_to_message(&samples::certificate(), samples::at(15_000)).status.unwrap();
    let types: Vec<_> = status.conditions.iter().map(|condition| &*condition.r#type).collect();
    assert_eq!(types, ["Ready", "Issuing"]);
    let first = &status.instances[0];
    assert_eq!((&*first.instance, &*first.agent, first.generation), ("7-2-3", "edge-1", 9));
    assert_eq!(first.serial, samples::serial(0x31).to_string());
    assert_eq!((first.issuing_generation, &*first.trigger), (10, "requested"));
    assert_eq!((first.failed_attempts, &*first.last_failure_reason), (2, "ISSUER_NOT_READY"));
    assert_eq!(first.renewal_time, Some(moment_to_message(samples::at(3_666))));
    assert_eq!(first.next_attempt_time, Some(moment_to_message(samples::at(8_002))));
    let delivery = &first.deliveries[1];
    assert_eq!((&*delivery.target, &*delivery.stage, &*delivery.failure_reason), ("nginx", "written", "RELOAD_FAILED"));
    let second = &status.instances[1];
    assert_eq!((second.generation, &*second.serial, second.not_after), (0, "", None));
}

#[test]
fn requests_without_the_object_name_it() {
    let field = |rejection: Rejection| rejection.field.unwrap();
    assert_eq!(field(certificate_from_message(None).unwrap_err()), "certificate");
    let bare = v1::Certificate { name: "namespaces/a/certificates/b".into(), ..v1::Certificate::default() };
    assert_eq!(field(certificate_from_message(Some(bare)).unwrap_err()), "spec");
    assert_eq!(field(issuer::issuer_from_message(None).unwrap_err()), "issuer");
    assert_eq!(field(authority::authority_from_message(None).unwrap_err()), "authority");
    assert_eq!(field(estate::agent_from_message(None).unwrap_err()), "agent");
}

#[test]
fn what_was_issued_is_shown_with_its_chain() {
    let chain: [Arc<[u8]>; 2] = [[1].into(), [2].into()];
    let token = crate::token::encode(certwright_core::ids::ClusterId([1; 16]), 1, Position::START);
    let message = issued_to_message(&samples::direct(), &chain, token, 5);
    assert_eq!((message.index, message.chain.len()), (5, 2));
    assert_eq!(message.certificate, &samples::direct().certificate[..]);
    assert_eq!(message.serial, samples::serial(0x31).to_string());
}

#[test]
fn issuers_go_there_and_back() {
    let message = issuer::issuer_to_message(&samples::issuer(), true);
    assert_eq!((&*message.name, message.ready), ("issuers/demo", true));
    let wish = issuer::issuer_from_message(Some(message.clone())).unwrap();
    assert_eq!((wish.name, wish.spec), (samples::issuer().name, samples::issuer_spec()));

    type Change = fn(&mut v1::IssuerSpec);
    let table: [(Change, Reason, &str); 5] = [
        (|spec| spec.ca = None, Reason::InvalidSpec, "spec.ca"),
        (|spec| spec.reserved_kind = "acme".into(), Reason::InvalidSpec, "spec.ca"),
        (|spec| (spec.ca, spec.reserved_kind) = (None, "acme".into()), Reason::NotYetSupported, "spec.acme"),
        (|spec| (spec.ca, spec.reserved_kind) = (None, "magic".into()), Reason::InvalidSpec, "spec.reserved_kind"),
        (|spec| spec.ca.as_mut().unwrap().authority = "No!".into(), Reason::InvalidName, "spec.ca.authority"),
    ];
    for (change, reason, field) in table {
        let mut message = message.clone();
        change(message.spec.as_mut().unwrap());
        let rejection = issuer::issuer_from_message(Some(message)).unwrap_err();
        assert_eq!((rejection.reason, rejection.field.as_deref()), (reason, Some(field)));
    }
    for kind in issuer::RESERVED_KINDS {
        let spec = certwright_core::spec::IssuerSpec {
            kind: IssuerKind::Reserved((*kind).to_owned()),
            ..samples::issuer_spec()
        };
        assert_eq!(issuer::issuer_spec_to_message(&spec).reserved_kind, *kind);
    }
}

#[test]
fn authorities_go_there_and_back_without_their_key() {
    let stored = samples::authority();
    let message = authority::authority_to_message(&stored, &[[9].into()]);
    assert_eq!(
        (&*message.name, &*message.parent, &*message.key_algorithm),
        ("authorities/demo-ca", "demo-root", "ECDSA-P256")
    );
    assert_eq!(message.serial, samples::serial(0x51).to_string());
    assert!(!format!("{message:?}").contains("sealed-canary"));
    let (name, spec) = authority::authority_from_message(Some(message.clone())).unwrap();
    assert_eq!((name, spec), (stored.name, samples::authority_spec()));

    let field = |change: fn(&mut v1::Authority)| {
        let mut message = message.clone();
        change(&mut message);
        let rejection = authority::authority_from_message(Some(message)).unwrap_err();
        (rejection.reason, rejection.field.unwrap())
    };
    assert_eq!(field(|it| it.key_algorithm = "Ed25519".into()), (Reason::KeyNotAllowed, "spec.keyAlgorithm".into()));
    assert_eq!(field(|it| it.path_len = Some(256)).1, "spec.pathLen");
    assert_eq!(field(|it| it.purpose = "fun".into()).1, "spec.purpose");
    assert_eq!(field(|it| it.parent = "No!".into()).1, "spec.parent");
    let little = v1::Authority { name: "authorities/r".into(), common_name: "R".into(), ..v1::Authority::default() };
    let (_, spec) = authority::authority_from_message(Some(little)).unwrap();
    assert_eq!((spec.key_algorithm, spec.duration.as_secs()), (KeyAlgorithm::EcdsaP256, 3650 * 24 * 3600));
}

#[test]
fn agents_and_tokens() {
    let agent = estate::agent_to_message(&samples::agent(), true, 3);
    assert_eq!((&*agent.name, agent.instances, agent.connected_here), ("agents/edge-1", 3, true));
    assert_eq!(estate::agent_from_message(Some(agent)).unwrap(), (samples::agent_name(), samples::agent().labels));

    let state = |change: fn(&mut certwright_core::state::Token)| {
        let mut token = samples::token();
        token.consumed_by = None;
        token.revoked = false;
        change(&mut token);
        estate::token_to_message(&token, samples::at(15_500)).state
    };
    assert_eq!(state(|_| ()), "live");
    assert_eq!(state(|token| token.expires_at = samples::at(15_500)), "expired");
    assert_eq!(state(|token| token.consumed_by = Some([1; 32])), "used");
    assert_eq!(state(|token| token.revoked = true), "revoked");
    let message = estate::token_to_message(&samples::token(), samples::at(0));
    assert_eq!((&*message.role, &*message.agent, message.labels.len()), ("agent", "edge-1", 1));
}

#[test]
fn grants() {
    let request = |role: &str, agent: &str, labels: &[(&str, &str)]| {
        let labels = samples::labels(labels);
        let request = v1::CreateTokenRequest { role: role.into(), agent: agent.into(), labels, ..Default::default() };
        estate::grant_from_message(&request).map_err(|rejection| rejection.field.unwrap())
    };
    assert_eq!(request("agent", "edge-1", &[("role", "edge")]), Ok(samples::agent_grant()));
    assert!(request("agent", "", &[]).is_ok());
    assert_eq!(request("node", "", &[]), Ok(certwright_core::event::TokenGrant::Node));
    let learner = |role: &str| {
        let request = v1::CreateTokenRequest { role: role.into(), learner: true, ..Default::default() };
        estate::grant_from_message(&request).map_err(|rejection| rejection.field.unwrap())
    };
    assert_eq!(learner("node"), Ok(certwright_core::event::TokenGrant::Learner));
    assert_eq!(learner("agent"), Err("learner".into()));
    assert_eq!(request("node", "edge-1", &[]), Err("agent".into()));
    assert_eq!(request("node", "", &[("a", "b")]), Err("labels".into()));
    assert_eq!(request("root", "", &[]), Err("role".into()));
    assert_eq!(request("agent", "No!", &[]), Err("agent".into()));
    assert_eq!(*estate::token_secret(&[5; 32]).unwrap(), [5; 32]);
    assert_eq!(estate::token_secret(&[5; 31]).unwrap_err().reason, Reason::InvalidToken);
    assert_eq!(Uid(Position::START).to_string(), "0-0");
}

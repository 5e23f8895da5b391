//! What `get -o yaml` prints can be read again.

use super::{API_INTERNAL, FULL, PAYMENTS, certificate, one};
use crate::api;
use crate::manifest::{Resource, parse, to_json, to_yaml};
use crate::storage::tests::samples;

#[test]
fn what_is_printed_can_be_applied() {
    for text in [API_INTERNAL, PAYMENTS, FULL] {
        let mut read = certificate(text);
        let printed = to_yaml(&Resource::Certificate(Box::new(read.clone())));
        assert_eq!(certificate(&printed), read, "{printed}");
        // And printing is stable.
        read = certificate(&printed);
        assert_eq!(to_yaml(&Resource::Certificate(Box::new(read))), printed);
    }
}

#[test]
fn a_stored_certificate_survives_the_way_through_a_manifest() {
    let shown = api::certificate::certificate_to_message(&samples::certificate(), samples::at(15_000));
    let printed = to_yaml(&Resource::Certificate(Box::new(shown)));
    let wish = api::certificate::certificate_from_message(Some(certificate(&printed))).unwrap();
    assert_eq!(wish.name, samples::certificate_name());
    assert_eq!(*wish.spec, samples::spec());
    assert_eq!(wish.etag.0, "");
}

#[test]
fn a_certificate_with_status() {
    let mut stored = samples::certificate();
    stored.instances.truncate(1);
    let shown = api::certificate::certificate_to_message(&stored, samples::at(15_000));
    let json = to_json(&Resource::Certificate(Box::new(shown)));
    assert_eq!((&json["apiVersion"], &json["kind"]), (&"certwright.dev/v1".into(), &"Certificate".into()));
    assert_eq!((&json["metadata"]["namespace"], &json["metadata"]["etag"]), (&"web".into(), &"7-2.12".into()));
    let status = &json["status"];
    assert_eq!(status["conditions"][0]["type"], "Ready");
    assert_eq!(status["conditions"][0]["reason"], "DeliveryFailed");
    assert_eq!(status["notAfter"], samples::at(40_000).to_string());
    assert_eq!(status["renewalTime"], samples::at(3_666).to_string());
    assert_eq!(status["revision"], 9);
    assert_eq!(status["instances"][0]["deliveries"][1]["target"], "nginx");
}

#[test]
fn issuers_authorities_and_agents() {
    let issuer = api::issuer::issuer_to_message(&samples::issuer(), true);
    let printed = to_yaml(&Resource::Issuer(issuer));
    let Resource::Issuer(read) = one(&printed) else { panic!("no issuer") };
    assert_eq!(api::issuer::issuer_from_message(Some(read)).unwrap().spec, samples::issuer_spec());

    let authority = api::authority::authority_to_message(&samples::authority(), &[]);
    let printed = to_yaml(&Resource::Authority(authority));
    let Resource::Authority(read) = one(&printed) else { panic!("no authority") };
    assert_eq!(api::authority::authority_from_message(Some(read)).unwrap().1, samples::authority_spec());
    assert!(printed.contains("ready: true"), "{printed}");

    let agent = api::estate::agent_to_message(&samples::agent(), true, 3);
    let json = to_json(&Resource::Agent(agent));
    assert_eq!((&json["metadata"]["name"], &json["status"]["instances"]), (&"edge-1".into(), &3.into()));
    assert!(parse(&json.to_string(), "default").is_err(), "agents join, they are not declared");
}

#[test]
fn text_that_looks_like_something_else_stays_text() {
    let mut message = certificate(FULL);
    let spec = message.spec.as_mut().unwrap();
    let tricky =
        ["true", "null", "~", "1e3", "0x10", "no", "- a", "a: b", "#c", " x ", "2026-01-01", "é\u{1F600}", "a\nb"];
    spec.subject.as_mut().unwrap().organizations = tricky.map(str::to_owned).to_vec();
    spec.targets[1].reload.as_mut().unwrap().exec = vec!["sh".into(), "-c".into(), "echo \"$0\" 'x' \\ \t |>".into()];
    for (key, value) in [("true", "1"), ("a/b", "null"), ("n", "0640")] {
        message.labels.insert(key.into(), value.into());
    }
    let printed = to_yaml(&Resource::Certificate(Box::new(message.clone())));
    assert_eq!(certificate(&printed), message, "{printed}");
}

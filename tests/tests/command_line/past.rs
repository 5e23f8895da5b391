//! What the log says of earlier times: differences, and events for other programs.
//!
//! It refuses to know indexes beforehand: they come from the log.

use serde_json::Value;

use crate::shared;

fn manifest(names: &str, duration: &str) -> String {
    format!(
        "apiVersion: certwright.dev/v1\nkind: Certificate\nmetadata: {{name: changing}}\nspec:\n  dnsNames: [{names}]\n  \
         duration: {duration}\n  issuerRef: {{name: demo}}\n"
    )
}

#[test]
fn a_difference_between_two_places_of_the_log() {
    let fleet = shared::fleet();
    fleet.apply(&manifest("a.internal, b.internal", "24h"));
    fleet.apply(&manifest("a.internal", "48h"));
    let history = fleet.json(&["history", "changing"]);
    let index = |event: &Value| event["index"].as_u64().unwrap();
    let [first, second] = [&history[0], history.as_array().unwrap().last().unwrap()].map(|it| index(it).to_string());
    let text = fleet.run(&["history", "changing", "--diff", &first, &second]);
    let expected = "- spec.dnsNames[1]: \"b.internal\"\n- spec.duration: \"24h\"\n+ spec.duration: \"48h\"\n";
    assert_eq!(text, expected);
    let objects = fleet.json(&["history", "changing", "--diff", "0", &first]);
    let issuer = objects.as_array().unwrap().iter().find(|it| it["path"] == "spec.issuerRef.name").unwrap();
    assert_eq!((&issuer["from"], issuer["to"].as_str()), (&Value::Null, Some("demo")));
    assert_eq!(fleet.run(&["history", "changing", "--diff", &second, &second]), "");
}

#[test]
fn events_in_the_format_of_cloudevents() {
    let fleet = shared::fleet();
    let ours = fleet.run(&["events", "--to", "9", "-o", "json"]);
    let theirs = fleet.run(&["events", "--to", "9", "--cloudevents"]);
    let parse = |text: &str| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
    let (ours, theirs) = (parse(&ours), parse(&theirs));
    assert!(ours.len() == theirs.len() && !ours.is_empty());
    for (one, other) in ours.iter().zip(&theirs) {
        let place = format!("{}-{}-{}", one["index"], one["ordinal"], one["number"]);
        assert_eq!((other["specversion"].as_str(), other["id"].as_str()), (Some("1.0"), Some(&*place)), "{other}");
        assert!(other["source"].as_str().unwrap().starts_with("certwright://"), "{other}");
        let kind = format!("dev.certwright.{}", one["type"].as_str().unwrap());
        assert_eq!(other["type"], kind);
        assert_eq!((&other["subject"], &other["time"], &other["data"]), (&one["stream"], &one["at"], &one["data"]));
    }
}

#[test]
fn a_certificate_as_it_was() {
    let fleet = shared::fleet();
    let named = |names, duration| manifest(names, duration).replace("name: changing", "name: remembered");
    fleet.apply(&named("a.internal", "24h"));
    fleet.apply(&named("b.internal", "48h"));
    let history = fleet.json(&["history", "remembered"]);
    let events = history.as_array().unwrap();
    let (first, last) = (&events[0], events.last().unwrap());
    let index = |event: &Value| event["index"].as_u64().unwrap();
    let as_of = |when: &str| fleet.json(&["get", "certificate", "remembered", "--as-of", when]);
    let names = |it: &Value| it["spec"]["dnsNames"].clone();

    let then = as_of(&index(first).to_string());
    assert_eq!((names(&then), &then["spec"]["duration"]), (serde_json::json!(["a.internal"]), &Value::from("24h")));
    assert_eq!(names(&as_of(first["at"].as_str().unwrap())), names(&then), "a moment names the same state");
    // What is folded from the log is what is.
    let now = fleet.json(&["get", "certificate", "remembered"]);
    assert_eq!(as_of(&index(last).to_string()), now);
    assert_eq!(as_of("2100-01-01T00:00:00Z"), now, "nothing was written since");
    for certificate in fleet.json(&["get", "certificates", "-A"]).as_array().unwrap() {
        let part = |key: &str| certificate["metadata"][key].as_str().unwrap();
        let (name, namespace) = (part("name"), part("namespace"));
        let when = ["--as-of", "2100-01-01T00:00:00Z"];
        let folded = fleet.json(&[&["get", "certificate", name, "-n", namespace][..], &when].concat());
        let again = fleet.json(&["get", "certificate", name, "-n", namespace]);
        // Some are renewed all the time.
        if &again == certificate {
            assert_eq!(folded, again);
        }
    }
    // Its page tells nothing that came later.
    let page = fleet.run(&["describe", "certificate", "remembered", "--as-of", &index(first).to_string()]);
    assert!(
        page.contains("a.internal") && !page.contains("b.internal") && !page.contains("CertificateUpdated"),
        "{page}"
    );

    // Before it was, after it was deleted, and beyond the log.
    let before = (index(first) - 1).to_string();
    fleet.refused(&["get", "certificate", "remembered", "--as-of", &before], 1, "NOT_FOUND");
    fleet.run(&["delete", "certificate", "remembered"]);
    fleet.refused(&["get", "certificate", "remembered", "--as-of", "2100-01-01T00:00:00Z"], 1, "NOT_FOUND");
    assert_eq!(names(&as_of(&index(last).to_string())), serde_json::json!(["b.internal"]), "it is remembered");
    fleet.refused(&["get", "certificate", "remembered", "--as-of", "900000000"], 1, "INVALID_SPEC");
    fleet.refused(&["get", "agent", "edge", "--as-of", "4"], 2, "USAGE");
}

#[test]
fn for_how_long_history_is_kept() {
    let fleet = shared::fleet();
    let show = |keep: &str| {
        let shown = fleet.json(&["operator", "retention", "show"]);
        assert_eq!(
            (shown["keep"].as_str(), &shown["firstIndex"], &shown["letGoUntil"]),
            (Some(keep), &0.into(), &Value::Null)
        );
    };
    show("forever");
    let told = "history is kept for 2160h; nothing goes within 24h of a shorter time being set\n";
    assert_eq!(fleet.run(&["operator", "retention", "set", "2160h"]), told);
    show("2160h");
    assert_eq!(fleet.json(&["operator", "retention", "set", "2160h"])["changed"], false);
    assert_eq!(fleet.run(&["operator", "retention", "show"]), "history is kept for 2160h; nothing was let go\n");
    assert_eq!(fleet.run(&["operator", "retention", "set", "forever"]), "history is kept forever\n");
    show("forever");
}

//! `describe` of every kind of object, as people read it.
//!
//! It refuses to compare whole pages: what must be on them, and that their columns hold.

use std::time::Duration;

use certwright_tests::program::{eventually, run};

use crate::shared;

/// The page about an object, its columns checked.
fn page(fleet: &shared::Held, words: &[&str]) -> String {
    let text = fleet.run(&[&["describe"], words].concat());
    let mut fields = 0;
    for line in text.lines() {
        assert_eq!(line, line.trim_end());
        // Names stand alone or at the left of column 22; tables have no colon after their first word.
        let Some((name, value)) = line.split_once(": ") else { continue };
        let is_name = name.trim_start().split(' ').all(|word| word.starts_with(|c: char| c.is_ascii_uppercase()));
        if is_name && name.len() < 21 {
            fields += 1;
            let column = line.len() - value.trim_start().len();
            assert_eq!(column, 22, "{line:?} in\n{text}");
        }
    }
    assert!(fields > 5, "{text}");
    text
}

fn has(text: &str, starts: &[&str]) {
    for start in starts {
        assert!(text.lines().any(|line| line.starts_with(start)), "no line starts with {start:?} in\n{text}");
    }
}

/// The table of events: at most ten, ages first, the oldest first.
fn events(text: &str) -> Vec<Vec<String>> {
    let (_, table) = text.split_once("\nEvents:\n").unwrap_or_else(|| panic!("no events in\n{text}"));
    let mut lines = table.lines().map(|line| line.split_whitespace().map(str::to_string).collect::<Vec<_>>());
    let header = lines.next().unwrap().join(" ");
    let expected = match text.contains("\nKind:                 Certificate\n") {
        true => "AGE INDEX TYPE INSTANCE GENERATION DETAIL",
        false => "AGE INDEX TYPE DETAIL",
    };
    assert_eq!(header, expected);
    let rows: Vec<Vec<String>> = lines.collect();
    let indexes: Vec<u64> = rows.iter().map(|row| row[1].parse().unwrap()).collect();
    assert!(!rows.is_empty() && rows.len() <= 10 && indexes.is_sorted(), "{rows:?}");
    assert!(rows.iter().all(|row| row[0].ends_with(['s', 'm', 'h', 'd'])), "{rows:?}");
    rows
}

#[test]
fn a_certificate_is_described_from_its_wish_to_its_last_event() {
    let fleet = shared::fleet();
    let live = fleet.folder().join("live/described");
    fleet.apply(&format!(
        "apiVersion: certwright.dev/v1\nkind: Certificate\nmetadata: {{name: described, labels: {{team: web}}}}\nspec:\n  \
         commonName: one.described.internal\n  dnsNames: [one.described.internal, two.described.internal]\n  duration: 24h\n  \
         renewBefore: 6h\n  issuerRef: {{name: demo}}\n  targets:\n  - name: files\n    agent: agent-1\n    \
         files: {{directory: {}}}\n",
        live.display()
    ));
    let ready = |text: &str| text.lines().find(|line| line.starts_with("  Ready ")).unwrap().to_string();
    eventually("the first delivery", Duration::from_secs(30), || {
        let line = ready(&page(&fleet, &["certificate", "described"]));
        (line.contains(" True ") && line.contains("ago)")).then_some(())
    });
    fleet.run(&["renew", "described", "--wait"]);
    fleet.run(&["renew", "described", "--wait"]);
    let stored = fleet.json(&["get", "certificate", "described"]);
    let instance = &stored["status"]["instances"][0];
    let text = page(&fleet, &["certificate", "described"]);
    let serial = format!("    Serial:           {}", instance["serial"].as_str().unwrap());
    let generation = format!("    Generation:       {}", instance["generation"]);
    let renews = format!("    Renewal Time:     {} (in ", instance["renewalTime"].as_str().unwrap());
    has(
        &text,
        &[
            "Name:                 described",
            "Namespace:            default",
            "Labels:               team=web",
            "  Common Name:        one.described.internal",
            "  DNS Names:          one.described.internal",
            "                      two.described.internal",
            "  Duration:           24h",
            "  Renew Before:       6h",
            "  Private Key:",
            "    Algorithm:        ECDSA",
            "    Name:             demo",
            "  TYPE ",
            "  Ready ",
            "    Key Owner:        agent agent-1",
            &serial,
            &generation,
            &renews,
            "    Not Before:       2",
            "    Not After:        2",
            "      TARGET   AGENT     STAGE ",
        ],
    );
    let line = ready(&text);
    assert!(line.contains("True") && line.contains(" Ready ") && line.contains("up to date"), "{line}");
    let delivery = text.lines().find(|line| line.starts_with("      files ")).unwrap();
    assert!(delivery.contains("agent-1") && delivery.contains("written") && delivery.contains("ago)"), "{delivery}");
    let rows = events(&text);
    assert_eq!(rows.len(), 10, "{rows:?}");
    let all = fleet.json(&["history", "described"]);
    let newest = &all.as_array().unwrap().last().unwrap()["index"];
    assert_eq!(rows.last().unwrap()[1], newest.to_string());
}

#[test]
fn a_certificate_that_nobody_can_make_says_so() {
    let fleet = shared::fleet();
    fleet.apply(
        "apiVersion: certwright.dev/v1\nkind: Certificate\nmetadata: {name: nobody}\nspec:\n  dnsNames: [n.internal]\n  \
         issuerRef: {name: demo}\n  targets:\n  - {name: files, selector: {no: body}, files: {directory: /x}}\n",
    );
    let text = page(&fleet, &["certificate", "nobody"]);
    has(&text, &["  Ready   False    NoAgent ", "Instances:            none: no registered agent holds a target"]);
}

#[test]
fn what_certificates_depend_on_is_described_as_well() {
    let fleet = shared::fleet();
    let text = page(&fleet, &["issuer", "demo"]);
    has(
        &text,
        &[
            "    Authority:        demo-ca",
            "  Ready:              True",
            "  Not After:          2",
            "  Certificates:       ",
        ],
    );
    assert_eq!(events(&text)[0][2], "IssuerDeclared");

    let text = page(&fleet, &["authority", "demo-ca"]);
    has(
        &text,
        &[
            "  Parent:             demo-root",
            "  Key Algorithm:      ECDSA-P256",
            "  Key:                sealed in the log",
            "  Chain:              CN=certwright demo root",
            "  Issuers:            issuers/demo",
        ],
    );
    assert_eq!(events(&text).last().unwrap()[2], "AuthorityCertified");
    has(&page(&fleet, &["authority", "demo-root"]), &["  Signed:             authorities/demo-ca"]);

    let text = page(&fleet, &["agent", "agent-1"]);
    has(
        &text,
        &[
            "Labels:               dev=true",
            "  Connected:          to the server that answered",
            "  Identity Ends:      2",
            "  namespaces/default/certificates/web ",
        ],
    );
    assert_eq!(events(&text)[0][2], "AgentRegistered");

    for kind in ["server", "node"] {
        let text = page(&fleet, &[kind, "server-1"]);
        has(&text, &["Node ID:              1", "  Role:               leader", "  Unsealed:           True"]);
        events(&text);
    }
    let listed = fleet.json(&["get", "servers"]);
    assert_eq!((&listed[0]["name"], &listed[0]["unsealed"]), (&"server-1".into(), &true.into()), "{listed}");
    assert_eq!(fleet.run(&["get", "servers", "-o", "name"]), "server/server-1\n");
    assert_eq!(fleet.run(&["describe", "issuer", "demo", "-o", "name"]), "issuer/demo\n");
    fleet.refused(&["describe", "server", "nope"], 1, "NOT_FOUND");
    let message = fleet.refused(&["delete", "server", "server-1"], 2, "USAGE");
    assert!(message.contains("operator raft remove server-1"), "{message}");

    let made = run(&mut fleet.command(&["token", "create", "--role", "node", "-o", "json"]));
    assert!(made.status.success());
    let token = fleet.json(&["token", "list"])[0]["id"].as_str().unwrap().to_string();
    let text = page(&fleet, &["token", &token]);
    assert_eq!(events(&text)[0][2], "TokenCreated");
    fleet.run(&["token", "revoke", &token]);
}

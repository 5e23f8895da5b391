//! The manifests in examples/, applied as they are.
//!
//! It refuses to edit them: what a newcomer copies is what is tested.

use crate::shared;

#[test]
fn the_examples_apply_as_they_are_and_cert_manager_documents_with_them() {
    let fleet = shared::fleet();
    let examples = format!("{}/../examples", env!("CARGO_MANIFEST_DIR"));
    let apply = |name: &str| fleet.run(&["apply", "-f", &format!("{examples}/{name}")]);
    assert_eq!(apply("authorities.yaml"), "authority/example-root created\nauthority/example-ca created\n");
    assert_eq!(apply("issuers.yaml"), "issuer/internal-ca created\nissuer/internal-ca-issuer created\n");
    assert_eq!(
        apply("cert-manager"),
        "certificate/api-internal-cert created\ncertificate/payments-service-tls created\n"
    );
    assert_eq!(apply("shop.yaml"), "certificate/shop created\n");
    // A second time nothing is left to do, and nothing is written.
    let before = fleet.happened();
    assert!(apply("issuers.yaml").lines().all(|line| line.ends_with(" unchanged")));
    assert!(apply("cert-manager").lines().all(|line| line.ends_with(" unchanged")));
    assert_eq!(before, fleet.happened());

    let certificate = fleet.json(&["-n", "payments", "get", "certificate", "payments-service-tls"]);
    assert_eq!(certificate["spec"]["duration"], "168h", "{certificate}");
    assert_eq!(certificate["spec"]["renewBefore"], "48h", "{certificate}");
    assert_eq!(certificate["spec"]["dnsNames"][1], "payments-service.payments.svc");
}

#[test]
fn what_get_prints_can_be_applied_and_changes_nothing() {
    let fleet = shared::fleet();
    let manifests = [
        fleet.run(&["get", "certificates", "-A", "-o", "yaml"]),
        fleet.run(&["get", "certificate", "web", "-o", "yaml"]),
        fleet.run(&["get", "issuers", "-o", "yaml"]),
        fleet.run(&["get", "authorities", "-o", "yaml"]),
    ];
    for manifest in manifests {
        let file = fleet.folder().join("printed.yaml");
        std::fs::write(&file, &manifest).unwrap();
        let before = fleet.happened();
        let mut command = fleet.command(&["apply", "-f", "-"]);
        command.stdin(std::fs::File::open(&file).unwrap());
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(!said.is_empty() && said.lines().all(|line| line.ends_with(" unchanged")), "{said}");
        assert_eq!(before, fleet.happened());
    }
}

//! Series about the fleet, as a scraper sees them.

use std::sync::Arc;
use std::time::Duration;

use certwright_core::command::Command;
use certwright_core::event::{Delivered, Stage};
use certwright_core::ids::TargetName;
use prometheus::{Encoder, TextEncoder};

use super::server::{Machine, Server, admin, agent, name, p256, request, spec};
use crate::CsrSubmission;

fn scrape(server: &Server) -> String {
    let mut text = Vec::new();
    TextEncoder::new().encode(&server.registry.gather(), &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[tokio::test(start_paused = true)]
async fn series_carry_cert_managers_names_and_labels() {
    let (server, web) = Machine::new().estate().await;
    let command = Command::CreateCertificate { name: name("web"), spec: Arc::new(spec("web")) };
    server.control.execute(admin(), command).await.unwrap();
    let open = server.until(|state| {
        let instance = state.certificates.get(&name("web"))?.instances.first()?;
        Some((instance.id, instance.open?.generation))
    });
    let (instance, generation) = open.await;
    let labels =
        r#"issuer_group="certwright.dev",issuer_kind="Issuer",issuer_name="demo",name="web",namespace="default""#;
    let ready =
        |condition: &str| format!(r#"certmanager_certificate_ready_status{{condition="{condition}",{labels}}}"#);
    let before = scrape(&server);
    assert!(before.contains(&format!("{} 0", ready("True"))), "{before}");
    assert!(before.contains(&format!("{} 1", ready("False"))));
    assert!(before.contains(&format!("certmanager_certificate_expiration_timestamp_seconds{{{labels}}} 0")));
    assert!(!before.contains("certmanager_certificate_renewal_timestamp_seconds"), "zero would fire the expiry alert");

    let csr = request(&p256(), &[]);
    let submission = CsrSubmission { certificate: name("web"), instance, generation, csr };
    server.control.submit_csr(agent("web", &web), submission).await.unwrap();
    assert!(scrape(&server).contains(&format!("{} 0", ready("True"))), "issued, and not in place yet");
    let delivered = Delivered {
        instance,
        generation,
        target: Some(TargetName::parse("files").unwrap()),
        stage: Stage::Written,
        failure: None,
        elapsed: Duration::ZERO,
    };
    server.control.report(agent("web", &web), vec![(name("web"), delivered)]).await.unwrap();
    let after = scrape(&server);
    let current = server.log.read(|view| view.state.certificates.get(&name("web")).unwrap().instances[0].current);
    let current = current.unwrap();
    assert!(after.contains(&format!("{} 1", ready("True"))), "{after}");
    let (end, renewal) = (current.not_after.seconds(), current.renew_at.seconds());
    assert!(after.contains(&format!("certmanager_certificate_expiration_timestamp_seconds{{{labels}}} {end}")));
    assert!(after.contains(&format!("certmanager_certificate_renewal_timestamp_seconds{{{labels}}} {renewal}")));
    assert!(after.contains(r#"certwright_ca_not_after_timestamp_seconds{ca="root",role="root"}"#));
    assert!(after.contains(r#"certwright_issuances_total{issuer="demo",reason="",result="issued",trigger="first"} 1"#));

    server.control.stop();
    server.log.shutdown().await;
    assert!(!scrape(&server).contains("certmanager_"), "only the leader speaks of the fleet");
}

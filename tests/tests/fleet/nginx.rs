//! A real nginx serves a delivered certificate through twenty renewals while a client handshakes all the time.
//!
//! It refuses a single failed handshake, mismatched pair or missing serial.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use certwright_tests::fleet::Fleet;
use certwright_tests::handshake::Client;
use certwright_tests::peers::{Nginx, free_port, openssl_x509, verify_everywhere};
use certwright_tests::program::eventually;

const RENEWALS: usize = 20;

/// Serials issued for the certificate so far, oldest first.
fn issued(fleet: &Fleet) -> Vec<String> {
    fleet
        .events()
        .iter()
        .filter(|event| event["type"] == "CertificateIssued" && event["stream"] == "namespaces/web/certificates/shop")
        .map(|event| event["data"]["serial"].as_str().unwrap().to_string())
        .collect()
}

#[test]
fn nginx_serves_every_renewal_without_a_failed_handshake() {
    let fleet = Fleet::start(3, 2);
    let (folder, live, port) = (fleet.folder().join("nginx"), fleet.folder().join("live/shop"), free_port());
    Nginx::configure(&folder, &live, port);
    let script = Nginx::write_hook(&folder);
    fleet.apply(&Nginx::manifest(&live, &script, port, ["30s", "26s"]));
    eventually("the first delivery", Duration::from_secs(30), || live.join("fullchain.pem").exists().then_some(()));
    let _nginx = Nginx::start(&folder, port);

    let done = AtomicBool::new(false);
    let client = Client::trusting(&live.join("ca.pem"));
    let (seen, handshakes) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let (mut seen, mut handshakes) = (BTreeSet::new(), 0_u64);
            while !done.load(Ordering::Relaxed) {
                seen.insert(
                    client
                        .serial(port, "shop.example.com")
                        .unwrap_or_else(|error| panic!("handshake {handshakes}: {error}")),
                );
                handshakes += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            (seen, handshakes)
        });
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually("twenty renewals", Duration::from_secs(300), || {
                std::thread::sleep(Duration::from_secs(1));
                (watcher.is_finished() || issued(&fleet).len() > RENEWALS).then_some(())
            });
        }));
        done.store(true, Ordering::Relaxed);
        let seen = watcher.join().unwrap();
        waited.unwrap();
        seen
    });
    assert!(handshakes > 1000, "only {handshakes} handshakes: the client did not run all the time");

    let issued = issued(&fleet);
    let first_served = issued.iter().position(|serial| seen.contains(serial)).unwrap();
    assert!(first_served <= 1, "nginx started late: {first_served}");
    let missing: Vec<_> =
        issued[first_served..issued.len() - 1].iter().filter(|serial| !seen.contains(*serial)).collect();
    assert!(missing.is_empty(), "never served: {missing:?}");
    assert_eq!(issued.len(), issued.iter().collect::<BTreeSet<_>>().len(), "a serial was used twice");

    verify_everywhere(&live.join("ca.pem"), Some(&live.join("chain.pem")), &live.join("cert.pem"));
    let names = openssl_x509(&live.join("cert.pem"), &["-ext", "subjectAltName"]);
    assert!(names.contains("DNS:shop.example.com"), "{names}");
    let status = fleet.run(&["describe", "certificate", "shop", "-n", "web"]);
    assert!(status.contains("served"), "the served check never reported: {status}");
}

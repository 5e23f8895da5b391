//! CA certificates: intended before they are signed, finished by whoever leads next.

use std::collections::BTreeMap;

use certwright_core::Reason;
use certwright_core::event::Event;
use certwright_core::ids::{AuthorityName, Serial};
use certwright_core::log::RequestId;

use super::server::{Machine, Server, admin, authority};
use crate::Call;

/// Checks that every CA certificate in the log was intended before, with that serial and those bytes.
fn intended_before_signed(server: &Server) -> usize {
    let mut intents: BTreeMap<Serial, [u8; 32]> = BTreeMap::new();
    let mut certified = 0;
    for (_, event) in server.events() {
        match event {
            Event::AuthorityCertificateIntended { serial, tbs_hash } => {
                assert_eq!(intents.insert(serial, tbs_hash), None, "a serial was intended twice");
            }
            Event::AuthorityCertified { serial, certificate, .. } => {
                assert_eq!(intents.get(&serial), Some(&crate::digest::sha256(tbs(&certificate))));
                certified += 1;
            }
            _ => {}
        }
    }
    certified
}

/// The first element inside the outer sequence of a certificate of 256 to 65,535 octets.
fn tbs(certificate: &[u8]) -> &[u8] {
    assert_eq!((certificate[0], certificate[1], certificate[4], certificate[5]), (0x30, 0x82, 0x30, 0x82));
    let length = usize::from(certificate[6]) << 8 | usize::from(certificate[7]);
    &certificate[4..8 + length]
}

#[tokio::test(start_paused = true)]
async fn a_root_and_an_intermediate_are_intended_then_signed() {
    let server = Machine::new().boot().await;
    server.bootstrap().await.unwrap();
    server.create_authority("root", None).await;
    server.create_authority("intermediate", Some("root")).await;
    assert_eq!(intended_before_signed(&server), 3);
    let name = AuthorityName::parse("intermediate").unwrap();
    let chain = server.log.read(|view| crate::chain::of(view.state, &name)).unwrap();
    assert_eq!(chain.len(), 2);
    let orphan = AuthorityName::parse("orphan").unwrap();
    let refused = server.control.create_authority(admin(), orphan, authority(Some("none"))).await.unwrap_err();
    assert_eq!(refused.reason, Reason::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_creation_makes_no_second_key() {
    let server = Machine::new().boot().await;
    server.bootstrap().await.unwrap();
    let call = || Call { request_id: Some(RequestId([3; 16])), ..admin() };
    let name = AuthorityName::parse("root").unwrap();
    let create = || server.control.create_authority(call(), name.clone(), authority(None));
    let (one, two) = tokio::join!(create(), create());
    one.unwrap();
    two.unwrap();
    create().await.unwrap();
    assert_eq!(intended_before_signed(&server), 2);
    let unkeyed = server.control.create_authority(admin(), name.clone(), authority(None)).await.unwrap_err();
    assert_eq!(unkeyed.reason, Reason::AlreadyExists);
}

/// Kills the process at each entry of a creation; the next run finishes what was declared, by itself.
#[tokio::test(start_paused = true)]
async fn a_declared_authority_is_certified_by_the_next_leader() {
    let mut resumed = 0;
    for entries in 1.. {
        let machine = Machine::new();
        let server = machine.boot().await;
        server.bootstrap().await.unwrap();
        let name = AuthorityName::parse("root").unwrap();
        let start = server.log.status().applied_index;
        let (control, wanted) = (server.control.clone(), name.clone());
        let running = tokio::spawn(async move { control.create_authority(admin(), wanted, authority(None)).await });
        let mut applied = server.log.applied();
        let reached = async { applied.wait_for(|mark| mark.index >= start + entries).await.map(|_| ()) };
        let finished = tokio::select! {
            biased;
            answer = running => { answer.unwrap().unwrap(); true }
            reached = reached => { reached.unwrap(); false }
        };
        server.kill().await;
        let server = machine.boot().await;
        server.until(|state| state.authorities.get(&name)?.certified.as_ref().map(|_| ())).await;
        assert_eq!(intended_before_signed(&server), 2, "after {entries} entries");
        assert!(server.transactions().iter().all(|(.., refused)| !refused));
        if finished {
            break;
        }
        resumed += 1;
    }
    assert!(resumed >= 2, "resumed at {resumed} steps only");
}

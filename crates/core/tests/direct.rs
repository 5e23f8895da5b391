//! What direct issuances cost in memory: nothing. Measured from outside, by the process's own resident set; a test binary
//! of its own, so that nothing else grows meanwhile.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test reads /proc and fails loudly")]
#![cfg(target_os = "linux")]

use std::sync::Arc;
use std::time::Duration;

use certwright_core::State;
use certwright_core::event::{Event, Issued};
use certwright_core::ids::{AuthorityName, IssuerName, Serial, direct_stream};
use certwright_core::log::{Applied, Fold, Position};
use certwright_core::time::Timestamp;

const CERTIFICATES: u64 = 100_000;
/// Far less than a serial each.
const GROWTH_OCTETS_MAX: usize = 1024 * 1024;
const T0: Timestamp = Timestamp::from_seconds(1_800_000_000);

fn resident_octets() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}

fn issue(state: &mut State, n: u64) {
    let mut octets = [1; 20];
    octets[8..16].copy_from_slice(&n.to_be_bytes());
    let serial = Serial::from_random(octets);
    let issued = Issued {
        instance: None,
        generation: 1,
        serial,
        issuer: IssuerName::parse("internal").unwrap(),
        authority: AuthorityName::parse("intermediate").unwrap(),
        authority_serial: Serial::from_random([2; 20]),
        not_before: T0,
        not_after: T0.plus(Duration::from_secs(3600)),
        renew_at: None,
        spki_hash: [n as u8; 32],
        certificate: Arc::from([0; 600]),
    };
    let (position, stream) = (Position { index: n + 1, ordinal: 0 }, direct_stream(&serial));
    let applied = Applied { position, at: T0, stream: &stream, revision: None, actor: "system" };
    state.apply(&applied, &Event::CertificateIssued(Box::new(issued)));
}

#[test]
fn a_direct_issuance_leaves_nothing_in_the_state() {
    let mut state = State::default();
    // Warm up: the allocator's own arenas.
    (0..1000).for_each(|n| issue(&mut state, n));
    let before = resident_octets();
    (1000..CERTIFICATES).for_each(|n| issue(&mut state, n));
    let grown = resident_octets().saturating_sub(before);
    println!("{grown} octets for {CERTIFICATES} direct issuances");
    assert!(grown < GROWTH_OCTETS_MAX, "{grown} octets for {CERTIFICATES} direct issuances");
    assert_eq!(state.applied.index, CERTIFICATES, "they were folded");
    let empty = State { applied: state.applied, ..State::default() };
    assert_eq!(state.cut(), empty.cut(), "a snapshot holds nothing of them");
}

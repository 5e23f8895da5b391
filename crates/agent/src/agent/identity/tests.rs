//! When a new identity is asked for: at half a life, and when the present one begins in the servers' future.
#![allow(clippy::unwrap_used)]

use std::time::SystemTime;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use tempfile::TempDir;

use super::*;

const CLUSTER: &str = "000102030405060708090a0b0c0d0e0f";
const ACTOR: &str = "agent/edge-1";
/// By the servers' clocks, when the session begins.
const NOW: Timestamp = Timestamp::from_seconds(1_900_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The system authority.
struct Authority {
    root: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self { root: params.self_signed(&key).unwrap().der().to_vec(), issuer: Issuer::new(params, key) }
    }

    /// An identity for that key which begins then and lives a day.
    fn identity(&self, key: &KeyPair, begin: Timestamp) -> Vec<u8> {
        let date = |moment: Timestamp| SystemTime::UNIX_EPOCH + Duration::from_millis(moment.millis());
        let mut params = CertificateParams::default();
        let uri = format!("certwright://{CLUSTER}/{ACTOR}");
        params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().unwrap())];
        (params.not_before, params.not_after) = (date(begin).into(), date(begin.plus(DAY)).into());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.signed_by(key, &self.issuer).unwrap().der().to_vec()
    }

    /// A keeper of an identity that begins then, and its directory.
    fn keeper(&self, begin: Timestamp) -> (IdentityKeeper, TempDir) {
        let (seams, directory, key) = (Seams::system(), tempfile::tempdir().unwrap(), KeyPair::generate().unwrap());
        let context = Context {
            cluster_id: certwright_proto::identity::parse_cluster_id(CLUSTER).unwrap(),
            actor: certwright_core::ids::Actor::parse(ACTOR).unwrap(),
            servers: vec!["127.0.0.1:1".to_string()],
            ca_pem: pem::certificate(&self.root),
            certificate_pem: pem::certificate(&self.identity(&key, begin)),
            key_pem: Zeroizing::new(key.serialize_pem()),
        };
        let state = directory.path().to_path_buf();
        let store = Arc::new(Store::open(seams.disk.clone(), &state).unwrap());
        let options = AgentOptions::new(state.join("context"), state, Default::default());
        let connector = Connector::new(&context, &seams).unwrap();
        (IdentityKeeper::new(&connector, context, &options, store), directory)
    }

    /// The keeper asks, and is given one that begins then.
    async fn renew(&self, keeper: &mut IdentityKeeper, begin: Timestamp, now: Now) {
        let seams = Seams::system();
        assert!(keeper.request(&seams).await.is_some());
        let pkcs8 = keeper.next.as_ref().unwrap().to_pkcs8().unwrap();
        let certificate = self.identity(&KeyPair::try_from(pkcs8.as_slice()).unwrap(), begin).into();
        let issued = IdentityIssued { certificate, chain: vec![self.root.clone().into()], ..Default::default() };
        keeper.on_issued(issued, now, &seams).await;
        assert_eq!(keeper.source.dates().unwrap().0, begin, "it is in use");
    }
}

/// So long after the session began, on an agent whose clock is right.
fn after(passed: Duration) -> Now {
    Now { wall: NOW.plus(passed), monotonic: passed }
}

#[test]
fn an_identity_is_due_at_half_its_life_and_when_it_begins_in_the_servers_future() {
    let authority = Authority::new();
    for (what, begin, agents_clock, expected) in [
        ("a young one", NOW.minus(HOUR), NOW, false),
        ("one at half its life", NOW.minus(12 * HOUR), NOW, true),
        ("one that begins as soon as clocks may differ", NOW.plus(BEGINS_AHEAD_MAX), NOW, false),
        ("one that begins later", NOW.plus(BEGINS_AHEAD_MAX + Duration::from_secs(1)), NOW, true),
        ("one of next year", NOW.plus(YEAR), NOW, true),
        ("one of next year, for an agent that lives there", NOW.plus(YEAR), NOW.plus(YEAR), true),
        ("one that begins in the future of nobody but the agent", NOW.minus(HOUR), NOW.minus(30 * DAY), false),
    ] {
        let (mut keeper, _directory) = authority.keeper(begin);
        let now = Now { wall: agents_clock, monotonic: Duration::ZERO };
        keeper.on_welcome(Some(NOW), now);
        assert_eq!(keeper.is_due(now), expected, "{what}");
    }
}

#[test]
fn an_answer_that_is_lost_costs_a_minute_or_an_eighth_of_a_life_that_begins_in_the_future() {
    let authority = Authority::new();
    for (begin, interval) in [(NOW.minus(12 * HOUR), MINUTE), (NOW.plus(YEAR), 3 * HOUR)] {
        let (mut keeper, _directory) = authority.keeper(begin);
        keeper.on_welcome(Some(NOW), after(Duration::ZERO));
        assert!(keeper.is_due(after(Duration::ZERO)));
        assert!(!keeper.is_due(after(interval - Duration::from_secs(1))));
        assert!(keeper.is_due(after(interval)));
    }
}

#[tokio::test]
async fn while_every_identity_begins_in_the_future_there_is_no_storm_and_a_right_one_ends_it() {
    let authority = Authority::new();
    let (mut keeper, _directory) = authority.keeper(NOW.plus(YEAR));
    keeper.on_welcome(Some(NOW), after(Duration::ZERO));
    let mut renewals = 0;
    for minute in 0..24 * 60 {
        let now = after(minute * MINUTE);
        if keeper.is_due(now) {
            renewals += 1;
            authority.renew(&mut keeper, now.wall.plus(YEAR), now).await;
        }
    }
    assert_eq!(renewals, 8, "of a day");
    // Log time was set back.
    assert!(keeper.is_due(after(DAY)));
    authority.renew(&mut keeper, NOW.plus(DAY), after(DAY)).await;
    for minute in 0..12 * 60 {
        assert!(!keeper.is_due(after(DAY + minute * MINUTE)), "{minute} minutes old");
    }
    assert!(keeper.is_due(after(DAY + 12 * HOUR)));
}

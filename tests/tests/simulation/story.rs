//! What happens in every run: a cluster is founded and joined, a certificate is delivered, the leader's power is cut
//! while a renewal and other orders are under way (in some runs the agent's too), it comes back, and the certificate is
//! renewed once more.
//!
//! It refuses sleeps as proof: it waits for what must come, each with a deadline.

use std::time::Duration;

use certwright_core::spec::KeyAlgorithm;
use certwright_core::x509::Names;
use certwright_custody::LeafKey;
use certwright_proto::v1;
use certwright_seams::Entropy;
use tokio::time::sleep;

use super::administrator::Client;
use super::checks::{self, Watcher};
use super::estate::{AGENT, Estate, SERVERS};

/// The certificate.
const NAME: &str = "namespaces/default/certificates/web";
/// Where it is delivered.
const LIVE: &str = "/data/live/web";
/// Its issuer, and the authority behind it.
const ISSUER: &str = "demo";
/// Orders while the leader dies.
const ORDERS: usize = 6;
/// The leader dies at most this long after the renewal was asked for.
const DEATH_MILLIS_MAX: u64 = 400;
/// How long an agent is without power.
const AGENT_ABSENCE: Duration = Duration::from_millis(300);
/// The leader stays away at most this much longer than it takes to deliver the renewal.
const ABSENCE_MILLIS_MAX: u64 = 3000;

/// Tells it.
pub(super) async fn tell(estate: &Estate) -> turmoil::Result {
    let (context, seams, draw) = (estate.administrator().await, estate.seams("administrator"), estate.entropy());
    let client = Client::new(&context, &seams);
    let first = Client::of(&context, &seams, SERVERS[0]);
    found(estate, &first).await;

    let mut watcher = Watcher::new(estate.disk(AGENT), LIVE, seams.clock.clone());
    client.certificate(certificate()).await;
    watcher.next().await;

    // The leader dies while a renewal and other orders are under way; whoever follows it finishes them.
    let leader = client.voters(SERVERS.len()).await.leader;
    let death = async {
        sleep(Duration::from_millis(draw.next_u64() % DEATH_MILLIS_MAX)).await;
        estate.cut_power(&leader);
        if draw.next_u64().is_multiple_of(3) {
            estate.cut_power(AGENT);
            sleep(AGENT_ABSENCE).await;
            estate.power_on(AGENT);
        }
    };
    let ((), (), acknowledged, ()) = tokio::join!(client.renew(NAME), death, orders(&client), watcher.next());

    sleep(Duration::from_millis(draw.next_u64() % ABSENCE_MILLIS_MAX)).await;
    estate.power_on(&leader);
    tokio::join!(client.renew(NAME), watcher.next());
    client.voters(SERVERS.len()).await;

    checks::digests(&client).await;
    let mut histories = Vec::new();
    for server in SERVERS {
        let one = Client::of(&context, &seams, server);
        let status = one.get(NAME).await.status.unwrap();
        assert_eq!(status.instances[0].serial, watcher.serials().last().unwrap().clone(), "{server} {status:?}");
        histories.push(one.events().await);
    }
    checks::histories(&histories);
    checks::issued(&histories[0], &acknowledged, watcher.serials());
    Ok(())
}

/// Servers, agent, authorities and issuer.
async fn found(estate: &Estate, client: &Client) {
    for (number, server) in SERVERS.into_iter().enumerate().skip(1) {
        estate.give_token(server, client.token("node", "").await);
        client.voters(number + 1).await;
    }
    estate.give_token(AGENT, client.token("agent", AGENT).await);
    client.authority("demo-root", "").await;
    client.authority(ISSUER, "demo-root").await;
    client.issuer(ISSUER).await;
}

fn certificate() -> v1::Certificate {
    let files = v1::FilesSink { directory: LIVE.into(), ..Default::default() };
    let target = v1::Target { name: "files".into(), agent: AGENT.into(), files: Some(files), ..Default::default() };
    let spec = v1::CertificateSpec {
        dns_names: vec!["web.example.com".into()],
        issuer: ISSUER.into(),
        targets: vec![target],
        ..Default::default()
    };
    v1::Certificate { name: NAME.into(), spec: Some(spec), ..Default::default() }
}

/// Has certificates signed, one after the other; answers the serials.
async fn orders(client: &Client) -> Vec<String> {
    let key = LeafKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let names = Names { dns_names: vec!["order.example.com".into()], ..Names::default() };
    let csr = key.request(&names).unwrap();
    let mut serials = Vec::new();
    for _ in 0..ORDERS {
        serials.push(client.issue(ISSUER, &csr).await);
    }
    serials
}

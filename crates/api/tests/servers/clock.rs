//! Clocks that were wrong together: who got an identity meanwhile is let in, log time is set back, and the past is told by
//! the time that holds now.
//!
//! It refuses clocks that disagree, which the simulation has.

use std::sync::Arc;
use std::time::Duration;

use certwright_agent::Context;
use certwright_api::limits::Bounds;
use certwright_core::Reason;
use certwright_core::spec::{KeyAlgorithm, KeyEncoding};
use certwright_core::x509::Names;
use certwright_core::x509::pem;
use certwright_custody::LeafKey;
use certwright_proto::status::from_status;
use certwright_proto::v1;
use certwright_proto::v1::certificates_client::CertificatesClient;
use certwright_proto::v1::cluster_client::ClusterClient;
use certwright_proto::v1::get_certificate_request::AsOf;
use certwright_seams::clock::SystemClock;
use certwright_seams::sim::SimClock;
use certwright_seams::{Clock, Seams};
use tonic::transport::Channel;

use crate::session::Session;
use crate::support::{Cluster, PATIENCE, cluster as describe, demo, is_served, until};

const DAY_SECONDS: i64 = 24 * 3600;

/// A machine whose clock can be moved.
pub fn machine() -> (Seams, Arc<SimClock>) {
    let time = SystemClock::new();
    let clock = Arc::new(SimClock::driven_by(time.wall_millis(), Arc::new(move || time.monotonic())));
    (Seams { clock: clock.clone(), ..Seams::system() }, clock)
}

pub fn moment(clock: &SimClock) -> prost_types::Timestamp {
    let millis = clock.wall_millis();
    prost_types::Timestamp { seconds: (millis / 1000) as i64, nanos: (millis % 1000) as i32 * 1_000_000 }
}

/// Declares it with that label; answers where that is in the log.
async fn label(channel: &Channel, value: &str) -> u64 {
    let spec = v1::CertificateSpec {
        dns_names: vec!["web.example.com".into()],
        issuer: "demo".into(),
        targets: vec![v1::Target {
            name: "files".into(),
            agent: "nobody".into(),
            files: Some(v1::FilesSink { directory: "/tmp/nobody".into(), ..Default::default() }),
            ..Default::default()
        }],
        ..Default::default()
    };
    let certificate = v1::Certificate {
        name: "namespaces/default/certificates/web".into(),
        spec: Some(spec),
        labels: [("is".to_owned(), value.to_owned())].into(),
        ..Default::default()
    };
    let request =
        v1::UpdateCertificateRequest { certificate: Some(certificate), allow_missing: true, ..Default::default() };
    CertificatesClient::new(channel.clone()).update_certificate(request).await.unwrap();
    describe(channel).await.unwrap().nodes[0].applied_index
}

/// The label that it had.
async fn labelled(channel: &Channel, as_of: AsOf) -> String {
    let name = "namespaces/default/certificates/web".to_owned();
    let request = v1::GetCertificateRequest { name, as_of: Some(as_of), ..Default::default() };
    let found = CertificatesClient::new(channel.clone()).get_certificate(request).await.unwrap().into_inner();
    found.certificate.unwrap().labels["is"].clone()
}

/// The administrator under an identity that is issued now.
async fn renewed(cluster: &Cluster) -> Context {
    let key = LeafKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let request = v1::RenewIdentityRequest { csr: key.request(&Names::default()).unwrap().into() };
    let issued = ClusterClient::new(cluster.channel(1).clone()).renew_identity(request).await.unwrap().into_inner();
    let mut context = Context::parse(&cluster.context.format()).unwrap();
    (context.certificate_pem, context.key_pem) =
        (pem::certificate(&issued.certificate), key.to_pem(KeyEncoding::Pkcs8).unwrap());
    context
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_time_is_set_back_by_who_was_let_in_when_clocks_were_ahead() {
    let (seams, clock) = machine();
    let mut cluster = Cluster::with(Bounds::default(), seams, None).await;
    demo(cluster.channel(1)).await;
    for number in 2..=3 {
        cluster.grow(number, 1).await;
    }
    let before = label(cluster.channel(1), "before").await;
    let early = moment(&clock);
    // Log time may be a little behind what the machine shows.
    tokio::time::sleep(Duration::from_secs(2)).await;
    clock.set_skew_millis(DAY_SECONDS * 1000);
    until("log time follows", PATIENCE, async || {
        label(cluster.channel(1), "meanwhile").await;
        let seen = describe(cluster.channel(1)).await.ok()?;
        (seen.log_time?.seconds > moment(&clock).seconds - 60).then_some(())
    })
    .await;
    let meanwhile = label(cluster.channel(1), "meanwhile").await;
    let (agent, administrator) = (cluster.agent(1, "edge").await, renewed(&cluster).await);

    clock.set_skew_millis(0);
    let begin = moment(&clock);
    // What begins tomorrow is believed today.
    for number in 1..=3 {
        assert!(Session::open(&cluster.connect_as(&agent, number).await).await.is_ok(), "server {number}");
        is_served(&cluster.connect_as(&administrator, number).await).await;
    }
    let channel = cluster.connect_as(&administrator, 2).await;
    let rebase = async |seconds: i64| {
        let clock = Some(prost_types::Timestamp { seconds: moment(&clock).seconds + seconds, nanos: 0 });
        let request = v1::RebaseTimeRequest { clock, ..Default::default() };
        ClusterClient::new(channel.clone()).rebase_time(request).await.map(tonic::Response::into_inner)
    };
    let refused = from_status(&rebase(DAY_SECONDS).await.unwrap_err());
    assert_eq!(refused.reason, Reason::ClocksDisagree, "{refused:?}");
    let absent = ClusterClient::new(channel.clone()).rebase_time(v1::RebaseTimeRequest::default()).await;
    assert_eq!(from_status(&absent.unwrap_err()).reason, Reason::InvalidSpec);
    // The clocks are asked for every second.
    let agreed = async || until("the clocks agree", PATIENCE, async || rebase(0).await.ok()).await;
    let done = agreed().await;
    let (from, to) = (done.from.unwrap(), done.to.unwrap());
    assert!(from.seconds - to.seconds > DAY_SECONDS - 60 && !done.unchanged, "{from} to {to}");
    assert!(to.seconds >= begin.seconds - 1, "{to}, it was {begin}");
    assert!(agreed().await.unchanged);
    let after = label(&channel, "after").await;

    let seen = describe(&channel).await.unwrap();
    assert!(seen.log_time.unwrap().seconds - seen.clock.unwrap().seconds < 10, "{seen:?}");
    assert!(seen.renewal_hold.is_some(), "what is due by the wrong time waits for a word");
    let at = |seconds: i64| AsOf::Time(prost_types::Timestamp { seconds: to.seconds + seconds, nanos: 0 });
    assert_eq!(labelled(&channel, AsOf::Time(early)).await, "before");
    assert_eq!(labelled(&channel, at(DAY_SECONDS / 2)).await, "after", "what will be is what is");
    assert_eq!(labelled(&channel, AsOf::Time(to)).await, "meanwhile", "as of when log time was set back");
    for (index, expected) in [(before, "before"), (meanwhile, "meanwhile"), (after, "after")] {
        assert_eq!(labelled(&channel, AsOf::Index(index)).await, expected, "{index}");
    }
    cluster.stop().await;
}

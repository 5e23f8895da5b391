//! One server from an empty directory to a delivered and renewed certificate, over real TLS, files and fsync.
//!
//! It refuses shortcuts into the server: everything goes through its ports.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use certwright_agent::{Agent, AgentOptions};
use certwright_agent::{Connector, Context};
use certwright_core::spec::KeyAlgorithm;
use certwright_core::x509::Names;
use certwright_core::x509::inspect::inspect;
use certwright_core::x509::pem;
use certwright_custody::LeafKey;
use certwright_proto::agent::v1::agent_service_client::AgentServiceClient;
use certwright_proto::manifest::{self, Resource};
use certwright_proto::v1;
use certwright_proto::v1::authorities_client::AuthoritiesClient;
use certwright_proto::v1::certificates_client::CertificatesClient;
use certwright_proto::v1::cluster_client::ClusterClient;
use certwright_proto::v1::events_client::EventsClient;
use certwright_proto::v1::issuers_client::IssuersClient;
use certwright_proto::v1::tokens_client::TokensClient;
use certwright_seams::Seams;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::Channel;

use crate::support::Cluster;

const MANIFEST: &str = "
apiVersion: certwright.dev/v1
kind: Authority
metadata: {name: demo-root}
spec: {commonName: Demo Root}
---
apiVersion: certwright.dev/v1
kind: Authority
metadata: {name: demo}
spec: {commonName: Demo Intermediate, parent: demo-root}
---
apiVersion: certwright.dev/v1
kind: Issuer
metadata: {name: demo}
spec: {ca: {authority: demo}}
---
apiVersion: certwright.dev/v1
kind: Certificate
metadata: {name: web}
spec:
  dnsNames: [web.example.com]
  duration: 12s
  issuerRef: {name: demo}
  targets: [{name: files, agent: agent-1, files: {directory: DIRECTORY}}]
";

async fn apply(channel: &Channel, text: &str) {
    for document in manifest::parse(text, "default").unwrap() {
        match document.resource {
            Resource::Authority(authority) => {
                let request = v1::CreateAuthorityRequest { authority: Some(authority), ..Default::default() };
                AuthoritiesClient::new(channel.clone()).create_authority(request).await.unwrap();
            }
            Resource::Issuer(issuer) => {
                let request = v1::CreateIssuerRequest { issuer: Some(issuer), ..Default::default() };
                IssuersClient::new(channel.clone()).create_issuer(request).await.unwrap();
            }
            Resource::Certificate(certificate) => {
                let certificate = Some(*certificate);
                let request = v1::UpdateCertificateRequest { certificate, allow_missing: true, ..Default::default() };
                CertificatesClient::new(channel.clone()).update_certificate(request).await.unwrap();
            }
            Resource::Agent(_) => unreachable!(),
        }
    }
}

/// Waits for another certificate than `before` at the target, whole and matching its key.
async fn delivered(live: &Path, before: Option<&str>) -> String {
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < Duration::from_secs(40), "nothing new was delivered");
        if let Ok(text) = std::fs::read(live.join("cert.pem")) {
            let leaf = inspect(&pem::certificates(&text).unwrap()[0]).unwrap();
            if Some(leaf.serial.as_str()) != before {
                let key = LeafKey::from_pem(&std::fs::read_to_string(live.join("key.pem")).unwrap()).unwrap();
                if key.spki_hash() == leaf.spki_hash {
                    return leaf.serial;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Strangers and agents are refused by every kind of door: reads, writes, streams, other people's sessions.
async fn only_administrators_administer(agent: &Context, server: &str, seams: &Seams) {
    let root = certwright_core::x509::key::sha256(&agent.root().unwrap());
    let stranger = Connector::pinned(root, agent.cluster_id, vec![server.to_owned()], seams).unwrap();
    let agent = Connector::new(agent, seams).unwrap();
    for (connector, expected) in [(stranger, Code::Unauthenticated), (agent, Code::PermissionDenied)] {
        let channel = connector.connect_to(server).await.unwrap();
        let mut certificates = CertificatesClient::new(channel.clone());
        let nothing = || tokio_stream::empty::<v1::IssueRequest>();
        let refusals = [
            certificates.list_certificates(v1::ListCertificatesRequest::default()).await.err(),
            certificates.update_certificate(v1::UpdateCertificateRequest::default()).await.err(),
            certificates.issue(v1::IssueRequest::default()).await.err(),
            certificates.issue_stream(nothing()).await.err(),
            TokensClient::new(channel.clone()).create_token(v1::CreateTokenRequest::default()).await.err(),
            ClusterClient::new(channel.clone()).get_digests(v1::GetDigestsRequest {}).await.err(),
            ClusterClient::new(channel.clone()).remove_node(v1::RemoveNodeRequest::default()).await.err(),
            EventsClient::new(channel.clone()).watch(v1::WatchRequest::default()).await.err(),
        ];
        for (number, refusal) in refusals.into_iter().enumerate() {
            assert_eq!(refusal.map(|it| it.code()), Some(expected), "call {number}");
        }
        if expected == Code::Unauthenticated {
            let opened = AgentServiceClient::new(channel).session(tokio_stream::empty()).await;
            assert_eq!(opened.err().map(|it| it.code()), Some(expected));
        }
    }
}

/// What a watch tells of direct issuances between two places: (serial, token after it), in order.
async fn issued(channel: &Channel, request: v1::WatchRequest) -> Vec<(String, v1::Token)> {
    let mut events = EventsClient::new(channel.clone()).watch(request).await.unwrap().into_inner();
    let mut told = Vec::new();
    while let Some(answer) = events.message().await.unwrap() {
        let serial = answer.event.as_ref().and_then(|event| event.stream.strip_prefix("direct/"));
        told.extend(serial.map(|serial| (serial.to_owned(), answer.token.clone().unwrap())));
    }
    told
}

/// Calls at the same time share entries; a bounded watch tells every one of its last entry, also when it begins in it.
async fn a_bounded_watch_tells_its_last_entry_whole(channel: &Channel) {
    let names = Names { dns_names: vec!["many.example.com".to_owned()], ..Names::default() };
    let csr = LeafKey::generate(KeyAlgorithm::EcdsaP256).unwrap().request(&names).unwrap();
    let calls = (0..64).map(|_| {
        let request = v1::IssueRequest { issuer: "demo".into(), csr: csr.clone().into(), ..Default::default() };
        let mut client = CertificatesClient::new(channel.clone());
        async move { client.issue(request).await.unwrap().into_inner() }
    });
    let mut by_index: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for answer in futures_util::future::join_all(calls).await {
        by_index.entry(answer.index).or_default().insert(answer.serial);
    }
    assert!(by_index.values().any(|serials| serials.len() > 1), "no two calls shared an entry");
    for (index, serials) in by_index {
        let bounds = v1::WatchRequest { from_index: index, to_index: index, ..Default::default() };
        let told = issued(channel, bounds.clone()).await;
        assert_eq!(told.iter().map(|(serial, _)| serial.clone()).collect::<BTreeSet<_>>(), serials);
        let resumed = v1::WatchRequest { token: Some(told[0].1.clone()), from_index: 0, ..bounds };
        assert_eq!(issued(channel, resumed).await, told[1..]);
    }
}

/// Whoever watches something else hears how far the log is, however busy it is.
async fn a_busy_log_keeps_no_bookmark_back(channel: &Channel) {
    let request = v1::WatchRequest { follow: true, stream_prefix: "namespaces/none/".into(), ..Default::default() };
    let mut events = EventsClient::new(channel.clone()).watch(request).await.unwrap().into_inner();
    let names = Names { dns_names: vec!["busy.example.com".to_owned()], ..Names::default() };
    let csr = LeafKey::generate(KeyAlgorithm::EcdsaP256).unwrap().request(&names).unwrap();
    let busy = async {
        loop {
            let request = v1::IssueRequest { issuer: "demo".into(), csr: csr.clone().into(), ..Default::default() };
            CertificatesClient::new(channel.clone()).issue(request).await.unwrap();
        }
    };
    let mut bookmarks = async || {
        let mut tokens = Vec::new();
        while tokens.len() < 2 {
            let answer = events.message().await.unwrap().unwrap();
            assert_eq!(answer.event, None);
            tokens.push(answer.token.unwrap());
        }
        tokens
    };
    let tokens = tokio::select! {
        () = busy => unreachable!(),
        tokens = tokio::time::timeout(Duration::from_secs(30), bookmarks()) => tokens.expect("bookmarks"),
    };
    assert_ne!(tokens[0], tokens[1], "the log has gone on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_an_empty_directory_to_a_renewed_certificate() {
    let cluster = Cluster::found().await;
    let (folder, seams, server) = (cluster.folder.path(), &cluster.seams, cluster.address(1));
    let channel = cluster.channel(1);

    let agent_context = cluster.agent(1, "agent-1").await;
    let path = folder.join("agent-1.context");
    agent_context.save(&*seams.disk, &path).unwrap();
    let options = AgentOptions::new(path, folder.join("agent-1"), Default::default());
    let stop = CancellationToken::new();
    let running = tokio::spawn(Agent::new(options, seams.clone()).await.unwrap().run(stop.clone()));

    only_administrators_administer(&agent_context, &server, seams).await;

    let live = folder.join("live/web");
    apply(channel, &MANIFEST.replace("DIRECTORY", live.to_str().unwrap())).await;
    let first = delivered(&live, None).await;
    let second = delivered(&live, Some(&first)).await;
    assert_ne!(first, second);
    a_bounded_watch_tells_its_last_entry_whole(channel).await;
    a_busy_log_keeps_no_bookmark_back(channel).await;

    stop.cancel();
    running.await.unwrap().unwrap();
    cluster.stop().await;
}

//! A server is removed: it is refused everywhere, and the data key that it could open is replaced.
//!
//! It refuses to ask the removed server's opinion: its certificate and its node are used as they were.

use std::path::Path;
use std::time::Duration;

use certwright_agent::{Connector, Context};
use certwright_core::Reason;
use certwright_core::ids::Actor;
use certwright_proto::status::from_status;
use certwright_proto::v1;
use certwright_proto::v1::agents_client::AgentsClient;
use certwright_proto::v1::certificates_client::CertificatesClient;
use certwright_proto::v1::cluster_client::ClusterClient;
use certwright_proto::v1::events_client::EventsClient;
use certwright_proto::v1::tokens_client::TokensClient;
use tonic::transport::Channel;

use crate::support::{Cluster, issue, leader, order, until};

/// Every event so far that has something to do with data keys: type and data.
async fn key_events(channel: &Channel) -> Vec<(String, String)> {
    let request = v1::WatchRequest { from_index: 1, ..Default::default() };
    let mut told = EventsClient::new(channel.clone()).watch(request).await.unwrap().into_inner();
    let mut found = Vec::new();
    while let Some(answer) = told.message().await.unwrap() {
        let Some(event) = answer.event else { continue };
        if event.r#type.contains("Key") || event.r#type == "AuthorityDeclared" {
            found.push((event.r#type, event.data_json));
        }
    }
    found
}

/// The number of a data key as an event's data names it.
fn data_key_id(data: &str) -> &str {
    let (_, rest) = data.split_once("\"dataKeyId\":").unwrap();
    rest.split([',', '}']).next().unwrap()
}

/// A context that shows a server's own certificate.
fn context_of_server(context: &Context, folder: &Path, name: &str, node_id: u64) -> Context {
    let read = |file: &str| std::fs::read_to_string(folder.join(name).join(file)).unwrap();
    Context {
        cluster_id: context.cluster_id,
        actor: Actor::Node(node_id),
        servers: context.servers.clone(),
        ca_pem: context.ca_pem.clone(),
        certificate_pem: read("node.crt"),
        key_pem: read("node.key").into(),
    }
}

/// Asks for something that everybody may ask for: only the connection decides.
async fn healthy(channel: &Channel) -> bool {
    let mut client = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    client.check(tonic_health::pb::HealthCheckRequest::default()).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_server_is_refused_and_its_data_key_replaced() {
    let mut cluster = Cluster::of(3).await;
    let (address, folder, seams) = (cluster.address(1), cluster.folder.path(), &cluster.seams);
    let [channel, through_second, through_third] = [1, 2, 3].map(|number| cluster.channel(number).clone());
    issue(&through_third, order(&"01".repeat(16))).await;
    let as_third = Connector::new(&context_of_server(&cluster.context, folder, "server-3", 3), seams).unwrap();
    let as_second = Connector::new(&context_of_server(&cluster.context, folder, "server-2", 2), seams).unwrap();
    let (of_third, of_second) =
        (as_third.connect_to(&address).await.unwrap(), as_second.connect_to(&address).await.unwrap());
    assert!(healthy(&of_third).await && healthy(&of_second).await);
    let first_key = data_key_id(&key_events(&channel).await[0].1).to_owned();

    let remove = |id: &str| {
        let request = v1::RemoveNodeRequest { name: "server-3".into(), request_id: id.repeat(16) };
        let mut client = ClusterClient::new(through_second.clone());
        async move { client.remove_node(request).await.map(tonic::Response::into_inner) }
    };
    let removed = remove("0a").await.unwrap();
    assert_eq!(remove("0a").await.unwrap(), removed, "a repeat is answered as the first time");
    assert_eq!(remove("0b").await.unwrap_err().code(), tonic::Code::NotFound);

    // Its connections end, new ones do not come to be; the others' stay.
    let limit = Duration::from_secs(5);
    until("the removed server's connection ends", limit, async || (!healthy(&of_third).await).then_some(())).await;
    until("its certificate is refused", limit, async || {
        let refused = match as_third.connect_to(&address).await {
            Ok(channel) => !healthy(&channel).await,
            Err(_) => true,
        };
        refused.then_some(())
    })
    .await;
    assert!(healthy(&of_second).await);
    // Nothing goes through it any more.
    until("the removed server forwards nothing", limit, async || {
        let mut client = CertificatesClient::new(through_third.clone());
        let answer = tokio::time::timeout(limit, client.issue(order(&"02".repeat(16)))).await;
        matches!(answer, Ok(Err(_))).then_some(())
    })
    .await;

    // A new data key, wrapped to the two who stay; every CA key is sealed under it; the old one is forgotten.
    let events = until("the data key is retired", Duration::from_secs(20), async || {
        let events = key_events(&channel).await;
        events.iter().any(|(kind, _)| kind == "DataKeyRetired").then_some(events)
    })
    .await;
    let of = |kind: &str| events.iter().filter(|(it, _)| it == kind).map(|(_, data)| data.as_str()).collect::<Vec<_>>();
    let rotated = of("DataKeyRotated");
    assert_eq!(rotated.len(), 1, "{events:?}");
    assert!(rotated[0].contains("\"nodeIds\":[1,2]"), "{rotated:?}");
    let second_key = data_key_id(rotated[0]);
    assert_ne!(second_key, first_key);
    assert_eq!(of("AuthorityDeclared").len(), 3);
    assert_eq!(of("AuthorityKeyResealed").into_iter().map(data_key_id).collect::<Vec<_>>(), [second_key; 3]);
    assert_eq!(of("DataKeyRetired").into_iter().map(data_key_id).collect::<Vec<_>>(), [first_key.as_str()]);

    // Both can sign with what the log holds now: the leader goes, comes back, and the other one leads.
    issue(&channel, order(&"03".repeat(16))).await;
    let leads = leader(&through_second).await;
    drop((channel, of_third, of_second));
    let (stays, goes) = if leads == "server-1" { (2, 1) } else { (1, 2) };
    cluster.halt(goes).await;
    cluster.restart(goes).await;
    issue(cluster.channel(stays), order(&"04".repeat(16))).await;
    assert_ne!(leader(cluster.channel(stays)).await, leads);
    cluster.stop().await;
}

/// An answer may be lost on its way: whoever asks again with the same id must not hear that there is nothing to delete.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_that_is_repeated_is_answered_as_the_first_time() {
    let cluster = Cluster::found().await;
    let channel = cluster.channel(1);
    cluster.agent(1, "edge").await;
    let request = |name: &str, etag: &str, id: &str| v1::DeleteRequest {
        name: name.into(),
        etag: etag.into(),
        request_id: id.repeat(16),
        ..Default::default()
    };
    let mut agents = AgentsClient::new(channel.clone());
    let refused = agents.delete_agent(request("agents/edge", "1-0.1", "01")).await.unwrap_err();
    assert_eq!(from_status(&refused).reason, Reason::EtagMismatch);
    let deleted = agents.delete_agent(request("agents/edge", "", "02")).await.unwrap().into_inner();
    let again = agents.delete_agent(request("agents/edge", "", "02")).await.unwrap().into_inner();
    assert_eq!(deleted, again);
    let another = agents.delete_agent(request("agents/edge", "", "03")).await.unwrap_err();
    assert_eq!(another.code(), tonic::Code::NotFound);

    let mut tokens = TokensClient::new(channel.clone());
    let wanted = v1::CreateTokenRequest { role: "agent".into(), request_id: "04".repeat(16), ..Default::default() };
    let name = tokens.create_token(wanted).await.unwrap().into_inner().token.unwrap().id;
    let refused = tokens.revoke_token(request(&name, "1-0.1", "05")).await.unwrap_err();
    assert_eq!(from_status(&refused).reason, Reason::EtagMismatch, "a condition is not passed over");
    cluster.stop().await;
}

//! The pages about what certificates depend on: issuers, authorities, agents, servers, tokens.
//!
//! It refuses secrets: nobody has them but those who hold them.

use certwright_core::time::Timestamp;
use certwright_core::x509::inspect::inspect;
use certwright_core::{Reason, Rejection};
use certwright_proto::manifest::{self, Resource};
use certwright_proto::v1;
use certwright_proto::v1::agents_client::AgentsClient;
use certwright_proto::v1::authorities_client::AuthoritiesClient;
use certwright_proto::v1::issuers_client::IssuersClient;

use super::page::Page;
use super::{Place, head, when};
use crate::client::Client;
use crate::failure::Failure;
use crate::get;
use crate::output::{Table, until};

fn missing() -> Failure {
    Failure::internal("the server answered without the object")
}

fn asked(client: &Client, name: &str) -> v1::GetRequest {
    v1::GetRequest { name: name.to_string(), min_token: client.min_token() }
}

fn truth(holds: bool) -> &'static str {
    if holds { "True" } else { "False" }
}

/// An issuer: what it grants, the authority behind it, and who uses it.
pub(super) async fn issuer(client: &Client, name: &str, now: Timestamp) -> Result<(Page, Place), Failure> {
    let call = |channel, request| async move { IssuersClient::new(channel).get_issuer(request).await };
    let answer = client.call(asked(client, name), call).await?;
    let issuer = answer.issuer.ok_or_else(missing)?;
    let mut page = Page::default();
    let document = manifest::to_json(&Resource::Issuer(issuer.clone()));
    head(&mut page, &document);
    page.field(0, "Created", &when(issuer.create_time.as_ref(), now));
    page.gap();
    page.heading(0, "Spec");
    page.members(1, &document["spec"]);
    page.gap();
    page.heading(0, "Status");
    page.field(1, "Ready", truth(issuer.ready));
    if let Some(ca) = issuer.spec.and_then(|spec| spec.ca) {
        let call = |channel, request| async move { AuthoritiesClient::new(channel).get_authority(request).await };
        let request = asked(client, &format!("authorities/{}", ca.authority));
        match client.call(request, call).await {
            Ok(answer) => validity(&mut page, "Authority", &answer.authority.ok_or_else(missing)?, now),
            Err(failure) if failure.code() == Reason::NotFound.code() => page.field(1, "Authority", "there is none"),
            Err(failure) => return Err(failure),
        }
    }
    let short = name.trim_start_matches("issuers/");
    let users = get::certificates(client, "-", &format!("issuer={short}")).await?;
    let ready =
        |certificate: &&v1::Certificate| get::condition(certificate, "Ready").is_some_and(|it| it.status == "True");
    page.field(1, "Certificates", &format!("{}, {} of them ready", users.len(), users.iter().filter(ready).count()));
    Ok((page, Place::of(name, &issuer.uid, answer.token)))
}

/// Serial and dates of an authority's certificate.
fn validity(page: &mut Page, heading: &str, authority: &v1::Authority, now: Timestamp) {
    page.field(1, heading, authority.name.trim_start_matches("authorities/"));
    page.field(1, "Serial", &authority.serial);
    page.field(1, "Not Before", &when(authority.not_before.as_ref(), now));
    page.field(1, "Not After", &when(authority.not_after.as_ref(), now));
}

/// An authority: its certificate, who signed it, whom it signed, and who issues with it.
pub(super) async fn authority(client: &Client, name: &str, now: Timestamp) -> Result<(Page, Place), Failure> {
    let call = |channel, request| async move { AuthoritiesClient::new(channel).get_authority(request).await };
    let answer = client.call(asked(client, name), call).await?;
    let authority = answer.authority.ok_or_else(missing)?;
    let mut page = Page::default();
    let document = manifest::to_json(&Resource::Authority(authority.clone()));
    head(&mut page, &document);
    page.gap();
    page.heading(0, "Spec");
    page.members(1, &document["spec"]);
    page.gap();
    page.heading(0, "Status");
    page.field(1, "Ready", truth(!authority.serial.is_empty()));
    page.field(1, "Key", "sealed in the log, open in the leader's memory");
    page.field(1, "Serial", &authority.serial);
    page.field(1, "Not Before", &when(authority.not_before.as_ref(), now));
    page.field(1, "Not After", &when(authority.not_after.as_ref(), now));
    let chain: Vec<String> =
        authority.chain.iter().filter_map(|der| inspect(der).ok()).map(|seen| seen.subject).collect();
    page.list(1, "Chain", &chain);
    let short = name.trim_start_matches("authorities/");
    let signed = get::authorities(client).await?.into_iter().filter(|other| other.parent == short);
    page.list(1, "Signed", &signed.map(|other| other.name).collect::<Vec<_>>());
    let uses = |issuer: &v1::Issuer| {
        issuer.spec.as_ref().and_then(|spec| spec.ca.as_ref()).is_some_and(|ca| ca.authority == short)
    };
    let issuers = get::issuers(client).await?.into_iter().filter(uses).map(|issuer| issuer.name);
    page.list(1, "Issuers", &issuers.collect::<Vec<_>>());
    Ok((page, Place::of(name, &authority.uid, answer.token)))
}

/// An agent: its identity and what it holds.
pub(super) async fn agent(client: &Client, name: &str, now: Timestamp) -> Result<(Page, Place), Failure> {
    let call = |channel, request| async move { AgentsClient::new(channel).get_agent(request).await };
    let answer = client.call(asked(client, name), call).await?;
    let agent = answer.agent.ok_or_else(missing)?;
    let mut page = Page::default();
    head(&mut page, &manifest::to_json(&Resource::Agent(agent.clone())));
    page.field(0, "Joined", &when(agent.register_time.as_ref(), now));
    page.gap();
    page.heading(0, "Status");
    page.field(
        1,
        "Connected",
        if agent.connected_here { "to the server that answered" } else { "not to the server that answered" },
    );
    page.field(1, "Identity Serial", &agent.identity_serial);
    page.field(1, "Identity Ends", &when(agent.identity_not_after.as_ref(), now));
    page.field(1, "Instances", &agent.instances.to_string());
    let short = name.trim_start_matches("agents/");
    let held = get::certificates(client, "-", &format!("agent={short}")).await?;
    page.gap();
    if held.is_empty() {
        page.field(0, "Certificates", "none");
    } else {
        page.heading(0, "Certificates");
        page.table(1, &holdings(&held, short, now));
    }
    Ok((page, Place::of(name, &agent.uid, answer.token)))
}

/// What an agent has of each certificate, and how far it got with it.
fn holdings(held: &[v1::Certificate], agent: &str, now: Timestamp) -> Table {
    let mut table = Table::new(&["CERTIFICATE", "TARGET", "STAGE", "GENERATION", "EXPIRES", "RENEWS", "FAILURE"]);
    for certificate in held {
        let instances = certificate.status.iter().flat_map(|status| &status.instances);
        for instance in instances.filter(|instance| instance.agent == agent) {
            let dates = [&instance.not_after, &instance.renewal_time].map(|at| until(at.as_ref(), now));
            let mut row = |target: &str, stage: &str, generation: u64, failure: &str| {
                let first = [&certificate.name, target, stage].map(str::to_string);
                let last = [failure.to_string()];
                table.row(first.into_iter().chain([generation.to_string()]).chain(dates.clone()).chain(last).collect());
            };
            let targets = || instance.deliveries.iter().filter(|delivery| !delivery.target.is_empty());
            if targets().next().is_none() {
                row("", "", instance.generation, &instance.last_failure_reason);
            }
            targets().for_each(|it| row(&it.target, &it.stage, it.generation, &it.failure_reason));
        }
    }
    table
}

/// A server: its part in the cluster and where it listens.
pub(super) async fn server(client: &Client, name: &str, now: Timestamp) -> Result<(Page, Place), Failure> {
    let cluster = crate::status::cluster(client).await?;
    let node = cluster.nodes.iter().find(|node| node.name == name);
    let node = node.ok_or_else(|| Rejection::new(Reason::NotFound, format!("there is no server {name}")))?;
    let mut page = Page::default();
    page.field(0, "Name", &node.name);
    page.field(0, "Kind", "Server");
    page.field(0, "Node ID", &node.node_id.to_string());
    page.field(0, "Cluster", &format!("{} epoch {}", cluster.cluster_id, cluster.epoch));
    page.gap();
    page.heading(0, "Status");
    page.field(1, "Role", &node.role);
    page.field(1, "Leader", &cluster.leader);
    page.field(1, "Term", &node.term.to_string());
    page.field(1, "Applied Index", &node.applied_index.to_string());
    page.field(1, "Unsealed", truth(node.unsealed));
    page.field(1, "Identity Ends", &when(node.identity_not_after.as_ref(), now));
    page.gap();
    page.heading(0, "Addresses");
    page.field(1, "GRPC", &node.api_address);
    page.field(1, "Raft", &node.raft_address);
    page.field(1, "HTTP", &node.http_address);
    let place =
        Place { stream: "cluster".to_string(), node_id: Some(node.node_id), since: 1, token: cluster.token.clone() };
    Ok((page, place))
}

/// A join token, without its secret.
pub(super) async fn token(client: &Client, id: &str, now: Timestamp) -> Result<(Page, Place), Failure> {
    let (token, at) = get::token(client, id).await?;
    let mut page = Page::default();
    page.field(0, "Name", &token.id);
    page.field(0, "Kind", "Token");
    page.field(0, "Role", &token.role);
    page.field(0, "State", &token.state);
    page.field(0, "Agent", &token.agent);
    let labels = token.labels.iter().map(|(key, value)| format!("{key}={value}"));
    page.list(0, "Labels", &labels.collect::<Vec<_>>());
    page.field(0, "Created", &when(token.create_time.as_ref(), now));
    page.field(0, "Expires", &when(token.expire_time.as_ref(), now));
    Ok((page, Place::of(&format!("tokens/{id}"), "", at)))
}

//! `get`: lists and single objects in every format.
//!
//! It refuses to hold a whole estate in memory for a table: pages are printed as they come where the format allows it.

use std::process::ExitCode;

use certwright_core::time::Timestamp;
use certwright_core::{Reason, Rejection};
use certwright_proto::manifest::{self, Resource};
use certwright_proto::v1;
use certwright_proto::v1::agents_client::AgentsClient;
use certwright_proto::v1::authorities_client::AuthoritiesClient;
use certwright_proto::v1::certificates_client::CertificatesClient;
use certwright_proto::v1::get_certificate_request::AsOf;
use certwright_proto::v1::issuers_client::IssuersClient;
use certwright_proto::v1::tokens_client::TokensClient;
use serde_json::{Value, json};

use crate::args::{Format, GetArgs, Global, Kind};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, Table, age, moment, until};

/// Objects asked for at a time.
const PAGE: i32 = 500;

/// One object as every format needs it.
pub struct Row {
    /// Resource name.
    pub name: String,
    /// Cells of the plain table, then those that only `wide` shows.
    pub cells: Vec<String>,
    /// The whole object.
    pub value: Value,
}

/// The resource name of an object.
pub fn resource(kind: Kind, namespace: &str, name: &str) -> String {
    match kind {
        Kind::Certificates => format!("namespaces/{namespace}/certificates/{name}"),
        Kind::Issuers => format!("issuers/{name}"),
        Kind::Authorities => format!("authorities/{name}"),
        Kind::Agents => format!("agents/{name}"),
        Kind::Servers => format!("nodes/{name}"),
        Kind::Tokens => name.to_string(),
    }
}

/// Columns of a kind and how many of them the plain table shows.
fn columns(kind: Kind) -> (&'static [&'static str], usize) {
    match kind {
        Kind::Certificates => (
            &[
                "NAMESPACE",
                "NAME",
                "READY",
                "ISSUER",
                "EXPIRES",
                "RENEWS",
                "AGE",
                "AGENTS",
                "GENERATION",
                "SERIAL",
                "STATUS",
            ],
            7,
        ),
        Kind::Issuers => (&["NAME", "READY", "KIND", "AGE", "AUTHORITY", "MAX-DURATION"], 4),
        Kind::Authorities => (&["NAME", "PURPOSE", "KEY", "PARENT", "EXPIRES", "SERIAL"], 5),
        Kind::Agents => (&["NAME", "INSTANCES", "LABELS", "AGE", "IDENTITY-EXPIRES", "CONNECTED-HERE"], 4),
        Kind::Servers => (&["NAME", "ROLE", "NODE", "APPLIED", "TERM", "UNSEALED", "GRPC", "RAFT", "HTTP"], 6),
        Kind::Tokens => (&["ID", "ROLE", "STATE", "EXPIRES", "AGENT", "LABELS"], 4),
    }
}

/// Runs the verb.
pub async fn run(global: &Global, args: GetArgs) -> Result<ExitCode, Failure> {
    let client = Client::new(global)?;
    let rows = match &args.name {
        Some(name) => {
            let (name, as_of) = (resource(args.kind, &global.namespace, name), past_of(args.kind, args.as_of)?);
            vec![one(&client, args.kind, &name, as_of).await?]
        }
        None => all(&client, args.kind, global, &args).await?,
    };
    print(global.output, args.kind, &rows, args.name.is_some())?;
    Ok(ExitCode::SUCCESS)
}

fn print(format: Format, kind: Kind, rows: &[Row], single: bool) -> Result<(), Failure> {
    match format {
        Format::Name => rows.iter().try_for_each(|row| output::line(&crate::apply::short(&row.name))),
        Format::Json | Format::Yaml if single => rows.iter().try_for_each(|row| output::value(format, &row.value)),
        Format::Json => output::value(format, &Value::Array(rows.iter().map(|row| row.value.clone()).collect())),
        Format::Yaml => rows.iter().enumerate().try_for_each(|(place, row)| {
            if place > 0 {
                output::line("---")?;
            }
            output::value(format, &row.value)
        }),
        Format::Table | Format::Wide | Format::Junit => {
            if rows.is_empty() {
                output::note("nothing found");
                return Ok(());
            }
            let (columns, plain) = columns(kind);
            let shown = if format == Format::Wide { columns.len() } else { plain };
            let mut table = Table::new(&columns[..shown]);
            rows.iter().for_each(|row| table.row(row.cells[..shown].to_vec()));
            output::line(&table.render())
        }
    }
}

/// The moment at which an object of that kind is to be read; only certificates have a past that can be asked for.
pub fn past_of(kind: Kind, as_of: Option<AsOf>) -> Result<Option<AsOf>, Failure> {
    match (kind, as_of) {
        (Kind::Certificates, as_of) => Ok(as_of),
        (_, None) => Ok(None),
        _ => Err(Failure::usage(
            "--as-of is for certificates",
            "`certwright events` tells what happened to other objects",
        )),
    }
}

/// Reads one object; a certificate also as it was.
pub async fn one(client: &Client, kind: Kind, name: &str, as_of: Option<AsOf>) -> Result<Row, Failure> {
    let now = now(client);
    let request = v1::GetRequest { name: name.to_string(), min_token: client.min_token() };
    let missing = || Failure::internal("the server answered without the object");
    match kind {
        Kind::Certificates => Ok(certificate_row(crate::stages::get_as_of(client, name, as_of).await?.0, now)),
        Kind::Issuers => {
            let call = |channel, request| async move { IssuersClient::new(channel).get_issuer(request).await };
            Ok(issuer_row(client.call(request, call).await?.issuer.ok_or_else(missing)?, now))
        }
        Kind::Authorities => {
            let call = |channel, request| async move { AuthoritiesClient::new(channel).get_authority(request).await };
            Ok(authority_row(client.call(request, call).await?.authority.ok_or_else(missing)?, now))
        }
        Kind::Agents => {
            let call = |channel, request| async move { AgentsClient::new(channel).get_agent(request).await };
            Ok(agent_row(client.call(request, call).await?.agent.ok_or_else(missing)?, now))
        }
        Kind::Servers => {
            let found = servers(client).await?.into_iter().find(|node| format!("nodes/{}", node.name) == name);
            found.map(server_row).ok_or_else(|| Rejection::new(Reason::NotFound, format!("there is no {name}")).into())
        }
        Kind::Tokens => Ok(token_row(token(client, name).await?.0, now)),
    }
}

/// Reads every object of a kind.
async fn all(client: &Client, kind: Kind, global: &Global, args: &GetArgs) -> Result<Vec<Row>, Failure> {
    let now = now(client);
    Ok(match kind {
        Kind::Certificates => {
            let namespace = if args.all_namespaces { "-" } else { &global.namespace };
            let certificates = certificates(client, namespace, &args.filter).await?;
            certificates.into_iter().map(|certificate| certificate_row(certificate, now)).collect()
        }
        Kind::Issuers => issuers(client).await?.into_iter().map(|issuer| issuer_row(issuer, now)).collect(),
        Kind::Authorities => {
            authorities(client).await?.into_iter().map(|authority| authority_row(authority, now)).collect()
        }
        Kind::Agents => {
            let call = |channel, request| async move { AgentsClient::new(channel).list_agents(request).await };
            let rows = pages(client, call, |page| (page.agents, page.next_page_token)).await?;
            rows.into_iter().map(|agent| agent_row(agent, now)).collect()
        }
        Kind::Servers => servers(client).await?.into_iter().map(server_row).collect(),
        Kind::Tokens => tokens(client).await?.into_iter().map(|token| token_row(token, now)).collect(),
    })
}

/// Every certificate of a namespace (`-` for all) that the filter lets through.
pub async fn certificates(client: &Client, namespace: &str, filter: &str) -> Result<Vec<v1::Certificate>, Failure> {
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListCertificatesRequest {
            parent: format!("namespaces/{namespace}"),
            page_size: PAGE,
            page_token,
            filter: filter.to_string(),
            min_token: client.min_token(),
        };
        let call = |channel, request| async move { CertificatesClient::new(channel).list_certificates(request).await };
        let page = client.call(request, call).await?;
        found.extend(page.certificates);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(found);
        }
    }
}

/// Every authority.
pub async fn authorities(client: &Client) -> Result<Vec<v1::Authority>, Failure> {
    let call = |channel, request| async move { AuthoritiesClient::new(channel).list_authorities(request).await };
    pages(client, call, |page| (page.authorities, page.next_page_token)).await
}

/// Every issuer.
pub async fn issuers(client: &Client) -> Result<Vec<v1::Issuer>, Failure> {
    let call = |channel, request| async move { IssuersClient::new(channel).list_issuers(request).await };
    pages(client, call, |page| (page.issuers, page.next_page_token)).await
}

/// Every server that was not taken out.
async fn servers(client: &Client) -> Result<Vec<v1::Node>, Failure> {
    let nodes = crate::status::cluster(client).await?.nodes.into_iter();
    Ok(nodes.filter(|node| node.role != "removed").collect())
}

/// One token by its id, and the state in which it was found.
pub async fn token(client: &Client, id: &str) -> Result<(v1::JoinToken, Option<v1::Token>), Failure> {
    let found = tokens(client).await?.into_iter().find(|token| token.id == id);
    let token = found.ok_or_else(|| Rejection::new(Reason::NotFound, format!("there is no token {id}")))?;
    Ok((token, crate::status::cluster(client).await?.token))
}

async fn tokens(client: &Client) -> Result<Vec<v1::JoinToken>, Failure> {
    let call = |channel, request| async move { TokensClient::new(channel).list_tokens(request).await };
    pages(client, call, |page| (page.tokens, page.next_page_token)).await
}

/// Every page of a plain list.
async fn pages<A, T, F, C>(client: &Client, call: C, split: impl Fn(A) -> (Vec<T>, String)) -> Result<Vec<T>, Failure>
where
    F: Future<Output = Result<tonic::Response<A>, tonic::Status>>,
    C: Fn(tonic::transport::Channel, tonic::Request<v1::ListRequest>) -> F,
{
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListRequest { page_size: PAGE, page_token, min_token: client.min_token() };
        let (objects, next) = split(client.call(request, &call).await?);
        found.extend(objects);
        page_token = next;
        if page_token.is_empty() {
            return Ok(found);
        }
    }
}

/// Now, for ages and time left.
pub fn now(client: &Client) -> Timestamp {
    Timestamp::from_millis(client.seams().clock.wall_millis())
}

/// The condition of a type, as its status and message.
pub fn condition<'a>(certificate: &'a v1::Certificate, kind: &str) -> Option<&'a v1::Condition> {
    certificate.status.as_ref()?.conditions.iter().find(|condition| condition.r#type == kind)
}

fn certificate_row(certificate: v1::Certificate, now: Timestamp) -> Row {
    let instances = certificate.status.as_ref().map(|status| status.instances.as_slice()).unwrap_or_default();
    // The instance that expires first speaks for all.
    let first = instances
        .iter()
        .filter(|instance| instance.generation > 0)
        .min_by_key(|instance| instance.not_after.as_ref().map(|moment| (moment.seconds, moment.nanos)));
    let ready = condition(&certificate, "Ready");
    let mut parts = certificate.name.split('/').skip(1).step_by(2).map(str::to_string);
    let agents: Vec<&str> = instances.iter().map(|instance| instance.agent.as_str()).collect();
    let cells = vec![
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
        ready.map(|ready| ready.status.clone()).unwrap_or_default(),
        certificate.spec.as_ref().map(|spec| spec.issuer.clone()).unwrap_or_default(),
        until(first.and_then(|instance| instance.not_after.as_ref()), now),
        until(first.and_then(|instance| instance.renewal_time.as_ref()), now),
        age(certificate.create_time.as_ref(), now),
        agents.join(","),
        first.map(|instance| instance.generation.to_string()).unwrap_or_default(),
        first.map(|instance| instance.serial.clone()).unwrap_or_default(),
        ready.map(|ready| ready.message.clone()).unwrap_or_default(),
    ];
    Row {
        name: certificate.name.clone(),
        cells,
        value: manifest::to_json(&Resource::Certificate(Box::new(certificate))),
    }
}

fn issuer_row(issuer: v1::Issuer, now: Timestamp) -> Row {
    let spec = issuer.spec.clone().unwrap_or_default();
    let longest =
        spec.max_duration.as_ref().and_then(|span| certwright_proto::api::values::span_from_message("", span).ok());
    let cells = vec![
        issuer.name.trim_start_matches("issuers/").to_string(),
        if issuer.ready { "True" } else { "False" }.to_string(),
        "ca".to_string(),
        age(issuer.create_time.as_ref(), now),
        spec.ca.map(|ca| ca.authority).unwrap_or_default(),
        longest.map(manifest::duration::format).unwrap_or_default(),
    ];
    Row { name: issuer.name.clone(), cells, value: manifest::to_json(&Resource::Issuer(issuer)) }
}

fn authority_row(authority: v1::Authority, now: Timestamp) -> Row {
    let cells = vec![
        authority.name.trim_start_matches("authorities/").to_string(),
        authority.purpose.clone(),
        authority.key_algorithm.clone(),
        authority.parent.clone(),
        until(authority.not_after.as_ref(), now),
        authority.serial.clone(),
    ];
    Row { name: authority.name.clone(), cells, value: manifest::to_json(&Resource::Authority(authority)) }
}

fn agent_row(agent: v1::Agent, now: Timestamp) -> Row {
    let cells = vec![
        agent.name.trim_start_matches("agents/").to_string(),
        agent.instances.to_string(),
        labels(&agent.labels),
        age(agent.register_time.as_ref(), now),
        until(agent.identity_not_after.as_ref(), now),
        agent.connected_here.to_string(),
    ];
    Row { name: agent.name.clone(), cells, value: manifest::to_json(&Resource::Agent(agent)) }
}

fn server_row(node: v1::Node) -> Row {
    let numbers = [node.node_id, node.applied_index, node.term].map(|number| number.to_string());
    let addresses = [&node.api_address, &node.raft_address, &node.http_address].map(String::clone);
    let names = [node.name.clone(), node.role.clone()];
    let cells = names.into_iter().chain(numbers).chain([node.unsealed.to_string()]).chain(addresses).collect();
    let value = json!({
        "name": node.name, "nodeId": node.node_id, "role": node.role, "appliedIndex": node.applied_index, "term": node.term,
        "unsealed": node.unsealed, "apiAddress": node.api_address, "raftAddress": node.raft_address,
        "httpAddress": node.http_address, "identityNotAfter": moment(node.identity_not_after.as_ref()),
    });
    Row { name: format!("nodes/{}", node.name), cells, value }
}

/// A token without its secret, which nobody has any more.
pub fn token_row(token: v1::JoinToken, now: Timestamp) -> Row {
    let cells = vec![
        token.id.clone(),
        token.role.clone(),
        token.state.clone(),
        until(token.expire_time.as_ref(), now),
        token.agent.clone(),
        labels(&token.labels),
    ];
    let value = json!({
        "id": token.id, "role": token.role, "state": token.state, "agent": token.agent, "labels": token.labels,
        "createTime": moment(token.create_time.as_ref()), "expireTime": moment(token.expire_time.as_ref()),
    });
    Row { name: format!("tokens/{}", token.id), cells, value }
}

fn labels<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> String {
    let pairs: Vec<String> = labels.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

//! A caller with the administrator's identity: every call is repeated, with its request id, until it is answered.
//!
//! It refuses to give up before a minute of virtual time is over, and to go on after it.

use std::cell::RefCell;
use std::time::Duration;

use certwright_agent::{Connector, Context};
use certwright_core::Reason;
use certwright_core::time::Timestamp;
use certwright_proto::api::values::{moment_to_message, span_to_message};
use certwright_proto::status::from_status;
use certwright_proto::v1;
use certwright_proto::v1::agents_client::AgentsClient;
use certwright_proto::v1::authorities_client::AuthoritiesClient;
use certwright_proto::v1::certificates_client::CertificatesClient;
use certwright_proto::v1::cluster_client::ClusterClient;
use certwright_proto::v1::events_client::EventsClient;
use certwright_proto::v1::issuers_client::IssuersClient;
use certwright_proto::v1::tokens_client::TokensClient;
use certwright_seams::Seams;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::estate::api;

/// How long anything may take until it is answered.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long one attempt may take: less than connecting to a server that lost its power, which refuses nothing.
const ATTEMPT: Duration = Duration::from_secs(2);
/// How long certificates last that are signed for a caller's own request.
const ORDERED: Duration = Duration::from_secs(3600);
/// Between two attempts, or two looks.
pub const PAUSE: Duration = Duration::from_millis(20);

/// What never came to an end.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Stuck(pub String);

/// A caller.
pub struct Client {
    connector: Connector,
    /// The connection in use, and to which server if that is known.
    connected: RefCell<(Channel, Option<String>)>,
    seams: Seams,
    attempt: Duration,
}

impl Client {
    /// A caller who connects to any server.
    pub fn new(context: &Context, seams: &Seams) -> Self {
        let connector = Connector::new(context, seams).expect("the administrator's context");
        let connected = RefCell::new((connector.channel(), None));
        Self { connector, connected, seams: seams.clone(), attempt: ATTEMPT }
    }

    /// A caller of one server alone.
    pub(crate) fn of(context: &Context, seams: &Seams, server: &str) -> Self {
        Self::at(context, seams, &api(server))
    }

    /// A caller of the server at that address alone.
    pub fn at(context: &Context, seams: &Seams, address: &str) -> Self {
        let client = Self::new(context, seams);
        client.connector.set_servers(vec![address.to_owned()]);
        client
    }

    /// The same caller with so much time for one attempt.
    pub fn patient(self, attempt: Duration) -> Self {
        Self { attempt, ..self }
    }

    /// A connection to any server.
    pub fn connection(&self) -> Channel {
        self.connector.channel()
    }

    /// A request id that nobody has used.
    pub fn request_id(&self) -> String {
        let mut octets = [0; 16];
        self.seams.entropy.fill(&mut octets);
        hex::encode(octets)
    }

    /// Calls until there is an answer. A refusal may be one that passes, unless it is among those expected.
    pub async fn call<T>(
        &self,
        what: &str,
        expected: &[Reason],
        call: impl AsyncFn(Channel) -> Result<Response<T>, Status>,
    ) -> Result<Result<T, Reason>, Stuck> {
        let end = Instant::now() + PATIENCE;
        loop {
            let (channel, server) = self.connected.borrow().clone();
            let refused = match timeout(self.attempt, call(channel)).await {
                Ok(Ok(answer)) => return Ok(Ok(answer.into_inner())),
                Ok(Err(status)) if expected.contains(&from_status(&status).reason) => {
                    return Ok(Err(from_status(&status).reason));
                }
                Ok(Err(status)) => format!("{:?} {}", status.code(), status.message()),
                Err(_) => "no answer".to_owned(),
            };
            tracing::debug!(what, refused, "not yet");
            if Instant::now() > end {
                return Err(Stuck(format!("{what}: {refused}")));
            }
            // As the command line does: whoever could not answer is asked last.
            let connecting = self.connector.connect_avoiding(server.as_deref());
            if let Ok(Ok((channel, server))) = timeout(self.attempt, connecting).await {
                self.connected.replace((channel, Some(server)));
            }
            sleep(PAUSE).await;
        }
    }

    /// The same where no refusal is expected.
    async fn done<T>(
        &self,
        what: &str,
        call: impl AsyncFn(Channel) -> Result<Response<T>, Status>,
    ) -> Result<T, Stuck> {
        self.call(what, &[], call).await?.map_err(|reason| Stuck(format!("{what}: {reason:?}")))
    }

    /// A token for one joiner. One whose secret was lost with an answer is left to expire: another one is made.
    pub async fn token(&self, role: &str, agent: &str) -> Result<String, Stuck> {
        loop {
            let request = v1::CreateTokenRequest {
                role: role.into(),
                agent: agent.into(),
                request_id: self.request_id(),
                ..Default::default()
            };
            let call = async |channel| TokensClient::new(channel).create_token(request.clone()).await;
            if let Ok(created) = self.call("create a token", &[Reason::SecretShownOnce], call).await? {
                return Ok(created.secret);
            }
        }
    }

    /// The cluster as a quorum confirms it, or as the answering server sees it.
    pub async fn cluster(&self, linearizable: bool) -> Result<v1::GetClusterResponse, Stuck> {
        let request = v1::GetClusterRequest { min_token: None, linearizable };
        self.done("get the cluster", async |channel| ClusterClient::new(channel).get_cluster(request.clone()).await)
            .await
    }

    /// Has leadership go to whoever is furthest, once, as `operator raft transfer` does; nobody waits for it.
    pub(crate) async fn move_leadership(&self) {
        let request = v1::TransferLeadershipRequest { name: String::new() };
        let asked = self.once(async |channel| ClusterClient::new(channel).transfer_leadership(request.clone()).await);
        tracing::debug!(moved = asked.await.is_some(), "leadership");
    }

    /// Waits until so many servers vote and one of them leads.
    pub async fn voters(&self, wanted: usize) -> Result<v1::GetClusterResponse, Stuck> {
        let end = Instant::now() + PATIENCE;
        loop {
            let seen = self.cluster(false).await?;
            let votes = seen.nodes.iter().filter(|it| it.role == "leader" || it.role == "follower").count();
            if votes >= wanted && !seen.leader.is_empty() {
                return Ok(seen);
            }
            if Instant::now() > end {
                return Err(Stuck(format!("not {wanted} voters: {seen:?}")));
            }
            sleep(PAUSE).await;
        }
    }

    /// Declares an authority.
    pub async fn authority(&self, name: &str, parent: &str) -> Result<(), Stuck> {
        let authority = v1::Authority {
            name: format!("authorities/{name}"),
            common_name: format!("Simulated {name}"),
            parent: parent.into(),
            ..Default::default()
        };
        let request = v1::CreateAuthorityRequest {
            authority: Some(authority),
            request_id: self.request_id(),
            ..Default::default()
        };
        let call = async |channel| AuthoritiesClient::new(channel).create_authority(request.clone()).await;
        self.done("create an authority", call).await.map(drop)
    }

    /// Declares an issuer for an authority, or what it allows from now on: names below these suffixes, all when there
    /// are none.
    pub async fn issuer(&self, name: &str, authority: &str, suffixes: &[&str]) -> Result<(), Stuck> {
        let spec = v1::IssuerSpec {
            ca: Some(v1::CaIssuer { authority: authority.into() }),
            allowed_dns_suffixes: suffixes.iter().map(|it| (*it).to_owned()).collect(),
            ..Default::default()
        };
        let request = v1::UpdateIssuerRequest {
            issuer: Some(v1::Issuer { name: format!("issuers/{name}"), spec: Some(spec), ..Default::default() }),
            request_id: self.request_id(),
            allow_missing: true,
            ..Default::default()
        };
        let call = async |channel| IssuersClient::new(channel).update_issuer(request.clone()).await;
        self.done("declare an issuer", call).await.map(drop)
    }

    /// Says that log time is right: renewals go on.
    pub(crate) async fn release_renewals(&self) -> Result<(), Stuck> {
        let request = v1::ReleaseRenewalsRequest { request_id: self.request_id() };
        let call = async |channel| ClusterClient::new(channel).release_renewals(request.clone()).await;
        self.done("release renewals", call).await.map(drop)
    }

    /// Has log time set back to the servers' clocks, under one id.
    pub(crate) async fn rebase_time(
        &self,
        expected: &[Reason],
    ) -> Result<Result<v1::RebaseTimeResponse, Reason>, Stuck> {
        let request_id = self.request_id();
        let call = async |channel| {
            let now = Timestamp::from_millis(self.seams.clock.wall_millis());
            let request = v1::RebaseTimeRequest { request_id: request_id.clone(), clock: Some(moment_to_message(now)) };
            ClusterClient::new(channel).rebase_time(request).await
        };
        self.call("set log time back", expected, call).await
    }

    /// Has history kept for so long.
    pub(crate) async fn set_retention(&self, keep: Duration) -> Result<(), Stuck> {
        let request = v1::SetRetentionRequest { keep: Some(span_to_message(keep)), request_id: self.request_id() };
        let call = async |channel| ClusterClient::new(channel).set_retention(request.clone()).await;
        self.done("set the retention", call).await.map(drop)
    }

    /// Has one request signed for so long.
    pub(crate) async fn issue_lasting(&self, issuer: &str, csr: &[u8], duration: Duration) -> Result<(), Stuck> {
        let request = v1::IssueRequest {
            issuer: issuer.into(),
            csr: csr.to_vec().into(),
            request_id: self.request_id(),
            duration: Some(span_to_message(duration)),
            ..Default::default()
        };
        let call = async |channel| CertificatesClient::new(channel).issue(request.clone()).await;
        self.done("issue", call).await.map(drop)
    }

    /// Takes a server out of the cluster.
    pub async fn remove_node(&self, name: &str) -> Result<(), Stuck> {
        let request = v1::RemoveNodeRequest { name: name.to_owned(), request_id: self.request_id() };
        let call = async |channel| ClusterClient::new(channel).remove_node(request.clone()).await;
        self.done("remove a server", call).await.map(drop)
    }

    /// Withdraws an agent's identity.
    pub async fn delete_agent(&self, name: &str) -> Result<(), Stuck> {
        let request =
            v1::DeleteRequest { name: format!("agents/{name}"), request_id: self.request_id(), ..Default::default() };
        let call = async |channel| AgentsClient::new(channel).delete_agent(request.clone()).await;
        self.done("delete an agent", call).await.map(drop)
    }

    /// What a call comes to when it is made once; `None` when it is refused or not answered in time.
    pub async fn once<T>(&self, call: impl AsyncFn(Channel) -> Result<Response<T>, Status>) -> Option<T> {
        timeout(self.attempt, call(self.connector.channel())).await.ok()?.ok().map(Response::into_inner)
    }

    /// Declares a certificate, or what it should be from now on; with an etag only if it is still at that version.
    pub async fn certificate(&self, certificate: v1::Certificate) -> Result<Result<(), Reason>, Stuck> {
        let request = v1::UpdateCertificateRequest {
            certificate: Some(certificate),
            request_id: self.request_id(),
            allow_missing: true,
            ..Default::default()
        };
        let call = async |channel| CertificatesClient::new(channel).update_certificate(request.clone()).await;
        Ok(self.call("update a certificate", &[Reason::EtagMismatch], call).await?.map(drop))
    }

    /// A certificate, from at least that state.
    pub async fn get(&self, name: &str, min_token: Option<v1::Token>) -> Result<v1::Certificate, Stuck> {
        let request = v1::GetCertificateRequest { name: name.into(), min_token, ..Default::default() };
        let call = async |channel| CertificatesClient::new(channel).get_certificate(request.clone()).await;
        let answer = self.done("get a certificate", call).await?;
        answer.certificate.ok_or_else(|| Stuck(format!("{name} is answered without a certificate")))
    }

    /// Renews a certificate before its time.
    pub async fn renew(&self, name: &str) -> Result<(), Stuck> {
        let request = v1::RenewCertificateRequest { name: name.into(), request_id: self.request_id() };
        let call = async |channel| CertificatesClient::new(channel).renew_certificate(request.clone()).await;
        self.done("renew a certificate", call).await.map(drop)
    }

    /// Has one request signed, under an id with which it may be repeated.
    pub async fn issue(&self, issuer: &str, csr: &[u8], request_id: &str) -> Result<v1::IssueResponse, Stuck> {
        let issued = self.issue_if_allowed(issuer, csr, request_id).await?;
        issued.ok_or_else(|| Stuck(format!("{issuer} denies what it allows")))
    }

    /// The same where the issuer's policy may deny it: `None`.
    pub async fn issue_if_allowed(
        &self,
        issuer: &str,
        csr: &[u8],
        request_id: &str,
    ) -> Result<Option<v1::IssueResponse>, Stuck> {
        let request = v1::IssueRequest {
            issuer: issuer.into(),
            csr: csr.to_vec().into(),
            request_id: request_id.to_owned(),
            duration: Some(span_to_message(ORDERED)),
            ..Default::default()
        };
        let call = async |channel| CertificatesClient::new(channel).issue(request.clone()).await;
        Ok(self.call("issue", &[Reason::PolicyDenied], call).await?.ok())
    }

    /// Digests of the newest index for which all servers have one.
    pub async fn digests(&self, servers: usize, limit: Duration) -> Result<v1::GetDigestsResponse, Stuck> {
        let end = Instant::now() + limit;
        loop {
            let call = async |channel| ClusterClient::new(channel).get_digests(v1::GetDigestsRequest {}).await;
            let answer = self.done("get digests", call).await?;
            if answer.digests.len() == servers {
                return Ok(answer);
            }
            if Instant::now() > end {
                return Err(Stuck(format!("not every server has a digest within {limit:?}: {answer:?}")));
            }
            sleep(PAUSE).await;
        }
    }

    /// Every event that the server has applied.
    pub async fn events(&self) -> Result<Vec<v1::Event>, Stuck> {
        self.done("watch", all_events).await
    }

    /// The same; `None` when the server says that it no longer has them all, or not yet.
    pub async fn events_kept(&self) -> Result<Option<Vec<v1::Event>>, Stuck> {
        Ok(self.call("watch", &[Reason::TokenTooOld, Reason::NotReady], all_events).await?.ok())
    }

    /// The same when it is asked for once; `None` when the server does not answer.
    pub async fn events_once(&self) -> Option<Vec<v1::Event>> {
        self.once(all_events).await
    }
}

async fn all_events(channel: Channel) -> Result<Response<Vec<v1::Event>>, Status> {
    let request = v1::WatchRequest { from_index: 1, ..Default::default() };
    let mut stream = EventsClient::new(channel).watch(request).await?.into_inner();
    let mut events = Vec::new();
    while let Some(message) = stream.message().await? {
        events.extend(message.event);
    }
    Ok(Response::new(events))
}

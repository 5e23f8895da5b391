//! The administrator's client: every call is repeated, with its request id, until it is answered.
//!
//! It refuses to give up before a minute of virtual time is over, and to go on after it.

use std::cell::RefCell;
use std::future::Future;
use std::time::Duration;

use certwright_agent::{Connector, Context};
use certwright_proto::v1;
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

use super::estate::api;

/// How long anything may take until it is answered.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How long one attempt may take: less than connecting to a server that lost its power, which refuses nothing.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Between two attempts, or two looks.
pub(super) const PAUSE: Duration = Duration::from_millis(20);

/// A client with the administrator's identity.
pub(super) struct Client {
    connector: Connector,
    channel: RefCell<Channel>,
    seams: Seams,
}

impl Client {
    /// A client that connects to any server.
    pub(super) fn new(context: &Context, seams: &Seams) -> Self {
        let connector = Connector::new(context, seams).unwrap();
        let channel = RefCell::new(connector.channel());
        Self { connector, channel, seams: seams.clone() }
    }

    /// A client of one server alone.
    pub(super) fn of(context: &Context, seams: &Seams, server: &str) -> Self {
        let client = Self::new(context, seams);
        client.connector.set_servers(vec![api(server)]);
        client
    }

    fn request_id(&self) -> String {
        let mut octets = [0; 16];
        self.seams.entropy.fill(&mut octets);
        hex::encode(octets)
    }

    /// Calls until there is an answer; a refusal may be one that passes.
    async fn call<T, F>(&self, what: &str, call: impl Fn(Channel) -> F) -> T
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let end = Instant::now() + PATIENCE;
        loop {
            let channel = self.channel.borrow().clone();
            let refused = match timeout(ATTEMPT, call(channel)).await {
                Ok(Ok(answer)) => return answer.into_inner(),
                Ok(Err(status)) => format!("{:?} {}", status.code(), status.message()),
                Err(_) => "no answer".to_owned(),
            };
            assert!(Instant::now() < end, "{what}: {refused}");
            self.channel.replace(self.connector.channel());
            sleep(PAUSE).await;
        }
    }

    /// A token for one joiner.
    pub(super) async fn token(&self, role: &str, agent: &str) -> String {
        let request = v1::CreateTokenRequest {
            role: role.into(),
            agent: agent.into(),
            request_id: self.request_id(),
            ..Default::default()
        };
        let call = |channel| {
            let request = request.clone();
            async move { TokensClient::new(channel).create_token(request).await }
        };
        self.call("create a token", call).await.secret
    }

    /// The cluster as the answering server sees it.
    pub(super) async fn cluster(&self) -> v1::GetClusterResponse {
        let call =
            |channel| async move { ClusterClient::new(channel).get_cluster(v1::GetClusterRequest::default()).await };
        self.call("get the cluster", call).await
    }

    /// Waits until so many servers vote and one of them leads.
    pub(super) async fn voters(&self, wanted: usize) -> v1::GetClusterResponse {
        let end = Instant::now() + PATIENCE;
        loop {
            let seen = self.cluster().await;
            let votes = seen.nodes.iter().filter(|it| it.role == "leader" || it.role == "follower").count();
            if votes >= wanted && !seen.leader.is_empty() {
                return seen;
            }
            assert!(Instant::now() < end, "not {wanted} voters: {seen:?}");
            sleep(PAUSE).await;
        }
    }

    /// Declares an authority.
    pub(super) async fn authority(&self, name: &str, parent: &str) {
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
        let call = |channel| {
            let request = request.clone();
            async move { AuthoritiesClient::new(channel).create_authority(request).await }
        };
        self.call("create an authority", call).await;
    }

    /// Declares an issuer of that name for the authority of that name.
    pub(super) async fn issuer(&self, name: &str) {
        let spec = v1::IssuerSpec { ca: Some(v1::CaIssuer { authority: name.into() }), ..Default::default() };
        let issuer = v1::Issuer { name: format!("issuers/{name}"), spec: Some(spec), ..Default::default() };
        let request =
            v1::CreateIssuerRequest { issuer: Some(issuer), request_id: self.request_id(), ..Default::default() };
        let call = |channel| {
            let request = request.clone();
            async move { IssuersClient::new(channel).create_issuer(request).await }
        };
        self.call("create an issuer", call).await;
    }

    /// Declares a certificate.
    pub(super) async fn certificate(&self, certificate: v1::Certificate) {
        let request = v1::CreateCertificateRequest {
            certificate: Some(certificate),
            request_id: self.request_id(),
            ..Default::default()
        };
        let call = |channel| {
            let request = request.clone();
            async move { CertificatesClient::new(channel).create_certificate(request).await }
        };
        self.call("create a certificate", call).await;
    }

    /// A certificate as it stands.
    pub(super) async fn get(&self, name: &str) -> v1::Certificate {
        let request = v1::GetCertificateRequest { name: name.into(), min_token: None };
        let call = |channel| {
            let request = request.clone();
            async move { CertificatesClient::new(channel).get_certificate(request).await }
        };
        self.call("get a certificate", call).await.certificate.unwrap()
    }

    /// Renews a certificate before its time.
    pub(super) async fn renew(&self, name: &str) {
        let request = v1::RenewCertificateRequest { name: name.into(), request_id: self.request_id() };
        let call = |channel| {
            let request = request.clone();
            async move { CertificatesClient::new(channel).renew_certificate(request).await }
        };
        self.call("renew a certificate", call).await;
    }

    /// Has one request signed; answers the serial that was acknowledged.
    pub(super) async fn issue(&self, issuer: &str, csr: &[u8]) -> String {
        let request = v1::IssueRequest {
            issuer: issuer.into(),
            csr: csr.to_vec().into(),
            request_id: self.request_id(),
            ..Default::default()
        };
        let call = |channel| {
            let request = request.clone();
            async move { CertificatesClient::new(channel).issue(request).await }
        };
        self.call("issue", call).await.serial
    }

    /// Digests of the newest index for which all servers have one.
    pub(super) async fn digests(&self, servers: usize) -> v1::GetDigestsResponse {
        let end = Instant::now() + PATIENCE;
        loop {
            let call = |channel| async move { ClusterClient::new(channel).get_digests(v1::GetDigestsRequest {}).await };
            let answer = self.call("get digests", call).await;
            if answer.digests.len() == servers {
                return answer;
            }
            assert!(Instant::now() < end, "not every server has a digest: {answer:?}");
            sleep(PAUSE).await;
        }
    }

    /// Every event that the server has applied.
    pub(super) async fn events(&self) -> Vec<v1::Event> {
        let request = v1::WatchRequest { from_index: 1, ..Default::default() };
        let call = |channel| {
            let request = request.clone();
            async move {
                let mut stream = EventsClient::new(channel).watch(request).await?.into_inner();
                let mut events = Vec::new();
                while let Some(message) = stream.message().await? {
                    events.extend(message.event);
                }
                Ok(Response::new(events))
            }
        };
        self.call("watch", call).await
    }
}

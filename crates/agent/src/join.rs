//! Joining a cluster as an agent: a token and a CSR go there, an identity comes back, a context is made of it.
//!
//! It refuses servers that the token does not vouch for, and tokens of another role.

use certwright_core::ids::{Actor, AgentName};
use certwright_core::spec::{KeyAlgorithm, KeyEncoding, Labels};
use certwright_core::x509::{Names, inspect::inspect, key::sha256, pem};
use certwright_core::{Reason, Rejection};
use certwright_custody::{CustodyError, LeafKey};
use certwright_proto::join_token::{self, JoinRole};
use certwright_proto::v1::join_client::JoinClient;
use certwright_proto::v1::{IdentityResponse, JoinAgentRequest};
use certwright_seams::Seams;

use crate::connect::{ConnectError, Connector};
use crate::context::Context;

/// Why joining failed.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token or name cannot be used, or the servers refused: a reason code with its cause.
    #[error("{0}")]
    Refused(Rejection),
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server refused; the status carries its reason.
    #[error("{}", .0.message())]
    Status(Box<tonic::Status>),
    /// The key could not be made.
    #[error(transparent)]
    Key(#[from] CustodyError),
    /// The answer makes no identity.
    #[error("the server's answer makes no identity: {0}")]
    Answer(String),
}

impl JoinError {
    /// The stable reason.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Refused(rejection) => rejection.reason,
            Self::Connect(ConnectError::Unreachable(_)) => Reason::NotReady,
            // The token vouches for another cluster's authority than the server's.
            Self::Connect(_) => Reason::TokenForeign,
            Self::Status(status) => certwright_proto::status::from_status(status).reason,
            Self::Key(_) | Self::Answer(_) => Reason::Internal,
        }
    }
}

/// Joins through `server` (`host:port`) as agent `name` and returns the context; the caller saves it. The key never
/// leaves this process; repeating a join whose answer was lost needs a new token.
pub async fn join(server: &str, token: &str, name: &str, labels: &Labels, seams: &Seams) -> Result<Context, JoinError> {
    let token = join_token::parse(token).map_err(JoinError::Refused)?;
    let name = AgentName::parse(name).map_err(JoinError::Refused)?;
    if token.role != JoinRole::Agent {
        let message = format!("the token admits a {}, not an agent", token.role.name());
        return Err(JoinError::Refused(Rejection::new(Reason::TokenForeign, message)));
    }
    let connector = Connector::pinned(token.ca_hash, token.cluster_id, vec![server.to_string()], seams)?;
    let (channel, _) = connector.connect().await?;
    let key = LeafKey::generate(KeyAlgorithm::EcdsaP256)?;
    let names = Names { common_name: Some(name.to_string()), ..Names::default() };
    let request = JoinAgentRequest {
        token_id: token.id.to_string(),
        token_secret: token.secret.to_vec().into(),
        agent: name.to_string(),
        labels: labels.clone(),
        csr: key.request(&names)?.into(),
        cluster_id: token.cluster_id.to_string(),
    };
    let answer =
        JoinClient::new(channel).join_agent(request).await.map_err(|status| JoinError::Status(Box::new(status)))?;
    context_of(answer.into_inner(), &token, &key, server).map_err(JoinError::Answer)
}

/// Checks the answer against token and key and makes a context of it.
fn context_of(
    answer: IdentityResponse,
    token: &join_token::JoinToken,
    key: &LeafKey,
    server: &str,
) -> Result<Context, String> {
    let certificate = inspect(&answer.certificate).map_err(|rejection| rejection.to_string())?;
    if certificate.spki_hash != key.spki_hash() {
        return Err("the certificate is not for our key".to_string());
    }
    let identity = certificate.names.uris.iter().find_map(|uri| certwright_proto::identity::parse_uri(uri));
    let Some((cluster_id, actor @ Actor::Agent(_))) = identity else {
        return Err("the certificate names no agent".to_string());
    };
    if cluster_id != token.cluster_id {
        return Err("the certificate names another cluster".to_string());
    }
    let root =
        answer.chain.iter().find(|der| sha256(der) == token.ca_hash).ok_or("the token's root is not in the chain")?;
    let intermediates = answer.chain.iter().filter(|der| *der != root).map(|der| pem::certificate(der));
    Ok(Context {
        cluster_id,
        actor,
        servers: vec![server.to_string()],
        ca_pem: pem::certificate(root),
        certificate_pem: std::iter::once(pem::certificate(&answer.certificate)).chain(intermediates).collect(),
        key_pem: key.to_pem(KeyEncoding::Pkcs8).map_err(|error| error.to_string())?,
    })
}

//! A server's way into a cluster: it shows a token, gets an id and a certificate, and is then a member that catches up.
//!
//! It refuses servers that the token does not vouch for; killed at any step it is taken up again with the same key.

use certwright_core::{Format, Reason, Rejection};
use certwright_proto::join_token::{self, JoinRole, JoinToken};
use certwright_proto::status;
use certwright_proto::v1::join_client::JoinClient;
use certwright_proto::v1::{JoinNodeRequest, JoinNodeResponse};
use certwright_seams::Seams;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use tonic::transport::{Channel, Endpoint};

use crate::bootstrap::{addresses, fresh_record, internal, pem, request};
use crate::data_dir::{DataDir, KnownPeer, Phase, Record, foreign};
use crate::limits::{JOIN_TIMEOUT, RETRY_DELAY};
use crate::node::{NodeConfig, open_seal};
use crate::tls;

/// How often the join is asked for while the cluster has no leader: about ten seconds.
const ATTEMPTS_MAX: usize = 200;

/// Prepares a data directory as a member of the cluster that the token names, by any of its servers, `host:port`. A
/// directory that is a member already is left alone.
pub async fn join(config: &NodeConfig, seams: Seams, server: &str, token: &str) -> Result<Record, Rejection> {
    let token = join_token::parse(token)?;
    if token.role != JoinRole::Node {
        return Err(Rejection::new(Reason::TokenForeign, "the token admits an agent, not a server"));
    }
    let data = DataDir::open(&config.data, seams.disk.clone())?;
    let mut record = match data.record()? {
        Some(record) if record.cluster()? != token.cluster_id => {
            return Err(foreign(&data.path().display().to_string(), "it belongs to another cluster than the token"));
        }
        Some(record) if record.phase == Phase::Member => return Ok(record),
        Some(record) if record.phase == Phase::Joining => record,
        Some(record) if record.phase == Phase::Restoring => return Err(data.unfinished()),
        Some(_) => return Err(foreign("the data directory", "it is founding a cluster of its own")),
        None => {
            let record = fresh_record(config, token.cluster_id, 0, 0, Phase::Joining)?;
            data.write_record(&record)?;
            record
        }
    };
    let answer = ask(config, &data, &record, &seams, server, &token).await?;
    keep(&data, &answer)?;
    record.node_id = answer.node_id;
    record.epoch = answer.epoch;
    record.phase = Phase::Member;
    data.write_record(&record)?;
    Ok(record)
}

/// Asks until the cluster has answered; only the absence of a leader is worth asking again.
async fn ask(
    config: &NodeConfig,
    data: &DataDir,
    record: &Record,
    seams: &Seams,
    server: &str,
    token: &JoinToken,
) -> Result<JoinNodeResponse, Rejection> {
    let reachable = addresses(config, record)?;
    let question = JoinNodeRequest {
        token_id: token.id.to_string(),
        token_secret: token.secret.to_vec().into(),
        node: record.name.clone(),
        raft_address: reachable.raft,
        api_address: reachable.api,
        http_address: reachable.http,
        csr: request(&data.node_key()?)?.into(),
        hpke_public: open_seal(data, seams)?.public().to_vec().into(),
        cluster_id: token.cluster_id.to_string(),
        format: Format::NEWEST.0,
    };
    let mut attempt = 0;
    loop {
        let refused = match connect(seams, server, token).await {
            Ok(channel) => match JoinClient::new(channel).join_node(question.clone()).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => status::from_status(&status),
            },
            Err(rejection) => return Err(rejection),
        };
        attempt += 1;
        if refused.retry_after.is_none() && refused.reason != Reason::OutcomeUnknown || attempt == ATTEMPTS_MAX {
            return Err(refused.into());
        }
        tokio::time::sleep(refused.retry_after.unwrap_or(RETRY_DELAY)).await;
    }
}

async fn connect(seams: &Seams, server: &str, token: &JoinToken) -> Result<Channel, Rejection> {
    let config = tls::pinned_client(token.ca_hash, seams.clock.clone())
        .map_err(|error| internal("TLS cannot be configured", &error))?;
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let (net, address) = (seams.net.clone(), server.to_owned());
    let dial = move |_: http::Uri| {
        let (net, address, connector) = (net.clone(), address.clone(), connector.clone());
        async move {
            let stream = net.connect(&address).await?;
            // The name is sent and consulted by nobody: the chain says which cluster it is.
            let name = ServerName::try_from("certwright.internal").map_err(std::io::Error::other)?;
            connector.connect(name, stream).await.map(TokioIo::new)
        }
    };
    let endpoint = Endpoint::from_static("https://certwright.internal").timeout(JOIN_TIMEOUT);
    let connecting = endpoint.connect_with_connector(tower::service_fn(dial));
    let connected = tokio::time::timeout(JOIN_TIMEOUT, connecting).await;
    let unreachable = |why: String| Rejection::new(Reason::Unreachable, format!("{server} does not answer: {why}"));
    connected.map_err(|_| unreachable("it took too long".into()))?.map_err(|error| {
        let why = causes(&error);
        match why.contains("UnknownIssuer") {
            true => Rejection::new(Reason::TokenForeign, format!("{server} is not of the cluster that made the token")),
            false => unreachable(why),
        }
    })
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn keep(data: &DataDir, answer: &JoinNodeResponse) -> Result<(), Rejection> {
    let parts = std::iter::once(&answer.certificate).chain(&answer.chain);
    let chain: Vec<_> = parts.map(|der| CertificateDer::from(der.to_vec())).collect();
    tls::certified_key(chain.clone(), &data.node_key()?)?;
    let peers = answer.peers.iter().map(|peer| KnownPeer {
        node_id: peer.node_id,
        raft_address: peer.raft_address.clone(),
        spki_hash: hex::encode(&peer.spki_hash),
    });
    data.write_peers(&peers.collect::<Vec<_>>())?;
    data.write_certificates(pem(&chain).as_bytes())
}

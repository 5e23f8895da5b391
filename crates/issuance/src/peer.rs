//! What a server tells its peers about itself: how far it is, and that it can open the data key.
//!
//! It refuses anybody but peers: it is served on the internal port only, behind pinned keys.

use std::sync::Arc;
use std::time::Duration;

use certwright_core::State;
use certwright_core::ids::{ClusterId, NodeName};
use certwright_custody::NodeSeal;
use certwright_proto::internal::v1 as wire;
use certwright_raft::{Log, PeerNode};
use tonic::{Request, Response, Status};

/// Challenges are 32 octets; more is refused.
const CHALLENGE_OCTETS: usize = 32;
/// How long a server waits to learn of the key that was wrapped to it.
const WRAPPED_PATIENCE: Duration = Duration::from_secs(3);

/// The service, one for each server.
#[derive(Clone)]
pub struct PeerService {
    log: Log<State>,
    seal: Arc<NodeSeal>,
    name: NodeName,
}

impl PeerService {
    /// A service that answers for this server.
    pub fn new(log: Log<State>, seal: Arc<NodeSeal>, name: NodeName) -> Self {
        Self { log, seal, name }
    }

    /// The service as tonic routes take it.
    pub fn into_server(self) -> wire::peer_server::PeerServer<Self> {
        wire::peer_server::PeerServer::new(self)
    }

    /// The data key as wrapped to this server, waited for a little: the question may be quicker than the log.
    async fn wrapped(&self, data_key_id: u64) -> Result<(ClusterId, u64, Vec<u8>), Status> {
        let node_id = self.log.status().node_id;
        let look = || {
            self.log.read(|view| {
                let cluster = &view.state.cluster;
                let wrapped = cluster.nodes.get(&node_id)?.wrapped.get(&data_key_id)?;
                Some((cluster.id?, node_id, wrapped.clone()))
            })
        };
        let mut applied = self.log.applied();
        let found = tokio::time::timeout(WRAPPED_PATIENCE, async {
            loop {
                if let Some(found) = look() {
                    return Some(found);
                }
                applied.changed().await.ok()?;
            }
        });
        let missing = || Status::failed_precondition(format!("data key {data_key_id} is not wrapped to this server"));
        found.await.ok().flatten().ok_or_else(missing)
    }
}

#[tonic::async_trait]
impl wire::peer_server::Peer for PeerService {
    async fn get_status(
        &self,
        request: Request<wire::StatusRequest>,
    ) -> Result<Response<wire::StatusResponse>, Status> {
        known(&request)?;
        let status = self.log.status();
        let digests = self.log.digests().into_iter();
        Ok(Response::new(wire::StatusResponse {
            node_id: status.node_id,
            name: self.name.to_string(),
            role: status.role.to_string(),
            term: status.term,
            applied_index: status.applied_index,
            last_log_index: status.last_log_index,
            unsealed: opens(&self.log, &self.seal, status.node_id),
            digests: digests.map(|(index, digest)| wire::Digest { index, digest: digest.to_vec().into() }).collect(),
        }))
    }

    async fn prove_data_key(
        &self,
        request: Request<wire::ProveDataKeyRequest>,
    ) -> Result<Response<wire::ProveDataKeyResponse>, Status> {
        known(&request)?;
        let wire::ProveDataKeyRequest { data_key_id, challenge } = request.into_inner();
        if challenge.len() != CHALLENGE_OCTETS {
            return Err(Status::invalid_argument(format!("a challenge has {CHALLENGE_OCTETS} octets")));
        }
        let (cluster_id, node_id, wrapped) = self.wrapped(data_key_id).await?;
        let opened = self.seal.unwrap(cluster_id, node_id, data_key_id, &wrapped);
        let proof = opened.and_then(|data_key| certwright_custody::prove(&data_key, &challenge));
        let proof =
            proof.map_err(|error| Status::failed_precondition(format!("the data key does not open: {error}")))?;
        Ok(Response::new(wire::ProveDataKeyResponse { proof: proof.to_vec().into() }))
    }
}

/// Whether a server with this seal can open the data key in use, and so could lead.
pub fn opens(log: &Log<State>, seal: &NodeSeal, node_id: u64) -> bool {
    let wrapped = log.read(|view| {
        let cluster = &view.state.cluster;
        let wrapped = cluster.nodes.get(&node_id)?.wrapped.get(&cluster.data_key_id)?;
        Some((cluster.id?, cluster.data_key_id, wrapped.clone()))
    });
    wrapped.is_some_and(|(cluster_id, id, wrapped)| seal.unwrap(cluster_id, node_id, id, &wrapped).is_ok())
}

/// The internal port marks every request with the peer it came from; without the mark it came some other way.
fn known<T>(request: &Request<T>) -> Result<(), Status> {
    match request.extensions().get::<PeerNode>() {
        Some(_) => Ok(()),
        None => Err(Status::unauthenticated("only servers of the cluster may ask")),
    }
}

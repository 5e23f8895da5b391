//! What a server tells its peers about itself: how far it is, and that it can open the data key.
//!
//! It refuses anybody but peers: it is served on the internal port only, behind pinned keys.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use certwright_core::ids::{ClusterId, NodeId, NodeName};
use certwright_core::{Format, State};
use certwright_custody::NodeSeal;
use certwright_proto::internal::v1 as wire;
use certwright_raft::{Log, PeerNode};
use certwright_seams::Seams;
use certwright_seams::exec::compute;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// Challenges are 32 octets; more is refused.
const CHALLENGE_OCTETS: usize = 32;
/// The pool on which the disk is asked.
const POOL: &str = "status";
/// How long a server waits to learn of the key that was wrapped to it.
const WRAPPED_PATIENCE: Duration = Duration::from_secs(3);

/// One server, as it describes itself.
#[derive(Clone)]
pub struct Itself {
    /// Its log.
    pub log: Log<State>,
    /// Opens what is wrapped to it.
    pub seal: Arc<NodeSeal>,
    /// Its name.
    pub name: NodeName,
    /// Its clock and disk.
    pub seams: Seams,
    /// Where its data lies.
    pub data: PathBuf,
    /// How many agents have a session with it.
    pub sessions: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Whose log agents refused, as they told this server.
    pub refused_logs: Arc<dyn Fn() -> Vec<wire::RefusedLog> + Send + Sync>,
    /// Seconds between its own backups, and when the last one was whole, milliseconds since the Unix epoch (0: never).
    pub backups: Arc<dyn Fn() -> Option<(u64, u64)> + Send + Sync>,
}

impl Itself {
    /// What it knows of itself.
    pub async fn status(&self) -> wire::StatusResponse {
        let status = self.log.status();
        let digests = self.log.digests().into_iter();
        let (heartbeat_millis, election_millis) = self.log.timers();
        let (disk, data) = (Arc::clone(&self.seams.disk), self.data.clone());
        let available = compute(&*self.seams.exec, POOL, move || disk.available(&data)).await;
        let (backup, kept) = ((self.backups)(), self.log.kept());
        wire::StatusResponse {
            node_id: status.node_id,
            name: self.name.to_string(),
            role: status.role.to_string(),
            term: status.term,
            applied_index: status.applied_index,
            last_log_index: status.last_log_index,
            unsealed: opens(&self.log, &self.seal, status.node_id),
            digests: digests.map(|(index, digest)| wire::Digest { index, digest: digest.to_vec().into() }).collect(),
            wall_millis: Some(self.seams.clock.wall_millis()),
            disk_available_octets: available.ok(),
            sessions: (self.sessions)(),
            heartbeat_millis,
            election_millis,
            no_room: !self.log.has_room(),
            refused_logs: (self.refused_logs)(),
            backup_every_seconds: backup.map_or(0, |(every, _)| every),
            backup_last_success_millis: backup.map_or(0, |(_, last)| last),
            format: Format::NEWEST.0,
            members: self.log.applied_members(),
            history_first_index: kept.map_or(0, |kept| kept.first_index),
            history_incomplete: !self.log.has_history(),
        }
    }
}

/// The service, one for each server.
#[derive(Clone)]
pub struct PeerService(Itself);

impl PeerService {
    /// A service that answers for this server.
    pub fn new(itself: Itself) -> Self {
        Self(itself)
    }

    /// The service as tonic routes take it.
    pub fn into_server(self) -> wire::peer_server::PeerServer<Self> {
        wire::peer_server::PeerServer::new(self)
    }

    /// The data key as wrapped to this server, waited for a little: the question may be quicker than the log.
    async fn wrapped(&self, data_key_id: u64) -> Result<(ClusterId, u64, Vec<u8>), Status> {
        let node_id = self.0.log.status().node_id;
        let look = || {
            self.0.log.read(|view| {
                let cluster = &view.state.cluster;
                let wrapped = cluster.nodes.get(&node_id)?.wrapped.get(&data_key_id)?;
                Some((cluster.id?, node_id, wrapped.clone()))
            })
        };
        let mut applied = self.0.log.applied();
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
        Ok(Response::new(self.0.status().await))
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
        let opened = self.0.seal.unwrap(cluster_id, node_id, data_key_id, &wrapped);
        let proof = opened.and_then(|data_key| certwright_custody::prove(&data_key, &challenge));
        let proof =
            proof.map_err(|error| Status::failed_precondition(format!("the data key does not open: {error}")))?;
        Ok(Response::new(wire::ProveDataKeyResponse { proof: proof.to_vec().into() }))
    }
}

/// A client of another server, for what servers say of themselves.
pub(crate) fn client(log: &Log<State>, id: NodeId) -> Result<wire::peer_client::PeerClient<Channel>, String> {
    let channel = log.peer_channel(id).ok_or_else(|| "it is no member".to_owned())?;
    Ok(wire::peer_client::PeerClient::new(channel))
}

/// What another server says of itself; why not, when it does not answer in time.
pub async fn status_of(log: &Log<State>, id: NodeId, limit: Duration) -> Result<wire::StatusResponse, String> {
    let mut peer = client(log, id)?;
    let answer = tokio::time::timeout(limit, peer.get_status(wire::StatusRequest {})).await;
    let answer = answer.map_err(|_| "no answer in time".to_owned())?;
    Ok(answer.map_err(|status| status.message().to_owned())?.into_inner())
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

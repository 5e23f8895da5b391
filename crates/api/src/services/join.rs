//! `certwright.v1.Join`: the only calls for those whom nobody knows yet; a token is their proof.
//!
//! It refuses tokens of other clusters before it bothers the leader.

use std::sync::Arc;

use certwright_core::ids::{Actor, AgentName, NodeName, TokenId};
use certwright_core::policy::{Action, Resource};
use certwright_core::{Format, Reason, Rejection};
use certwright_issuance::order::{AgentJoin, Call, NodeJoin};
use certwright_proto::v1;
use certwright_proto::v1::join_server::Join;
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::{Api, identity_response};
use crate::dispatch::Method;
use crate::doors::Doors;
use crate::refuse;

#[tonic::async_trait]
impl Join for Api {
    async fn join_agent(
        &self,
        request: Request<v1::JoinAgentRequest>,
    ) -> Result<Response<v1::IdentityResponse>, Status> {
        self.check_cluster(&request.get_ref().cluster_id)?;
        self.command::<JoinAgent>(request).await
    }

    async fn join_node(&self, request: Request<v1::JoinNodeRequest>) -> Result<Response<v1::JoinNodeResponse>, Status> {
        self.check_cluster(&request.get_ref().cluster_id)?;
        self.command::<JoinNode>(request).await
    }
}

impl Api {
    fn check_cluster(&self, claimed: &str) -> Result<(), Status> {
        if claimed == self.doors.cluster.to_string() {
            return Ok(());
        }
        Err(refuse::status(Rejection::new(Reason::TokenForeign, "the token was made by another cluster")))
    }
}

/// Admits an agent.
pub(crate) struct JoinAgent;

impl Method for JoinAgent {
    const PATH: &'static str = "/certwright.v1.Join/JoinAgent";
    type Request = v1::JoinAgentRequest;
    type Response = v1::IdentityResponse;

    fn right(_: &Actor) -> (Action, Resource) {
        (Action::Join, Resource::Agents)
    }

    async fn run(doors: &Arc<Doors>, call: Call, request: Self::Request) -> Result<Self::Response, Rejection> {
        let join = AgentJoin {
            token: TokenId::parse(&request.token_id)?,
            secret: Zeroizing::new(request.token_secret.to_vec()),
            agent: AgentName::parse(&request.agent)?,
            labels: request.labels,
            csr: request.csr.into(),
        };
        // The token and the key make it idempotent, whoever sends it: no request id of a stranger is remembered.
        let answer = doors.control.admit_agent(Call { request_id: None, ..call }, join).await?;
        Ok(identity_response(doors, answer))
    }
}

/// Admits a server.
pub(crate) struct JoinNode;

impl Method for JoinNode {
    const PATH: &'static str = "/certwright.v1.Join/JoinNode";
    type Request = v1::JoinNodeRequest;
    type Response = v1::JoinNodeResponse;

    fn right(_: &Actor) -> (Action, Resource) {
        (Action::Join, Resource::Cluster)
    }

    async fn run(doors: &Arc<Doors>, call: Call, request: Self::Request) -> Result<Self::Response, Rejection> {
        let join = NodeJoin {
            token: TokenId::parse(&request.token_id)?,
            secret: Zeroizing::new(request.token_secret.to_vec()),
            name: NodeName::parse(&request.node)?,
            raft_address: request.raft_address,
            api_address: request.api_address,
            http_address: request.http_address,
            csr: request.csr.into(),
            hpke_public: request.hpke_public.into(),
            format: Format::told(request.format),
        };
        let answer = doors.control.admit_node(Call { request_id: None, ..call }, join).await?;
        let peers = answer.peers.iter().map(|peer| v1::Peer {
            node_id: peer.id,
            raft_address: peer.raft_address.clone(),
            spki_hash: peer.spki_hash.to_vec().into(),
        });
        Ok(v1::JoinNodeResponse {
            node_id: answer.node_id,
            epoch: answer.epoch,
            certificate: answer.certificate.to_vec().into(),
            chain: answer.chain.iter().map(|der| der.to_vec().into()).collect(),
            peers: peers.collect(),
        })
    }
}

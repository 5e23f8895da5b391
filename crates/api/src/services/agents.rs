//! `certwright.v1.Agents`: who holds keys and targets.
//!
//! It refuses to create them: agents join with a token.

use std::sync::Arc;

use certwright_core::command::{Command, Etag};
use certwright_core::ids::{Actor, AgentName};
use certwright_core::policy::{Action, Resource};
use certwright_core::{Reason, Rejection};
use certwright_issuance::order::Call;
use certwright_proto::api::estate::{agent_from_message, agent_to_message};
use certwright_proto::v1::agents_server::Agents;
use certwright_proto::{api, v1};
use tonic::{Request, Response, Status};

use super::Api;
use crate::dispatch::Method;
use crate::doors::Doors;
use crate::paging;

#[tonic::async_trait]
impl Agents for Api {
    async fn get_agent(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::AgentResponse>, Status> {
        let asked = request.get_ref().clone();
        let method = ("certwright.v1.Agents/GetAgent", Resource::Agents);
        self.read(&request, method, asked.min_token.as_ref(), |view| {
            let name = api::names::agent(&asked.name)?;
            Ok(v1::AgentResponse {
                agent: Some(agent(&self.doors, view, &name).ok_or_else(|| absent(&name))?),
                token: Some(self.doors.token(view.position)),
            })
        })
        .await
    }

    async fn list_agents(&self, request: Request<v1::ListRequest>) -> Result<Response<v1::ListAgentsResponse>, Status> {
        let asked = request.get_ref().clone();
        let method = ("certwright.v1.Agents/ListAgents", Resource::Agents);
        self.read(&request, method, asked.min_token.as_ref(), |view| {
            let after = paging::start(&asked.page_token)?.map(|last| AgentName::parse(&last)).transpose()?;
            let size = paging::size(asked.page_size)?;
            let mut page = view.state.agents.page_after(after.as_ref(), size + 1, |_| true);
            let next = paging::cut(&mut page, size, |last| last.name.as_str());
            Ok(v1::ListAgentsResponse {
                agents: page.into_iter().filter_map(|it| agent(&self.doors, view, &it.name)).collect(),
                next_page_token: next,
                token: Some(self.doors.token(view.position)),
            })
        })
        .await
    }

    async fn update_agent(
        &self,
        request: Request<v1::UpdateAgentRequest>,
    ) -> Result<Response<v1::AgentResponse>, Status> {
        self.command::<UpdateAgent>(request).await
    }

    async fn delete_agent(&self, request: Request<v1::DeleteRequest>) -> Result<Response<v1::DeleteResponse>, Status> {
        self.command::<DeleteAgent>(request).await
    }
}

type View<'a> = certwright_raft::View<'a, certwright_core::State>;

fn agent(doors: &Doors, view: &View<'_>, name: &AgentName) -> Option<v1::Agent> {
    let agent = view.state.agents.get(name)?;
    let instances = view.state.instances_of_agent(name);
    Some(agent_to_message(agent, doors.is_connected(name), instances as u32))
}

fn absent(name: &AgentName) -> Rejection {
    Rejection::new(Reason::NotFound, format!("there is no agent {name}"))
}

/// Replaces an agent's labels.
pub(crate) struct UpdateAgent;

impl Method for UpdateAgent {
    const PATH: &'static str = "/certwright.v1.Agents/UpdateAgent";
    type Request = v1::UpdateAgentRequest;
    type Response = v1::AgentResponse;

    fn request_id(request: &Self::Request) -> &str {
        &request.request_id
    }

    fn right(_: &Actor) -> (Action, Resource) {
        (Action::Update, Resource::Agents)
    }

    async fn run(doors: &Arc<Doors>, call: Call, request: Self::Request) -> Result<Self::Response, Rejection> {
        let call = Call { validate_only: request.validate_only, ..call };
        let etag = request.agent.as_ref().map(|agent| agent.etag.clone()).unwrap_or_default();
        let (name, labels) = agent_from_message(request.agent)?;
        let command = Command::SetAgentLabels { agent: name.clone(), etag: Etag(etag), labels };
        let outcome = doors.control.execute(call, command).await?;
        Ok(v1::AgentResponse {
            agent: doors.log.read(|view| agent(doors, view, &name)),
            token: Some(doors.token(outcome.position)),
        })
    }
}

/// Takes an agent out of the estate; what it holds stays where it is.
pub(crate) struct DeleteAgent;

impl Method for DeleteAgent {
    const PATH: &'static str = "/certwright.v1.Agents/DeleteAgent";
    type Request = v1::DeleteRequest;
    type Response = v1::DeleteResponse;

    fn request_id(request: &Self::Request) -> &str {
        &request.request_id
    }

    fn right(_: &Actor) -> (Action, Resource) {
        (Action::Delete, Resource::Agents)
    }

    async fn run(doors: &Arc<Doors>, call: Call, request: Self::Request) -> Result<Self::Response, Rejection> {
        let call = Call { validate_only: request.validate_only, ..call };
        let name = api::names::agent(&request.name)?;
        let command = Command::RemoveAgent { agent: name, etag: Etag(request.etag) };
        let outcome = doors.control.execute(call, command).await?;
        Ok(v1::DeleteResponse { token: Some(doors.token(outcome.position)) })
    }
}

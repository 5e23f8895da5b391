//! Every RPC that the protocol defines, called with every role: who may is a table, and an RPC without a row fails.
//!
//! It refuses generated clients: an empty message under the right path is enough to learn whether one is let in.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use certwright_agent::{Connector, Context};
use certwright_core::ids::Actor;
use certwright_core::x509::key::sha256;
use certwright_proto::status::from_status;
use certwright_proto::v1;
use certwright_seams::Seams;
use certwright_tests::fleet::Fleet;
use prost::Message;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::shared;

/// How long a stream may take to say that it is open.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Role {
    Administrator,
    Agent,
    Node,
    Nobody,
}

const ROLES: [Role; 4] = [Role::Administrator, Role::Agent, Role::Node, Role::Nobody];

/// Who may call.
#[derive(Clone, Copy, Debug)]
enum May {
    /// These, and nobody else.
    Only(&'static [Role]),
    /// It is for servers and not served on this port at all.
    NotHere,
}

const ADMINISTRATORS: May = May::Only(&[Role::Administrator]);
const AGENTS: May = May::Only(&[Role::Agent]);
/// A token is the proof; an administrator may do what it admits others to do.
const JOINERS: May = May::Only(&[Role::Nobody, Role::Administrator]);
const EVERYBODY: May = May::Only(&ROLES);

/// One row for every RPC.
const TABLE: &[(&str, May)] = &[
    ("certwright.v1.Certificates/GetCertificate", ADMINISTRATORS),
    ("certwright.v1.Certificates/ListCertificates", ADMINISTRATORS),
    ("certwright.v1.Certificates/CreateCertificate", ADMINISTRATORS),
    ("certwright.v1.Certificates/UpdateCertificate", ADMINISTRATORS),
    ("certwright.v1.Certificates/DeleteCertificate", ADMINISTRATORS),
    ("certwright.v1.Certificates/RenewCertificate", ADMINISTRATORS),
    ("certwright.v1.Certificates/Issue", ADMINISTRATORS),
    ("certwright.v1.Certificates/IssueStream", ADMINISTRATORS),
    ("certwright.v1.Certificates/GetIssued", ADMINISTRATORS),
    ("certwright.v1.Issuers/GetIssuer", ADMINISTRATORS),
    ("certwright.v1.Issuers/ListIssuers", ADMINISTRATORS),
    ("certwright.v1.Issuers/CreateIssuer", ADMINISTRATORS),
    ("certwright.v1.Issuers/UpdateIssuer", ADMINISTRATORS),
    ("certwright.v1.Issuers/DeleteIssuer", ADMINISTRATORS),
    ("certwright.v1.Authorities/GetAuthority", ADMINISTRATORS),
    ("certwright.v1.Authorities/ListAuthorities", ADMINISTRATORS),
    ("certwright.v1.Authorities/CreateAuthority", ADMINISTRATORS),
    ("certwright.v1.Agents/GetAgent", ADMINISTRATORS),
    ("certwright.v1.Agents/ListAgents", ADMINISTRATORS),
    ("certwright.v1.Agents/UpdateAgent", ADMINISTRATORS),
    ("certwright.v1.Agents/DeleteAgent", ADMINISTRATORS),
    ("certwright.v1.Tokens/CreateToken", ADMINISTRATORS),
    ("certwright.v1.Tokens/ListTokens", ADMINISTRATORS),
    ("certwright.v1.Tokens/RevokeToken", ADMINISTRATORS),
    ("certwright.v1.Events/Watch", ADMINISTRATORS),
    ("certwright.v1.Cluster/GetCluster", ADMINISTRATORS),
    ("certwright.v1.Cluster/GetDigests", ADMINISTRATORS),
    ("certwright.v1.Cluster/RenewIdentity", ADMINISTRATORS),
    ("certwright.v1.Cluster/RemoveNode", ADMINISTRATORS),
    ("certwright.v1.Cluster/TransferLeadership", ADMINISTRATORS),
    ("certwright.v1.Cluster/SetNodeRole", ADMINISTRATORS),
    ("certwright.v1.Cluster/ReleaseRenewals", ADMINISTRATORS),
    ("certwright.v1.Cluster/RebaseTime", ADMINISTRATORS),
    ("certwright.v1.Cluster/SetRetention", ADMINISTRATORS),
    ("certwright.v1.Cluster/Backup", ADMINISTRATORS),
    ("certwright.v1.Join/JoinAgent", JOINERS),
    ("certwright.v1.Join/JoinNode", JOINERS),
    ("certwright.agent.v1.AgentService/Session", AGENTS),
    ("certwright.internal.v1.Raft/Vote", May::NotHere),
    ("certwright.internal.v1.Raft/PreVote", May::NotHere),
    ("certwright.internal.v1.Raft/AppendEntries", May::NotHere),
    ("certwright.internal.v1.Raft/StreamAppend", May::NotHere),
    ("certwright.internal.v1.Raft/InstallSnapshot", May::NotHere),
    ("certwright.internal.v1.Raft/TransferLeader", May::NotHere),
    ("certwright.internal.v1.Raft/Testify", May::NotHere),
    ("certwright.internal.v1.Raft/Backfill", May::NotHere),
    ("certwright.internal.v1.Raft/Base", May::NotHere),
    ("certwright.internal.v1.Raft/Clock", May::NotHere),
    ("certwright.internal.v1.Raft/Introduce", May::NotHere),
    ("certwright.internal.v1.Raft/OfferSnapshot", May::NotHere),
    ("certwright.internal.v1.Forward/Execute", May::NotHere),
    ("certwright.internal.v1.Forward/ExecuteStream", May::NotHere),
    ("certwright.internal.v1.Peer/GetStatus", May::NotHere),
    ("certwright.internal.v1.Peer/ProveDataKey", May::NotHere),
    ("grpc.health.v1.Health/Check", EVERYBODY),
    ("grpc.health.v1.Health/Watch", EVERYBODY),
    ("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", EVERYBODY),
];

/// RPCs of the standard services beside ours.
const STANDARD: [&str; 3] = [
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
];

/// Every RPC of the protocol's own files, and the standard ones.
fn defined() -> Vec<String> {
    let files = prost_types::FileDescriptorSet::decode(certwright_proto::FILE_DESCRIPTOR_SET).unwrap();
    let mut paths = STANDARD.map(str::to_string).to_vec();
    for file in &files.file {
        for service in &file.service {
            let methods = service.method.iter();
            paths.extend(methods.map(|method| format!("{}.{}/{}", file.package(), service.name(), method.name())));
        }
    }
    paths.sort();
    paths
}

#[test]
fn every_rpc_has_a_row() {
    let mut rows: Vec<String> = TABLE.iter().map(|(path, _)| path.to_string()).collect();
    rows.sort();
    assert_eq!(defined(), rows, "each RPC needs exactly one row that says who may call it");
}

#[test]
fn every_rpc_lets_in_exactly_the_roles_of_its_row() {
    let fleet = shared::fleet();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let offences = runtime.block_on(async {
        let channels = channels(&fleet).await;
        let cluster = administrator(&fleet).cluster_id.to_string();
        let mut offences = Vec::new();
        for (path, may) in TABLE {
            for (role, channel) in &channels {
                let answer = tokio::time::timeout(PATIENCE, call(channel.clone(), path, message(path, &cluster)));
                let answer = answer.await.unwrap_or_else(|_| panic!("{path} by {role:?} was not answered"));
                if let Some(offence) = judge(*may, *role, &answer) {
                    offences.push(format!("{path} by {role:?}: {offence}"));
                }
            }
        }
        offences
    });
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

/// What is wrong with an answer, if anything.
fn judge(may: May, role: Role, answer: &Result<(), Status>) -> Option<String> {
    let said = match answer {
        Ok(()) => "OK".to_string(),
        Err(status) => from_status(status).code,
    };
    let expected = match (may, role) {
        // Strangers are not even told what there is.
        (May::NotHere, Role::Nobody) => "UNAUTHENTICATED",
        (May::NotHere, _) => {
            let unimplemented = answer.as_ref().is_err_and(|status| status.code() == Code::Unimplemented);
            return (!unimplemented).then(|| format!("{said} instead of not being served"));
        }
        (May::Only(roles), role) if roles.contains(&role) => {
            let refused = ["UNAUTHENTICATED", "PERMISSION_DENIED", "NOT_YET_SUPPORTED", "INTERNAL", "NO_LEADER"];
            return refused.contains(&said.as_str()).then(|| format!("{said} instead of being let in"));
        }
        (May::Only(_), Role::Nobody) => "UNAUTHENTICATED",
        (May::Only(_), _) => "PERMISSION_DENIED",
    };
    (said != expected).then(|| format!("{said} instead of {expected}"))
}

/// The least that gets past the doors that look into the message before they ask who it is from.
fn message(path: &str, cluster: &str) -> Bytes {
    let cluster_id = cluster.to_string();
    match path {
        "certwright.v1.Join/JoinAgent" => v1::JoinAgentRequest { cluster_id, ..Default::default() }.encode_to_vec(),
        "certwright.v1.Join/JoinNode" => v1::JoinNodeRequest { cluster_id, ..Default::default() }.encode_to_vec(),
        _ => Vec::new(),
    }
    .into()
}

/// Calls a path with one message, as a stream both ways, which is what every RPC looks like on the wire.
async fn call(channel: Channel, path: &str, message: Bytes) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let path = format!("/{path}").parse().unwrap();
    let messages = tokio_stream::iter([message]);
    let mut answers = client.streaming(Request::new(messages), path, Raw).await?.into_inner();
    // A stream that is let in need not say anything before something happens.
    let first = tokio::time::timeout(Duration::from_millis(300), answers.message()).await;
    first.unwrap_or(Ok(None)).map(drop)
}

fn administrator(fleet: &Fleet) -> Context {
    Context::load(&*Seams::system().disk, &fleet.context()).unwrap()
}

/// One connection for each role.
async fn channels(fleet: &Fleet) -> BTreeMap<Role, Channel> {
    let seams = Seams::system();
    let administrator = administrator(fleet);
    let agent = Context::load(&*seams.disk, &fleet.folder().join("agent-1.context")).unwrap();
    let data = fleet.processes()["server-1"].data.clone().unwrap();
    let read = |name: &str| std::fs::read_to_string(data.join(name)).unwrap();
    let node = Context {
        cluster_id: administrator.cluster_id,
        actor: Actor::Node(1),
        servers: administrator.servers.clone(),
        ca_pem: administrator.ca_pem.clone(),
        certificate_pem: read("node.crt"),
        key_pem: read("node.key").into(),
    };
    let pinned = sha256(&administrator.root().unwrap());
    let connectors = [
        (Role::Administrator, Connector::new(&administrator, &seams)),
        (Role::Agent, Connector::new(&agent, &seams)),
        (Role::Node, Connector::new(&node, &seams)),
        (Role::Nobody, Connector::pinned(pinned, administrator.cluster_id, administrator.servers.clone(), &seams)),
    ];
    let mut channels = BTreeMap::new();
    for (role, connector) in connectors {
        channels.insert(role, connector.unwrap().connect().await.unwrap().0);
    }
    channels
}

/// Messages as they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

//! Every method of the public API, joiners' included: its request decoded, converted, decided against a small estate.
//!
//! It refuses rights and the network: what is left is what a message says.

use std::time::Duration;

use certwright_core::command::{Command, Etag};
use certwright_core::event::TokenGrant;
use certwright_core::ids::{AgentName, NodeName, TokenId};
use certwright_core::spec::CertificateSpec;
use certwright_core::x509::csr;
use certwright_core::{Format, Rejection};
use certwright_custody::backup::Recipient;
use certwright_proto::api::authority::authority_from_message;
use certwright_proto::api::certificate::{certificate_from_message, certificate_to_message};
use certwright_proto::api::estate::{agent_from_message, grant_from_message, role_of, token_secret};
use certwright_proto::api::issuer::{issuer_from_message, issuer_spec_to_message};
use certwright_proto::api::spec::{spec_from_message, spec_to_message, usages};
use certwright_proto::api::values::{moment_from_message, moment_to_message, request_id, span_from_optional};
use certwright_proto::api::{names, values};
use certwright_proto::v1;
use certwright_proto::v1::get_certificate_request::AsOf;
use prost::Message;

use crate::manifest::wishes;
use crate::octets::Octets;
use crate::verdict::{accepted, refused, took};
use crate::{estate, text};

pub(crate) type Run = fn(&[u8]);

/// Every method, by its path. Inputs that are kept name a method by its place: new ones go to the end.
const METHODS: &[(&str, Run)] = &[
    ("/certwright.v1.Certificates/CreateCertificate", |octets| with(octets, create_certificate)),
    ("/certwright.v1.Certificates/UpdateCertificate", |octets| with(octets, update_certificate)),
    ("/certwright.v1.Certificates/DeleteCertificate", |octets| with(octets, delete_certificate)),
    ("/certwright.v1.Certificates/RenewCertificate", |octets| with(octets, renew_certificate)),
    ("/certwright.v1.Certificates/GetCertificate", |octets| with(octets, get_certificate)),
    ("/certwright.v1.Certificates/ListCertificates", |octets| with(octets, list_certificates)),
    ("/certwright.v1.Certificates/Issue", |octets| with(octets, issue)),
    ("/certwright.v1.Certificates/GetIssued", |octets| with(octets, get_issued)),
    ("/certwright.v1.Issuers/CreateIssuer", |octets| with(octets, create_issuer)),
    ("/certwright.v1.Issuers/UpdateIssuer", |octets| with(octets, update_issuer)),
    ("/certwright.v1.Issuers/DeleteIssuer", |octets| with(octets, delete_issuer)),
    ("/certwright.v1.Authorities/CreateAuthority", |octets| with(octets, create_authority)),
    ("/certwright.v1.Agents/UpdateAgent", |octets| with(octets, update_agent)),
    ("/certwright.v1.Tokens/CreateToken", |octets| with(octets, create_token)),
    ("/certwright.v1.Tokens/ListTokens", |octets| with(octets, list)),
    ("/certwright.v1.Events/Watch", |octets| with(octets, watch)),
    ("/certwright.v1.Cluster/SetNodeRole", |octets| with(octets, set_node_role)),
    ("/certwright.v1.Join/JoinAgent", |octets| with(octets, join_agent)),
    ("/certwright.v1.Join/JoinNode", |octets| with(octets, join_node)),
    ("/certwright.v1.Certificates/IssueStream", |octets| with(octets, issue)),
    ("/certwright.v1.Issuers/GetIssuer", |octets| with(octets, |it| get(it, names::issuer))),
    ("/certwright.v1.Issuers/ListIssuers", |octets| with(octets, list)),
    ("/certwright.v1.Authorities/GetAuthority", |octets| with(octets, |it| get(it, names::authority))),
    ("/certwright.v1.Authorities/ListAuthorities", |octets| with(octets, list)),
    ("/certwright.v1.Agents/GetAgent", |octets| with(octets, |it| get(it, names::agent))),
    ("/certwright.v1.Agents/ListAgents", |octets| with(octets, list)),
    ("/certwright.v1.Agents/DeleteAgent", |octets| with(octets, delete_agent)),
    ("/certwright.v1.Tokens/RevokeToken", |octets| with(octets, revoke_token)),
    ("/certwright.v1.Cluster/GetCluster", |octets| with(octets, get_cluster)),
    ("/certwright.v1.Cluster/GetDigests", |octets| with(octets, |_: v1::GetDigestsRequest| took())),
    ("/certwright.v1.Cluster/RenewIdentity", |octets| with(octets, renew_identity)),
    ("/certwright.v1.Cluster/RemoveNode", |octets| with(octets, remove_node)),
    ("/certwright.v1.Cluster/TransferLeadership", |octets| with(octets, transfer_leadership)),
    ("/certwright.v1.Cluster/ReleaseRenewals", |octets| with(octets, release_renewals)),
    ("/certwright.v1.Cluster/Backup", |octets| with(octets, backup)),
    ("/certwright.v1.Cluster/SetRetention", |octets| with(octets, set_retention)),
    ("/certwright.v1.Cluster/RebaseTime", |octets| with(octets, rebase_time)),
];

pub(crate) fn run(input: &[u8]) {
    let mut input = Octets(input);
    let (_, run) = METHODS[usize::from(input.u8()) % METHODS.len()];
    run(input.0);
}

/// The method of that path.
pub(crate) fn method(path: &str) -> Option<Run> {
    METHODS.iter().find(|(method, _)| *method == path).map(|(_, run)| *run)
}

/// Decodes a message; written and read again it is the same.
fn with<M: Message + Default + PartialEq + std::fmt::Debug>(octets: &[u8], run: impl FnOnce(M)) {
    let Ok(message) = M::decode(octets) else { return };
    assert_eq!(M::decode(&*message.encode_to_vec()).expect("what was written is read"), message);
    run(message);
}

fn create_certificate(request: v1::CreateCertificateRequest) {
    let _ = accepted(request_id(&request.request_id));
    let Some(wish) = accepted(certificate_from_message(request.certificate)) else { return };
    assert_eq!(names::certificate(&names::certificate_to_message(&wish.name)).as_ref(), Ok(&wish.name));
    understood(&wish.spec);
    estate::decided(&Command::CreateCertificate { name: wish.name, spec: wish.spec });
}

/// A specification that was taken says the same when it is answered and sent again.
pub(crate) fn understood(spec: &CertificateSpec) {
    let told = spec_to_message(spec);
    assert_eq!(spec_from_message(told, spec.labels.clone()).as_ref(), Ok(spec));
    if let Err(rejection) = spec.validate() {
        refused(&rejection);
    }
}

fn update_certificate(request: v1::UpdateCertificateRequest) {
    let Some(wish) = accepted(certificate_from_message(request.certificate)) else { return };
    estate::decided(&Command::UpdateCertificate { name: wish.name, etag: wish.etag, spec: wish.spec });
}

fn delete_certificate(request: v1::DeleteCertificateRequest) {
    let Some(name) = accepted(names::certificate(&request.name)) else { return };
    estate::decided(&Command::DeleteCertificate { name, etag: Etag(request.etag) });
}

fn renew_certificate(request: v1::RenewCertificateRequest) {
    let Some(name) = accepted(names::certificate(&request.name)) else { return };
    estate::decided(&Command::RenewCertificate { name: name.clone() });
    estate::decided(&Command::ReconcileCertificate { name });
}

fn get_certificate(request: v1::GetCertificateRequest) {
    text::resume(request.min_token.as_ref());
    if let Some(AsOf::Time(time)) = request.as_of {
        let _ = accepted(moment_from_message("time", &time));
    }
    if accepted(names::certificate(&request.name)).is_some() {
        took();
    }
}

fn list_certificates(request: v1::ListCertificatesRequest) {
    let _ = accepted(names::parent(&request.parent));
    text::filter(&request.filter);
    text::page(request.page_size, &request.page_token);
    text::resume(request.min_token.as_ref());
}

fn issue(request: v1::IssueRequest) {
    let asked = (
        accepted(names::issuer(&request.issuer)),
        accepted(span_from_optional("duration", request.duration.as_ref())),
        accepted(usages("usages", &request.usages)),
        accepted(csr::parse(&request.csr)),
    );
    if let (Some(_), Some(_), Some(_), Some(_)) = asked {
        took();
    }
}

fn get_issued(request: v1::GetIssuedRequest) {
    let asked = (accepted(names::issued(&request.name)), accepted(values::instance("instance", &request.instance)));
    if let (Some(_), Some(_)) = asked {
        took();
    }
}

fn create_issuer(request: v1::CreateIssuerRequest) {
    let Some(wish) = accepted(issuer_from_message(request.issuer)) else { return };
    let told = v1::Issuer {
        name: names::issuer_to_message(&wish.name),
        spec: Some(issuer_spec_to_message(&wish.spec)),
        etag: wish.etag.0.clone(),
        ..v1::Issuer::default()
    };
    assert_eq!(issuer_from_message(Some(told)).as_ref(), Ok(&wish));
    estate::decided(&Command::CreateIssuer { name: wish.name, spec: wish.spec });
}

fn update_issuer(request: v1::UpdateIssuerRequest) {
    let Some(wish) = accepted(issuer_from_message(request.issuer)) else { return };
    estate::decided(&Command::UpdateIssuer { name: wish.name, etag: wish.etag, spec: wish.spec });
}

fn delete_issuer(request: v1::DeleteRequest) {
    let Some(name) = accepted(names::issuer(&request.name)) else { return };
    estate::decided(&Command::DeleteIssuer { name, etag: Etag(request.etag) });
}

fn delete_agent(request: v1::DeleteRequest) {
    let Some(agent) = accepted(names::agent(&request.name)) else { return };
    estate::decided(&Command::RemoveAgent { agent, etag: Etag(request.etag) });
}

fn revoke_token(request: v1::DeleteRequest) {
    let Some(id) = accepted(names::token(&request.name)) else { return };
    estate::decided(&Command::RevokeToken { id, etag: Etag(request.etag) });
}

fn get<T>(request: v1::GetRequest, name: fn(&str) -> Result<T, Rejection>) {
    text::resume(request.min_token.as_ref());
    if accepted(name(&request.name)).is_some() {
        took();
    }
}

fn create_authority(request: v1::CreateAuthorityRequest) {
    let Some((name, spec)) = accepted(authority_from_message(request.authority)) else { return };
    let (public_key, sealed_key) = (vec![4; 91], estate::sealed());
    estate::decided(&Command::DeclareAuthority { name, spec, public_key, sealed_key });
}

fn update_agent(request: v1::UpdateAgentRequest) {
    let etag = Etag(request.agent.as_ref().map(|agent| agent.etag.clone()).unwrap_or_default());
    let Some((agent, labels)) = accepted(agent_from_message(request.agent)) else { return };
    estate::decided(&Command::SetAgentLabels { agent, etag, labels });
}

fn create_token(request: v1::CreateTokenRequest) {
    let Some(grant) = accepted(grant_from_message(&request)) else { return };
    assert_eq!(role_of(&grant).name(), request.role);
    assert_eq!(matches!(grant, TokenGrant::Learner), request.learner);
    let Some(duration) = accepted(span_from_optional("duration", request.duration.as_ref())) else { return };
    let expires_at = estate::NOW.plus(duration.unwrap_or(Duration::from_secs(900)));
    let id = TokenId::parse("t-new").expect("a name");
    estate::decided(&Command::CreateToken { id, secret_hash: estate::SECRET_HASH, grant, expires_at });
}

fn list(request: v1::ListRequest) {
    text::page(request.page_size, &request.page_token);
    text::resume(request.min_token.as_ref());
}

fn watch(request: v1::WatchRequest) {
    text::resume(request.token.as_ref());
}

fn get_cluster(request: v1::GetClusterRequest) {
    text::resume(request.min_token.as_ref());
}

fn renew_identity(request: v1::RenewIdentityRequest) {
    if accepted(csr::parse(&request.csr)).is_some() {
        took();
    }
}

/// The estate has one server, whatever it is called.
fn remove_node(request: v1::RemoveNodeRequest) {
    let (_, name) = (accepted(request_id(&request.request_id)), accepted(names::node(&request.name)));
    let node_id = name.map_or(2, |name| if name.as_str() == "node-1" { 1 } else { 2 });
    estate::decided(&Command::RemoveNode { node_id });
}

fn transfer_leadership(request: v1::TransferLeadershipRequest) {
    if request.name.is_empty() || accepted(names::node(&request.name)).is_some() {
        took();
    }
}

fn release_renewals(request: v1::ReleaseRenewalsRequest) {
    let _ = accepted(request_id(&request.request_id));
    estate::decided(&Command::ReleaseRenewals);
}

fn rebase_time(request: v1::RebaseTimeRequest) {
    let _ = accepted(request_id(&request.request_id));
    let told = request.clock.and_then(|clock| accepted(moment_from_message("clock", &clock)));
    if let Some(to) = told {
        estate::decided(&Command::RebaseTime { to });
    }
}

fn set_retention(request: v1::SetRetentionRequest) {
    let _ = accepted(request_id(&request.request_id));
    let keep = request.keep.as_ref().map(|keep| values::span_from_message("keep", keep));
    if let Some(keep) = keep.map_or(Some(None), |keep| accepted(keep).map(Some)) {
        estate::decided(&Command::SetRetention { keep });
    }
}

fn backup(request: v1::BackupRequest) {
    if let Ok(recipient) = Recipient::from_octets(&request.recipient) {
        assert_eq!(recipient.octets(), &request.recipient[..]);
        assert_eq!(Recipient::parse(&recipient.to_string()).ok(), Some(recipient));
        took();
    }
}

fn set_node_role(request: v1::SetNodeRoleRequest) {
    let _ = accepted(names::node(&request.name));
    estate::decided(&Command::SetNodeRole { node_id: 1, learner: request.role == "learner" });
}

fn join_agent(request: v1::JoinAgentRequest) {
    let _ = accepted(token_secret(&request.token_secret));
    let key = accepted(csr::parse(&request.csr)).map(|csr| csr.claimed_key().hash());
    let names = (accepted(TokenId::parse(&request.token_id)), accepted(AgentName::parse(&request.agent)));
    let (Some(token), Some(agent)) = names else { return };
    let mut identity = estate::identity(22);
    identity.spki_hash = key.unwrap_or(identity.spki_hash);
    let (labels, secret_hash) = (request.labels, estate::SECRET_HASH);
    estate::decided(&Command::AdmitAgent { token, secret_hash, agent, labels, identity });
}

fn join_node(request: v1::JoinNodeRequest) {
    let _ = accepted(token_secret(&request.token_secret));
    let _ = accepted(csr::parse(&request.csr));
    let names = (accepted(TokenId::parse(&request.token_id)), accepted(NodeName::parse(&request.node)));
    let (Some(token), Some(name)) = names else { return };
    let addresses = [request.raft_address, request.api_address, request.http_address];
    let node = estate::node(2, name, addresses, request.hpke_public.to_vec());
    let mut identity = estate::identity(23);
    identity.spki_hash = node.spki_hash;
    let (secret_hash, format) = (estate::SECRET_HASH, Format::told(request.format));
    estate::decided(&Command::AdmitNode { token, secret_hash, node, identity, format });
}

/// A request of every method.
pub(crate) fn methods() -> Vec<(&'static str, Vec<u8>)> {
    METHODS.iter().map(|(path, _)| *path).zip(requests()).collect()
}

fn requests() -> Vec<Vec<u8>> {
    let wishes = wishes(concat!(
        include_str!("../../../examples/shop.yaml"),
        "---\n",
        include_str!("../../../examples/issuers.yaml"),
        "---\n",
        include_str!("../../../examples/authorities.yaml")
    ));
    let certificate = wishes.certificates.into_iter().next();
    let name = certificate.as_ref().map(|it| it.name.clone()).unwrap_or_default();
    let stored = estate::state();
    let stored = stored.certificates.iter().next().map(|it| certificate_to_message(it, estate::NOW));
    let issuer = wishes.issuers.into_iter().next();
    let labels = || [("zone".to_owned(), "a".to_owned())].into();
    let agent = v1::Agent { name: "agents/edge-7".into(), labels: labels(), ..v1::Agent::default() };
    let csr = crate::csr::request();
    let token = certwright_proto::token::encode(estate::CLUSTER, 1, Default::default());
    let request_id = "ab".repeat(16);
    let new_certificate =
        certificate.map(|it| v1::Certificate { name: "namespaces/web/certificates/new".into(), ..it });
    let new_issuer = issuer.clone().map(|it| v1::Issuer { name: "issuers/new".into(), ..it });
    let named = |name: &str| v1::GetRequest { name: name.into(), min_token: Some(token.clone()) }.encode_to_vec();
    let page = || {
        let page_token = certwright_api::fuzz::page_token("t-1");
        v1::ListRequest { page_size: 2, page_token, ..Default::default() }.encode_to_vec()
    };
    vec![
        v1::CreateCertificateRequest { certificate: new_certificate, request_id, ..Default::default() }.encode_to_vec(),
        v1::UpdateCertificateRequest { certificate: stored, ..Default::default() }.encode_to_vec(),
        v1::DeleteCertificateRequest { name: name.clone(), ..Default::default() }.encode_to_vec(),
        v1::RenewCertificateRequest { name: name.clone(), ..Default::default() }.encode_to_vec(),
        v1::GetCertificateRequest { name: name.clone(), min_token: Some(token.clone()), ..Default::default() }
            .encode_to_vec(),
        v1::ListCertificatesRequest {
            parent: "namespaces/web".into(),
            page_size: 7,
            filter: "issuer=demo agent=edge-7 ready=true label.team=web expires_before=2026-11-22T00:00:00Z".into(),
            page_token: certwright_api::fuzz::page_token(&name),
            ..Default::default()
        }
        .encode_to_vec(),
        v1::IssueRequest {
            issuer: "issuers/internal-ca".into(),
            csr: csr.clone().into(),
            duration: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
            usages: vec!["server auth".into()],
            ..Default::default()
        }
        .encode_to_vec(),
        v1::GetIssuedRequest { name, instance: "7-0-1".into(), generation: 1 }.encode_to_vec(),
        v1::CreateIssuerRequest { issuer: new_issuer, ..Default::default() }.encode_to_vec(),
        v1::UpdateIssuerRequest { issuer, allow_missing: true, ..Default::default() }.encode_to_vec(),
        v1::DeleteRequest { name: "issuers/internal-ca-issuer".into(), ..Default::default() }.encode_to_vec(),
        v1::CreateAuthorityRequest { authority: wishes.authorities.into_iter().last(), ..Default::default() }
            .encode_to_vec(),
        v1::UpdateAgentRequest { agent: Some(agent), ..Default::default() }.encode_to_vec(),
        v1::CreateTokenRequest { role: "agent".into(), agent: "edge-8".into(), labels: labels(), ..Default::default() }
            .encode_to_vec(),
        page(),
        v1::WatchRequest { token: Some(token.clone()), from_index: 1, follow: true, ..Default::default() }
            .encode_to_vec(),
        v1::SetNodeRoleRequest { name: "node-1".into(), role: "voter".into(), ..Default::default() }.encode_to_vec(),
        v1::JoinAgentRequest {
            token_id: estate::TOKEN.into(),
            token_secret: vec![1; 32].into(),
            agent: "edge-8".into(),
            labels: labels(),
            csr: csr.clone().into(),
            ..Default::default()
        }
        .encode_to_vec(),
        v1::JoinNodeRequest {
            token_id: estate::NODE_TOKEN.into(),
            token_secret: vec![1; 32].into(),
            node: "node-2".into(),
            raft_address: "127.0.0.2:7001".into(),
            api_address: "127.0.0.2:7000".into(),
            http_address: "127.0.0.2:7002".into(),
            csr: csr.clone().into(),
            hpke_public: vec![2; 32].into(),
            ..Default::default()
        }
        .encode_to_vec(),
        v1::IssueRequest { issuer: "issuers/internal-ca".into(), csr: csr.clone().into(), ..Default::default() }
            .encode_to_vec(),
        named("issuers/internal-ca"),
        page(),
        named("authorities/example-ca"),
        page(),
        named("agents/edge-7"),
        page(),
        v1::DeleteRequest { name: "agents/edge-7".into(), ..Default::default() }.encode_to_vec(),
        v1::DeleteRequest { name: format!("tokens/{}", estate::TOKEN), ..Default::default() }.encode_to_vec(),
        v1::GetClusterRequest { min_token: Some(token), linearizable: true }.encode_to_vec(),
        v1::GetDigestsRequest {}.encode_to_vec(),
        v1::RenewIdentityRequest { csr: csr.into() }.encode_to_vec(),
        v1::RemoveNodeRequest { name: "node-1".into(), ..Default::default() }.encode_to_vec(),
        v1::TransferLeadershipRequest { name: "node-1".into() }.encode_to_vec(),
        v1::ReleaseRenewalsRequest { request_id: "ab".repeat(16) }.encode_to_vec(),
        v1::BackupRequest { recipient: vec![3; 32].into() }.encode_to_vec(),
        v1::SetRetentionRequest::default().encode_to_vec(),
        v1::RebaseTimeRequest { request_id: "ab".repeat(16), clock: Some(moment_to_message(estate::NOW)) }
            .encode_to_vec(),
    ]
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    (0..).zip(requests()).map(|(number, request)| [vec![number], request].concat()).collect()
}

#[cfg(test)]
mod tests {
    use certwright_proto::FILE_DESCRIPTOR_SET;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn every_method_of_the_api_is_there() {
        let known = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("the descriptors");
        let files = known.file.iter().filter(|file| file.package() == "certwright.v1");
        let services = files.flat_map(|file| file.service.iter());
        let mut paths: Vec<String> = services
            .flat_map(|service| {
                service.method.iter().map(|method| format!("/certwright.v1.{}/{}", service.name(), method.name()))
            })
            .collect();
        let mut fuzzed: Vec<String> = METHODS.iter().map(|(path, _)| (*path).to_owned()).collect();
        paths.sort();
        fuzzed.sort();
        assert_eq!(fuzzed, paths);
        assert_eq!(requests().len(), METHODS.len());
    }
}

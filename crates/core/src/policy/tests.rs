//! Rights as a table, and final certificates that policy denies.
#![allow(clippy::unwrap_used)]

mod certificates;

use super::*;

fn agent(name: &str) -> AgentName {
    AgentName::parse(name).unwrap()
}

fn resources() -> Vec<Resource> {
    vec![
        Resource::Certificate(CertificateName::parse("default", "web").unwrap()),
        Resource::Certificates,
        Resource::Issuer(IssuerName::parse("demo").unwrap()),
        Resource::Issuers,
        Resource::Authorities,
        Resource::Agent(agent("a1")),
        Resource::Agent(agent("a2")),
        Resource::Agents,
        Resource::Tokens,
        Resource::Events,
        Resource::Cluster,
        Resource::Node(1),
        Resource::Administrator(AdministratorName::parse("admin").unwrap()),
        Resource::Administrator(AdministratorName::parse("other").unwrap()),
    ]
}

/// Every actor, every action, every resource, against the rules written the other way round.
#[test]
fn every_actor_every_action_every_resource() {
    use Action::{Internal, Join, RenewIdentity, Report, Session, SubmitCsr};
    let admin = AdministratorName::parse("admin").unwrap();
    for resource in resources() {
        for &action in Action::ALL {
            let may = |actor: &Actor| authorize(actor, action, &resource).is_ok();
            assert!(may(&Actor::System));
            assert_eq!(may(&Actor::Node(1)), action == Internal);
            assert_eq!(may(&Actor::Anonymous), action == Join);
            let own = resource == Resource::Agent(agent("a1"));
            let agents = [Session, SubmitCsr, Report, RenewIdentity].contains(&action);
            assert_eq!(may(&Actor::Agent(agent("a1"))), own && agents, "{action:?} {resource:?}");
            let itself = resource == Resource::Administrator(admin.clone());
            let expected = match action {
                Session | SubmitCsr | Report | Internal => false,
                RenewIdentity => itself,
                _ => true,
            };
            assert_eq!(may(&Actor::Administrator(admin.clone())), expected, "{action:?} {resource:?}");
        }
    }
}

#[test]
fn a_proof_says_what_was_proved_and_a_denial_why() {
    let actor = Actor::Agent(agent("a1"));
    let proof = authorize(&actor, Action::Session, &Resource::Agent(agent("a1"))).unwrap();
    assert_eq!((proof.actor(), proof.action()), (&actor, Action::Session));
    assert_eq!(proof.resource(), &Resource::Agent(agent("a1")));
    let denied = authorize(&actor, Action::Create, &Resource::Tokens).unwrap_err();
    assert_eq!(denied.reason, Reason::PermissionDenied);
    assert_eq!(denied.message, "agent/a1 may not create join tokens");
    let unknown = authorize(&Actor::Anonymous, Action::Read, &Resource::Cluster).unwrap_err();
    assert_eq!(unknown.reason, Reason::Unauthenticated);
}

/// A denial is a sentence: none of its words is a name of this code's.
#[test]
fn denials_are_words() {
    let told = |action, resource: &Resource| authorize(&Actor::Node(7), action, resource).unwrap_err().message;
    for resource in resources() {
        for &action in Action::ALL.iter().filter(|action| **action != Action::Internal) {
            let message = told(action, &resource);
            assert!(message.starts_with("node/7 may not "), "{message}");
            let strange = |octet: char| octet.is_ascii_uppercase() || "(){}[]\"".contains(octet);
            assert!(!message.contains(strange), "{message}");
        }
    }
    let agent = Resource::Agent(agent("a1"));
    assert_eq!(told(Action::RenewIdentity, &agent), "node/7 may not renew the identity of agent a1");
    assert_eq!(told(Action::Issue, &Resource::Issuers), "node/7 may not have certificates signed by issuers");
}

#[test]
fn commands_of_the_leader_are_internal() {
    use crate::command::Command;
    let open = Command::FailIssuance {
        certificate: CertificateName::parse("default", "web").unwrap(),
        instance: crate::ids::InstanceId::parse("1-0-1").unwrap(),
        generation: 1,
        reason: String::new(),
        message: String::new(),
    };
    assert_eq!(needed(&open).0, Action::Internal);
    let delete = Command::DeleteIssuer { name: IssuerName::parse("demo").unwrap(), etag: Default::default() };
    assert_eq!(needed(&delete), (Action::Delete, Resource::Issuer(IssuerName::parse("demo").unwrap())));
}

//! Join tokens and what redeems them.

use std::time::Duration;

use crate::command::{Command, Etag};
use crate::event::{Event, TokenGrant};
use crate::limits;
use crate::rejection::Reason;
use crate::tests::fixtures::*;
use crate::tests::harness::{World, given};
use crate::time::Timestamp;

fn create(expires_at: Timestamp) -> Command {
    Command::CreateToken { id: token("t1"), secret_hash: [9; 32], grant: TokenGrant::Node, expires_at }
}

fn any_agent() -> TokenGrant {
    TokenGrant::Agent { name: None, labels: labels(&[]) }
}

fn admit(who: &str, key: u8, secret: u8) -> Command {
    Command::AdmitAgent {
        token: token("t1"),
        secret_hash: [secret; 32],
        agent: agent(who),
        labels: labels(&[]),
        identity: identity(100 + u64::from(key), key),
    }
}

fn with_token(grant: TokenGrant) -> World {
    let mut events = estate();
    events.push(token_created("t1", grant));
    given(events)
}

#[test]
fn tokens_live_for_a_bounded_time() {
    let at = |life: Duration| T0.plus(life);
    let second = Duration::from_secs(1);
    let created = |expires_at| {
        let event = Event::TokenCreated { id: token("t1"), secret_hash: [9; 32], grant: TokenGrant::Node, expires_at };
        (token("t1").stream(), event)
    };
    let longest = at(limits::TOKEN_DURATION_MAX);
    given(estate()).when(create(longest)).then([created(longest)]);
    given(estate()).when(create(longest.plus(second))).then_rejected_at(Reason::InvalidSpec, "duration");
    given(estate()).when(create(T0)).then_rejected_at(Reason::InvalidSpec, "duration");
    given(estate()).when(create(T0.minus(second))).then_rejected_at(Reason::InvalidSpec, "duration");
    with_token(TokenGrant::Node).when(create(longest)).then_rejected(Reason::AlreadyExists);
}

#[test]
fn revoke_is_idempotent() {
    let revoke = || Command::RevokeToken { id: token("t1"), etag: Etag::default() };
    let world = with_token(any_agent()).when(revoke()).then([(token("t1").stream(), Event::TokenRevoked)]);
    let world = world.when(revoke()).then_unchanged();
    world.when(admit("new", 2, 9)).then_rejected(Reason::TokenRevoked);
    given(estate()).when(revoke()).then_rejected(Reason::NotFound);
}

#[test]
fn revoking_another_version_is_refused() {
    let revoke = Command::RevokeToken { id: token("t1"), etag: Etag("1-0.7".into()) };
    with_token(any_agent()).when(revoke).then_rejected(Reason::EtagMismatch);
}

#[test]
fn a_token_admits_one_key_once() {
    given(estate()).when(admit("new", 2, 9)).then_rejected(Reason::TokenUnknown);
    with_token(any_agent()).when(admit("new", 2, 8)).then_rejected(Reason::TokenUnknown);
    with_token(TokenGrant::Node).when(admit("new", 2, 9)).then_rejected(Reason::TokenForeign);
    let named = TokenGrant::Agent { name: Some(agent("other")), labels: labels(&[]) };
    with_token(named).when(admit("new", 2, 9)).then_rejected(Reason::TokenForeign);
    let mut late = with_token(any_agent());
    late.pass(Duration::from_secs(600));
    late.when(admit("new", 2, 9)).then_rejected(Reason::TokenExpired);

    let mut world = with_token(any_agent());
    world.must(&admit("new", 2, 9));
    let rejection = world.decide(&admit("another", 3, 9)).unwrap_err();
    assert_eq!(rejection.reason, Reason::TokenUsed);
    let rejection = world.decide(&admit("new", 3, 9)).unwrap_err();
    assert_eq!(rejection.reason, Reason::TokenUsed);
    world.when(admit("new", 2, 9)).then_unchanged();
}

#[test]
fn old_tokens_are_forgotten_after_a_while() {
    let mut world = with_token(any_agent());
    world.pass(Duration::from_secs(600) + limits::TOKEN_REMEMBERED);
    let second = |world: &World| Command::CreateToken {
        id: token("t2"),
        secret_hash: [9; 32],
        grant: TokenGrant::Node,
        expires_at: world.now.plus(Duration::from_secs(1)),
    };
    assert_eq!(world.decide(&admit("new", 2, 9)).unwrap_err().reason, Reason::TokenExpired);
    world.must(&second(&world));
    assert!(world.state.tokens.contains(&token("t1")), "still remembered");
    world.pass(Duration::from_secs(1));
    world.must(&Command::CreateToken {
        id: token("t3"),
        secret_hash: [9; 32],
        grant: TokenGrant::Node,
        expires_at: world.now.plus(Duration::from_secs(1)),
    });
    assert!(!world.state.tokens.contains(&token("t1")));
    world.when(admit("new", 2, 9)).then_rejected(Reason::TokenUnknown);
}

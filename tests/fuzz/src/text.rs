//! The small languages that people and programs write: tokens, filters, contexts, names, addresses of traces.
//!
//! It refuses two spellings for one thing wherever there is but one.

use certwright_agent::Context;
use certwright_core::ids::{Actor, InstanceId, Serial};
use certwright_core::log::Trace;
use certwright_core::x509::pem;
use certwright_proto::api::{names, values};
use certwright_proto::join_token::{self, JoinToken};
use certwright_proto::manifest::duration;
use certwright_proto::{identity, token, v1};

use crate::estate::{self, CLUSTER};
use crate::octets::Octets;
use crate::verdict::{accepted, refused, took};

const KINDS: u8 = 9;

pub(crate) fn run(input: &[u8]) {
    let mut input = Octets(input);
    let kind = input.u8() % KINDS;
    if kind == 1 {
        return context(input.0);
    }
    let Ok(text) = std::str::from_utf8(input.0) else { return };
    match kind {
        0 => join(text),
        2 => resume(Some(&v1::Token { value: text.to_owned() })),
        3 => filter(text),
        4 => page(0, text),
        5 => traceparent(text),
        6 => identities(text),
        7 => ids(text),
        _ => spans(text),
    }
}

/// A join token that is taken is printed and taken again; a refusal quotes nothing of it.
fn join(text: &str) {
    match join_token::parse(text) {
        Ok(token) => {
            let printed = join_token::format(&token);
            let same = join_token::parse(&printed).expect("what was printed is taken");
            let parts = |it: &JoinToken| (it.cluster_id, it.id.clone(), *it.secret, it.role, it.ca_hash);
            assert!(parts(&same) == parts(&token));
            let shown = format!("{token:?}");
            let secret = *token.secret;
            let spelled = [hex::encode(secret), format!("{secret:?}"), format!("{secret:02x?}")];
            assert!(spelled.iter().all(|secret| !shown.contains(secret)), "{shown}");
            took();
        }
        Err(rejection) => {
            refused(&rejection);
            let cause = rejection.message.strip_prefix(TOKEN_REFUSED).unwrap_or_default();
            assert!(TOKEN_CAUSES.contains(&cause), "{}", rejection.message);
        }
    }
}

/// What a refusal of a join token says, which is nothing of the token.
const TOKEN_REFUSED: &str = "the join token cannot be read: ";
const TOKEN_CAUSES: [&str; 8] = [
    "it is too long",
    "it does not start with 'cw1.'",
    "it is cut off or damaged",
    "its secret is not of 32 octets",
    "its CA hash is not of 32 octets",
    "its cluster id is not of 16 octets",
    "its id is not a name",
    "it admits neither a node nor an agent",
];

/// Characters of a key that are in a message by no chance: no word of our own is as long.
const QUOTED: usize = 20;

/// A piece of what follows the first line of a private key, in a message.
fn quoted<'a>(text: &'a str, message: &str) -> Option<&'a str> {
    let (_, key) = text.split_once("PRIVATE KEY")?;
    let is_key = |octet: &u8| octet.is_ascii_alphanumeric() || b"+/=".contains(octet);
    let pieces = key.as_bytes().windows(QUOTED).filter(|piece| piece.iter().all(is_key));
    pieces.filter_map(|piece| std::str::from_utf8(piece).ok()).find(|piece| message.contains(piece))
}

/// A context that is taken is printed and taken again.
fn context(octets: &[u8]) {
    match Context::parse(octets) {
        Ok(context) => {
            let same = Context::parse(&context.format()).expect("what was printed is taken");
            assert_eq!(
                (same.cluster_id, &same.actor, &same.servers),
                (context.cluster_id, &context.actor, &context.servers)
            );
            assert!(same.ca_pem == context.ca_pem && same.certificate_pem == context.certificate_pem);
            assert!(*same.key_pem == *context.key_pem);
            took();
        }
        Err(cause) => {
            assert!(!cause.is_empty() && !cause.contains("PRIVATE KEY"), "{cause}");
            assert_eq!(quoted(&String::from_utf8_lossy(octets), &cause), None);
        }
    }
}

/// A resume token has one spelling.
pub(crate) fn resume(asked: Option<&v1::Token>) {
    let Some(asked) = asked else { return };
    if let Some(read) = accepted(token::read(asked)) {
        assert_eq!(token::encode(read.cluster_id, read.epoch, read.position).value, asked.value);
        took();
    }
    let _ = accepted(token::decode_optional(Some(asked), CLUSTER, 1));
}

pub(crate) fn filter(text: &str) {
    for certificate in estate::state().certificates.iter() {
        if accepted(certwright_api::fuzz::filter(text, certificate, estate::NOW)).is_some() {
            took();
        }
    }
}

pub(crate) fn page(size: i32, text: &str) {
    let size = accepted(certwright_api::fuzz::page_size(size));
    assert!(size.is_none_or(|size| (1..=certwright_api::limits::PAGE_SIZE_MAX).contains(&size)));
    if let Some(Some(last)) = accepted(certwright_api::fuzz::page_start(text)) {
        assert_eq!(certwright_api::fuzz::page_token(&last), text);
        took();
    }
}

pub(crate) fn traceparent(text: &str) {
    let trace = certwright_api::fuzz::trace(text);
    assert_eq!(certwright_api::fuzz::trace(&certwright_api::fuzz::trace_header(&trace)), trace);
    assert_eq!(trace.trace_id == [0; 16], trace == Trace::default());
    if trace != Trace::default() {
        took();
    }
}

fn identities(text: &str) {
    if let Some((cluster, actor)) = identity::parse_uri(text) {
        assert_eq!(identity::format_uri(cluster, &actor).as_deref(), Some(text));
        took();
    }
    if let Some(actor) = Actor::parse(text) {
        assert_eq!(actor.to_string(), text);
        took();
    }
    if let Some(cluster) = identity::parse_cluster_id(text) {
        assert_eq!(cluster.to_string(), text);
    }
}

fn ids(text: &str) {
    if let Some(name) = accepted(names::certificate(text)) {
        assert_eq!(names::certificate_to_message(&name), text);
        took();
    }
    let _ = accepted(names::parent(text));
    if accepted(names::issued(text)).is_some() || accepted(values::request_id(text)).is_some_and(|it| it.is_some()) {
        took();
    }
    if let Some(id) = InstanceId::parse(text) {
        assert_eq!(id.to_string(), text);
        took();
    }
    if let Some(serial) = Serial::parse(text) {
        assert_eq!(serial.to_string(), text.to_uppercase());
        took();
    }
    if let Some(found) = accepted(pem::certificates(text.as_bytes())) {
        let again: String = found.iter().map(|der| pem::certificate(der)).collect();
        assert_eq!(pem::certificates(again.as_bytes()).expect("what was printed is read"), found);
        took();
    }
}

fn spans(text: &str) {
    if let Ok(span) = duration::parse(text) {
        assert_eq!(duration::parse(&duration::format(span)), Ok(span), "{text}");
        took();
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let token = JoinToken {
        cluster_id: CLUSTER,
        id: certwright_core::ids::TokenId::parse("t-0123").expect("a name"),
        secret: [2; 32].into(),
        role: join_token::JoinRole::Agent,
        ca_hash: [3; 32],
    };
    let pem = pem::certificate(&crate::csr::authority().certificate);
    let key = pem::encode("PRIVATE KEY", &[4; 48]);
    let context = Context {
        cluster_id: CLUSTER,
        actor: Actor::Agent(certwright_core::ids::AgentName::parse("edge-7").expect("a name")),
        servers: vec!["127.0.0.1:7000".into()],
        ca_pem: pem.clone(),
        certificate_pem: pem.clone(),
        key_pem: key.into(),
    };
    let texts: [(u8, String); 16] = [
        (0, join_token::format(&token).to_string()),
        (2, token::encode(CLUSTER, 1, Default::default()).value),
        (3, "issuer=internal-ca agent=edge-7 ready=true label.a=b expires_before=2026-11-22T00:00:00.5Z".into()),
        (4, certwright_api::fuzz::page_token("web/shop")),
        (5, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        (6, format!("certwright://{CLUSTER}/node/7")),
        (6, "administrator/ada".into()),
        (7, "namespaces/web/certificates/shop".into()),
        (7, "direct/7F01010101010101010101010101010101010101".into()),
        (7, "abababab-abab-abab-abab-abababababab".into()),
        (7, "7-2-1".into()),
        (7, "+7-00-1".into()),
        (7, pem),
        (8, "1h30m".into()),
        (8, "2160h0m0.5s".into()),
        (8, "1.5ms".into()),
    ];
    let mut seeds: Vec<_> = texts.into_iter().map(|(kind, text)| [vec![kind], text.into_bytes()].concat()).collect();
    seeds.push([&[1][..], &context.format()].concat());
    // The key where the servers should be.
    let key = String::from_utf8(context.key_pem.as_bytes().to_vec()).expect("PEM is text");
    let misplaced =
        String::from_utf8_lossy(&context.format()).replace("[\n    \"127.0.0.1:7000\"\n  ]", &format!("{key:?}"));
    seeds.push([&[1][..], misplaced.as_bytes()].concat());
    seeds
}

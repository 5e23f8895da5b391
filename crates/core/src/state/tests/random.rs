//! Random histories: decided ones hold every invariant, and even events that fit nothing do no harm.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use crate::command::{Command, Etag};
use crate::event::{Delivered, Event, Stage, TokenGrant, Trigger};
use crate::format::Format;
use crate::ids::{AgentName, CertificateName, InstanceId, cluster_stream};
use crate::log::{Applied, Fold, Position, StreamId};
use crate::spec::{CertificateSpec, Holder};
use crate::state::State;
use crate::tests::fixtures::*;
use crate::tests::harness::{World, given};
use crate::time::Timestamp;

fn certificate() -> impl Strategy<Value = CertificateName> {
    (0..3u8, 0..3u8).prop_map(|(ns, n)| CertificateName::parse(&format!("ns{ns}"), &format!("c{n}")).unwrap())
}

fn who() -> impl Strategy<Value = AgentName> {
    (1..5u8).prop_map(|n| agent(&format!("a{n}")))
}

fn zone() -> impl Strategy<Value = (&'static str, &'static str)> {
    prop::sample::select(vec![("zone", "a"), ("zone", "b"), ("tier", "edge"), ("tier", "core")])
}

fn holder() -> impl Strategy<Value = Holder> {
    prop_oneof![
        who().prop_map(Holder::Agent),
        prop::collection::vec(zone(), 1..3).prop_map(|pairs| Holder::Selector(labels(&pairs))),
    ]
}

fn any_spec() -> impl Strategy<Value = CertificateSpec> {
    let holders = prop::collection::vec(holder(), 0..3);
    (holders, 1..3u8, prop::sample::select(vec!["demo", "second"])).prop_map(|(holders, names, from)| {
        let targets = holders.into_iter().zip(0..).map(|(holder, n)| target(&format!("t{n}"), holder)).collect();
        let dns_names = (0..names).map(|n| format!("w{n}.example.test")).collect();
        CertificateSpec { targets, dns_names, issuer: issuer(from), ..spec(on("a1")) }
    })
}

/// Something to happen; which instance is meant is found out when it does.
#[derive(Clone, Debug)]
enum Op {
    Command(Box<Command>),
    Open(usize),
    Fail(usize),
    Record(usize, u8),
    Deliver(usize, Stage, bool),
    Pass(u64),
    SetBack(u64),
    Rebuild,
}

fn op() -> impl Strategy<Value = Op> {
    let command = |command: Command| Op::Command(Box::new(command));
    let certificates = prop_oneof![
        4 => (certificate(), any_spec()).prop_map(|(name, spec)| Command::CreateCertificate { name, spec: spec.into() }),
        3 => (certificate(), any_spec()).prop_map(|(name, spec)| {
            Command::UpdateCertificate { name, etag: Etag::default(), spec: spec.into() }
        }),
        1 => certificate().prop_map(|name| Command::DeleteCertificate { name, etag: Etag::default() }),
        2 => certificate().prop_map(|name| Command::RenewCertificate { name }),
        3 => certificate().prop_map(|name| Command::ReconcileCertificate { name }),
    ];
    let tokens = (0..4u8, prop::option::of(who())).prop_map(|(n, name)| Command::CreateToken {
        id: token(&format!("t{n}")),
        secret_hash: [9; 32],
        grant: TokenGrant::Agent { name, labels: labels(&[]) },
        expires_at: T0.plus(Duration::from_secs(80_000)),
    });
    let admit = (0..4u8, who(), prop::collection::vec(zone(), 0..3), 1..4u8);
    let agents = prop_oneof![
        3 => admit.prop_map(|(n, agent, pairs, key)| Command::AdmitAgent {
            token: token(&format!("t{n}")),
            secret_hash: [9; 32],
            agent,
            labels: labels(&pairs),
            identity: identity(u64::from(n) * 10 + u64::from(key), key),
        }),
        2 => (who(), prop::collection::vec(zone(), 0..3))
            .prop_map(|(agent, pairs)| Command::SetAgentLabels { agent, etag: Etag::default(), labels: labels(&pairs) }),
        1 => who().prop_map(|agent| Command::RemoveAgent { agent, etag: Etag::default() }),
    ];
    let issuers = prop_oneof![
        Just(Command::CreateIssuer { name: issuer("second"), spec: issuer_spec("root") }),
        Just(Command::DeleteIssuer { name: issuer("second"), etag: Etag::default() }),
    ];
    let stage = prop::sample::select(vec![Stage::Received, Stage::Verified, Stage::Written, Stage::Served]);
    prop_oneof![
        8 => certificates.prop_map(command),
        3 => agents.prop_map(command),
        2 => tokens.prop_map(command),
        1 => issuers.prop_map(command),
        6 => any::<usize>().prop_map(Op::Open),
        2 => any::<usize>().prop_map(Op::Fail),
        6 => (any::<usize>(), 1..3u8).prop_map(|(n, key)| Op::Record(n, key)),
        3 => (any::<usize>(), stage, any::<bool>()).prop_map(|(n, stage, fails)| Op::Deliver(n, stage, fails)),
        3 => (0..3000u64).prop_map(Op::Pass),
        1 => (11..9000u64).prop_map(Op::SetBack),
        1 => Just(Op::Rebuild),
    ]
}

/// The n-th instance of the estate, with its next and its newest generation.
fn pick(world: &World, n: usize) -> Option<(CertificateName, InstanceId, AgentName, u64)> {
    let all: Vec<_> = world.state.certificates.iter().flat_map(|c| c.instances.iter().map(move |i| (c, i))).collect();
    let (certificate, instance) = all.get(n.checked_rem(all.len())?)?;
    Some((certificate.name.clone(), instance.id, instance.agent.clone(), instance.next_generation()))
}

fn step(world: &mut World, op: Op) {
    let command = match op {
        Op::Command(command) => *command,
        Op::Pass(seconds) => {
            world.pass(Duration::from_secs(seconds));
            return;
        }
        Op::SetBack(seconds) => {
            let (from, to) = (world.now, world.now.minus(Duration::from_secs(seconds)));
            world.happen(cluster_stream(), Event::TimeRebased { from, to });
            return;
        }
        Op::Rebuild => {
            world.state = State::from_parts(world.state.cut());
            return;
        }
        Op::Open(n) => match pick(world, n) {
            Some((certificate, instance, _, generation)) => {
                Command::OpenIssuance { certificate, instance, generation, trigger: Trigger::Due }
            }
            None => return,
        },
        Op::Fail(n) => match pick(world, n) {
            Some((certificate, instance, _, generation)) => {
                let (reason, message) = ("X".to_owned(), "why".to_owned());
                Command::FailIssuance { certificate, instance, generation, reason, message }
            }
            None => return,
        },
        Op::Record(n, key) => match pick(world, n) {
            Some((certificate, id, _, generation)) => {
                let mut issued = issued(id, generation, key);
                issued.not_before = world.now;
                issued.not_after = world.now.plus(Duration::from_secs(3600));
                issued.renew_at = None;
                Command::RecordIssued { certificate, issued: Box::new(issued), guards: vec![] }
            }
            None => return,
        },
        Op::Deliver(n, stage, fails) => match pick(world, n) {
            Some((certificate, id, agent, generation)) => {
                let failure = fails.then(|| ("EACCES".to_owned(), "no".to_owned()));
                let report = Delivered { failure, ..delivered(id, generation.saturating_sub(1), Some("t0"), stage) };
                Command::RecordDeliveries { agent, deliveries: vec![(certificate, report)] }
            }
            None => return,
        },
    };
    // Most random commands are refused, which is as it should be.
    let _ = world.run(&command);
}

fn check_invariants(world: &World) {
    let state = &world.state;
    for certificate in state.certificates.iter() {
        let spec = certificate.spec();
        let issuers = state.certificates_of_issuer(&spec.issuer, None, usize::MAX);
        assert!(issuers.contains(&certificate.name), "by issuer");
        assert!(state.issuers.contains(&spec.issuer), "an issuer in use is not deleted");
        let mut agents: Vec<_> = certificate.instances.iter().map(|instance| &instance.agent).collect();
        agents.sort();
        agents.dedup();
        assert_eq!(agents.len(), certificate.instances.len(), "one instance for each agent");
        for instance in &certificate.instances {
            assert_eq!(instance.id.certificate, certificate.uid);
            assert!(instance.id.number < certificate.next_instance);
            if let Some(open) = instance.open {
                assert_eq!(open.generation, instance.next_generation(), "what is open is next");
            }
        }
        let settled =
            state.agents.iter().all(|agent| {
                spec.is_held_by(&agent.name, &agent.labels) == certificate.instance_of(&agent.name).is_some()
            }) && certificate.instances.iter().all(|instance| state.agents.contains(&instance.agent));
        assert_eq!(settled, !state.unsettled(usize::MAX).contains(&certificate.name), "unsettled {}", certificate.name);
    }
}

fn replay(world: &World) -> State {
    let mut state = State::default();
    for (position, at, stream, revision, event) in &world.log {
        let (position, at, revision) = (*position, *at, *revision);
        state.apply(&Applied { position, at, stream, revision, actor: "system" }, event);
    }
    state
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn decided_histories(ops in prop::collection::vec(op(), 1..150)) {
        let mut events = estate();
        events.truncate(6);
        let mut world = given(events);
        for op in ops {
            step(&mut world, op);
        }
        check_invariants(&world);
        let replayed = replay(&world);
        prop_assert_eq!(replayed.cut(), world.state.cut());
        prop_assert_eq!(replayed.summary(), world.state.summary());
        let rebuilt = State::from_parts(world.state.cut());
        prop_assert_eq!(rebuilt.cut(), world.state.cut());
        prop_assert_eq!(rebuilt.summary(), world.state.summary());
    }

    #[test]
    fn events_that_fit_nothing_do_no_harm(events in prop::collection::vec((stream(), event(), any::<Option<u8>>()), 1..80)) {
        let mut state = State::default();
        for ((stream, event, revision), index) in events.into_iter().zip(1..) {
            let position = Position { index, ordinal: 0 };
            let revision = revision.map(u64::from);
            state.apply(&Applied { position, at: T0, stream: &stream, revision, actor: "system" }, &event);
        }
        let rebuilt = State::from_parts(state.cut());
        prop_assert_eq!(rebuilt.summary(), state.summary());
    }
}

fn stream() -> impl Strategy<Value = StreamId> {
    prop_oneof![
        4 => certificate().prop_map(|name| name.stream()),
        3 => who().prop_map(|name| name.stream()),
        1 => (0..2u8).prop_map(|n| token(&format!("t{n}")).stream()),
        1 => prop::sample::select(vec![issuer("demo").stream(), authority("root").stream(), cluster_stream()]),
        1 => Just(StreamId::new("nonsense/x")),
    ]
}

fn any_instance() -> impl Strategy<Value = InstanceId> {
    (0..20u64, 0..3u32).prop_map(|(index, number)| instance(index, number))
}

fn event() -> impl Strategy<Value = Event> {
    let generation = || 0..4u64;
    let certificates = prop_oneof![
        (certificate(), any_spec()).prop_map(|(name, spec)| Event::CertificateDeclared { name, spec: Arc::new(spec) }),
        any_spec().prop_map(|spec| Event::CertificateUpdated { spec: Arc::new(spec) }),
        Just(Event::CertificateDeleted),
        (any_instance(), who()).prop_map(|(instance, agent)| Event::InstanceAdded { instance, agent }),
        any_instance().prop_map(|instance| Event::InstanceRemoved { instance }),
    ];
    let issuance = prop_oneof![
        (any_instance(), generation()).prop_map(|(instance, generation)| {
            Event::IssuanceOpened { instance, generation, trigger: Trigger::Due }
        }),
        (any_instance(), generation()).prop_map(|(instance, generation)| {
            let (reason, message) = (String::new(), String::new());
            Event::IssuanceFailed { instance, generation, reason, message, retry_at: T0 }
        }),
        (any_instance(), generation())
            .prop_map(|(id, generation)| { Event::CertificateIssued(Box::new(issued(id, generation, 1))) }),
        (any_instance(), generation()).prop_map(|(id, generation)| {
            Event::CertificateDelivered(delivered(id, generation, Some("t0"), Stage::Written))
        }),
    ];
    let estate = prop_oneof![
        (who(), prop::collection::vec(zone(), 0..3), 1..3u8).prop_map(|(name, pairs, key)| {
            Event::AgentRegistered { name, labels: labels(&pairs), spki_hash: [key; 32] }
        }),
        prop::collection::vec(zone(), 0..3).prop_map(|pairs| Event::AgentLabelsChanged { labels: labels(&pairs) }),
        Just(Event::AgentRemoved),
        any::<bool>().prop_map(|readmitted| Event::AgentIdentityIssued { identity: identity(1, 1), readmitted }),
        Just(Event::TokenConsumed { spki_hash: [1; 32] }),
        Just(Event::TokenRevoked),
        Just(Event::IssuerDeleted),
        Just(Event::NodeRemoved { node_id: 1 }),
        any::<bool>().prop_map(|learner| Event::NodeRoleSet { node_id: 1, learner }),
        any::<u64>().prop_map(|ahead_millis| Event::RenewalsHeld { ahead_millis }),
        Just(Event::RenewalsReleased),
        (any::<u64>(), any::<u64>()).prop_map(|(from, to)| Event::TimeRebased {
            from: Timestamp::from_millis(from),
            to: Timestamp::from_millis(to),
        }),
        (1..4u32).prop_map(|format| Event::FormatRaised { format: Format(format) }),
    ];
    prop_oneof![4 => certificates, 3 => issuance, 3 => estate]
}

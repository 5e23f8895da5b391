//! Servers whose log was set back or exchanged: nothing is taken from them, and everybody hears of it.

use crate::estate::{Log, Server, checkpoint};
use crate::rig::{INSTANCE, Rig};
use crate::target::spec;

/// What the agent keeps.
fn kept(rig: &Rig) -> Option<certwright_proto::agent::v1::Checkpoint> {
    let octets = std::fs::read(rig.root.path().join("state/checkpoint")).ok()?;
    Some(prost::Message::decode(&octets[..]).unwrap())
}

fn has_log(rig: &Rig, server: u64, log: &[(u64, u8)]) {
    rig.estate.change(|state| state.logs.insert(server, Log(log.to_vec())));
}

/// The agent's only server is another one from now on.
async fn moves_to(rig: &mut Rig, server: u64) -> Server {
    let address = rig.server.address;
    rig.server = rig.estate.serve(99, "127.0.0.1:0".parse().unwrap()).await;
    rig.estate.serve(server, address).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_another_log_is_refused_until_one_with_the_right_log_comes() {
    let mut rig = Rig::new().await;
    has_log(&rig, 1, &[(10, 1)]);
    rig.estate.declare(INSTANCE, spec(&rig.live()));
    let agent = rig.agent().await;
    rig.written(1).await;
    assert_eq!(kept(&rig), Some(checkpoint(10, 1)));
    has_log(&rig, 1, &[(10, 1), (20, 2)]);
    rig.until("a newer checkpoint", |_| kept(&rig) == Some(checkpoint(20, 2))).await;
    // It outlives the agent. The server's place is taken by one whose log was exchanged and has grown past it.
    agent.stop().await;
    has_log(&rig, 2, &[(10, 1), (20, 8), (30, 9)]);
    rig.server = moves_to(&mut rig, 2).await;
    let serial = rig.issued_serial();
    rig.estate.renew(INSTANCE);
    let agent = rig.agent().await;
    rig.until("three refusals", |estate| estate.state().refused.len() > 2).await;
    {
        let state = rig.estate.state();
        let (told, refused) = &state.refused[0];
        assert_eq!((*told, refused.server.as_str()), (2, "node-2"));
        assert!(refused.message.contains("its log is another one: at 20"), "{}", refused.message);
        let mark = state.hellos.last().unwrap().checkpoint.unwrap();
        assert_eq!((mark.epoch, mark.index), (1, 20));
        assert!(state.csrs.iter().all(|(_, generation, _)| *generation == 1), "nothing is done for it");
    }
    assert_eq!((rig.live_serial(), kept(&rig)), (Some(serial), Some(checkpoint(20, 2))));
    // One with the right log, which is told what happened.
    has_log(&rig, 3, &[(10, 1), (20, 2), (40, 4)]);
    rig.server = moves_to(&mut rig, 3).await;
    rig.written(2).await;
    rig.until("word of it", |estate| {
        estate.state().refused.iter().any(|(told, it)| (*told, &*it.server) == (3, "node-2"))
    })
    .await;
    rig.until("its checkpoint", |_| kept(&rig) == Some(checkpoint(40, 4))).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_set_back_under_a_session_ends_it() {
    let rig = Rig::new().await;
    has_log(&rig, 1, &[(10, 1), (20, 2)]);
    rig.estate.declare(INSTANCE, spec(&rig.live()));
    let agent = rig.agent().await;
    rig.written(1).await;
    has_log(&rig, 1, &[(10, 1)]);
    rig.until("a refusal", |estate| !estate.state().refused.is_empty()).await;
    assert!(rig.estate.state().refused[0].1.message.contains("at 10"), "{:?}", rig.estate.state().refused[0]);
    // As one that merely lags it may come back, and go on from there.
    rig.until("another session", |estate| estate.state().sessions.len() > 1).await;
    has_log(&rig, 1, &[(10, 1), (20, 2), (30, 3)]);
    rig.until("its checkpoint", |_| kept(&rig) == Some(checkpoint(30, 3))).await;
    rig.estate.renew(INSTANCE);
    rig.written(2).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restore_what_is_newer_stays_and_is_shown() {
    let rig = Rig::new().await;
    has_log(&rig, 1, &[(10, 1)]);
    rig.estate.declare(INSTANCE, spec(&rig.live()));
    let agent = rig.agent().await;
    rig.written(1).await;
    let first = rig.estate.state().instances[INSTANCE].issued.clone();
    rig.estate.renew(INSTANCE);
    rig.written(2).await;
    let newest = rig.issued_serial();
    rig.until("its checkpoint", |_| kept(&rig) == Some(checkpoint(10, 1))).await;
    agent.stop().await;
    // The servers come back from a backup that knows the first generation alone, in a new epoch with a shorter log.
    let lost = rig.estate.change(|state| {
        state.logs.insert(1, Log(vec![(5, 101)]));
        std::mem::replace(&mut state.instances.get_mut(INSTANCE).unwrap().issued, first)
    });
    let agent = rig.agent().await;
    rig.until("word of the newer one", |estate| !estate.state().held.is_empty()).await;
    {
        let state = rig.estate.state();
        let (held, lost) = (&state.held[0], lost.as_ref().unwrap());
        assert_eq!((held.instance.as_str(), held.generation, &held.der), (INSTANCE, 2, &lost.certificate));
        assert!(state.refused.is_empty(), "{:?}", state.refused);
    }
    assert_eq!((rig.live_serial(), kept(&rig)), (Some(newest.clone()), Some(checkpoint(5, 101))));
    // They take it back, and the next one is later.
    rig.estate.change(|state| state.instances.get_mut(INSTANCE).unwrap().issued = lost);
    rig.estate.renew(INSTANCE);
    rig.written(3).await;
    agent.stop().await;
    // Whoever is of the epoch before is not believed any more.
    has_log(&rig, 1, &[(10, 1), (20, 2)]);
    let agent = rig.agent().await;
    rig.until("a refusal", |estate| !estate.state().refused.is_empty()).await;
    assert!(rig.estate.state().refused[0].1.message.contains("epoch 1"), "{:?}", rig.estate.state().refused[0]);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restore_what_was_acknowledged_is_reported_once_more() {
    let rig = Rig::new().await;
    has_log(&rig, 1, &[(10, 1)]);
    rig.estate.declare(INSTANCE, spec(&rig.live()));
    let agent = rig.agent().await;
    rig.written(1).await;
    rig.until("its checkpoint", |_| kept(&rig) == Some(checkpoint(10, 1))).await;
    agent.stop().await;
    let reports = |rig: &Rig| rig.estate.state().reports.len();
    // Whoever knows the same log is told nothing twice.
    rig.estate.change(|state| state.reports.clear());
    let agent = rig.agent().await;
    rig.until("a session", |estate| estate.state().sessions.len() > 1).await;
    agent.stop().await;
    assert_eq!(reports(&rig), 0);
    // The backup has the certificate, and was made before its delivery. A token of before it says nothing to the servers.
    std::fs::remove_file(rig.root.path().join("state/resume.json")).unwrap();
    has_log(&rig, 1, &[(5, 101)]);
    let agent = rig.agent().await;
    rig.written(1).await;
    agent.stop().await;
    let told = reports(&rig);
    assert!(told > 0);
    let agent = rig.agent().await;
    rig.until("another session", |estate| estate.state().sessions.len() > 3).await;
    agent.stop().await;
    assert_eq!(reports(&rig), told, "once in an epoch, as long as the place in it is known");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_cannot_be_read_is_not_taken_for_none() {
    let rig = Rig::new().await;
    has_log(&rig, 1, &[(10, 1)]);
    rig.estate.declare(INSTANCE, spec(&rig.live()));
    let agent = rig.agent().await;
    rig.written(1).await;
    agent.stop().await;
    let path = rig.root.path().join("state/checkpoint");
    let mut octets = std::fs::read(&path).unwrap();
    let last = octets.len() - 10;
    octets[last] ^= 1;
    std::fs::write(&path, octets).unwrap();
    let started = certwright_agent::Agent::new(rig.options(), certwright_seams::Seams::system()).await;
    let error = started.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("checkpoint"), "{error}");
}

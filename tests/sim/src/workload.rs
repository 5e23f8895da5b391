//! What callers ask for while the nemesis is at work.
//!
//! It refuses to judge: it remembers what was asked and answered, the checks compare.

pub(crate) mod churn;
pub mod policy;
pub mod registers;
pub(crate) mod replacement;
pub(crate) mod strangers;
pub mod watcher;

use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

use certwright_core::spec::KeyAlgorithm;
use certwright_core::x509::Names;
use certwright_custody::LeafKey;
use certwright_proto::v1;
use certwright_seams::Entropy;
use tokio::time::sleep;

use crate::check::promises::Promises;
use crate::client::{Client, Stuck};
use crate::estate::{Estate, api};
use crate::stage::Stage;

/// The issuer of everything.
pub const ISSUER: &str = "demo";
/// How long what agents deliver is valid.
const LIFE: Duration = Duration::from_secs(60);
/// They are renewed when so much of it is left: every few seconds, as an estate's many would be.
const RENEW_BEFORE: Duration = Duration::from_secs(53);
/// Orders that are repeated when all is well again; their answers must be the same.
const REPEATED: usize = 8;
/// Longest pause between two requests of one caller.
pub(crate) const PAUSE_MILLIS_MAX: u64 = 600;

/// Whether the nemesis is still at work.
#[derive(Default)]
pub struct Window(Cell<bool>);

impl Window {
    /// It is over.
    pub fn close(&self) {
        self.0.set(true);
    }

    /// Whether it is not.
    pub fn is_open(&self) -> bool {
        !self.0.get()
    }
}

/// A pause as callers make it.
pub async fn pause(draw: &impl Entropy) {
    sleep(Duration::from_millis(draw.next_u64() % PAUSE_MILLIS_MAX)).await;
}

/// The certificate that an agent delivers.
pub fn name_of(agent: &str) -> String {
    format!("namespaces/default/certificates/of-{agent}")
}

/// What it should be, delivered there.
pub fn certificate(agent: &str, directory: &Path) -> v1::Certificate {
    let directory = directory.to_string_lossy().into_owned();
    let files = v1::FilesSink { directory, ..Default::default() };
    let target = v1::Target { name: "files".into(), agent: agent.into(), files: Some(files), ..Default::default() };
    let seconds = |it: Duration| prost_types::Duration { seconds: it.as_secs() as i64, nanos: 0 };
    let spec = v1::CertificateSpec {
        dns_names: vec![format!("{agent}.example.com")],
        issuer: ISSUER.into(),
        duration: Some(seconds(LIFE)),
        renew_before: Some(seconds(RENEW_BEFORE)),
        targets: vec![target],
        ..Default::default()
    };
    v1::Certificate { name: name_of(agent), spec: Some(spec), ..Default::default() }
}

/// Has certificates signed, one after the other.
pub async fn orders(estate: &impl Stage, client: &Client, promises: &Promises, window: &Window) -> Result<(), Stuck> {
    let draw = estate.draw(1);
    let key = LeafKey::generate(KeyAlgorithm::EcdsaP256).expect("a key");
    let names = Names { dns_names: vec!["order.example.com".into()], ..Names::default() };
    let csr = key.request(&names).expect("a request");
    let mut answered = Vec::new();
    while window.is_open() {
        let request_id = client.request_id();
        let issued = client.issue(ISSUER, &csr, &request_id).await?;
        promises.issued(estate, &issued.serial, issued.index);
        estate.tell("orders", format_args!("issued at {}", issued.index));
        estate.count();
        answered.push((request_id, issued.serial));
        sleep(Duration::from_millis(draw.next_u64() % estate.order_pause_millis_max())).await;
    }
    // Old and new ones: some are in snapshots by now, some behind them.
    for (request_id, serial) in answered.iter().step_by(answered.len() / REPEATED + 1) {
        let again = client.issue(ISSUER, &csr, request_id).await?.serial;
        if again != *serial {
            estate.verdict().report("I5", "orders", format_args!("a repeat of {serial} is answered with {again}"));
        }
    }
    Ok(())
}

/// Renews what agents deliver before its time, now and then.
pub async fn renewals(estate: &impl Stage, client: &Client, window: &Window) -> Result<(), Stuck> {
    let draw = estate.draw(2);
    while window.is_open() {
        for _ in 0..3 {
            pause(&draw).await;
        }
        let agent = &estate.agents()[draw.next_u64() as usize % estate.agents().len()];
        client.renew(&name_of(agent)).await?;
        estate.tell("renewals", format_args!("{agent}"));
        estate.count();
    }
    Ok(())
}

/// Two join with one token at the same time, through two servers: at most one of them may.
pub(crate) async fn race(estate: &Estate, client: &Client, window: &Window) -> Result<(), Stuck> {
    let draw = estate.draw(3);
    let mut number = 0;
    while window.is_open() {
        pause(&draw).await;
        let token = client.token("agent", "").await?;
        number += 1;
        let racers = (0..2).map(|racer| {
            let (token, draw) = (&token, &draw);
            let servers = estate.servers();
            let server = api(&servers[draw.next_u64() as usize % servers.len()]);
            async move {
                let (name, seams) = (format!("racer-{number}-{racer}"), estate.seams(crate::estate::CLIENT));
                certwright_agent::join::join(&server, token, &name, &Default::default(), &seams).await.is_ok()
            }
        });
        let joined = futures_util::future::join_all(racers).await;
        estate.trace.tell("race", format_args!("{joined:?}"));
        estate.count();
        if joined == [true, true] {
            estate.verdict.report("I16", "race", format_args!("two joined with token {number}"));
        }
    }
    Ok(())
}

//! An issuer whose policy changes all the time, and a caller who asks it for what is allowed now and then. I10.
//!
//! It refuses to know when a change took effect: the log says that, and the check compares.

use std::cell::RefCell;
use std::collections::BTreeMap;

use certwright_core::spec::KeyAlgorithm;
use certwright_core::x509::Names;
use certwright_custody::LeafKey;
use certwright_proto::v1;
use certwright_seams::Entropy;
use serde_json::Value;

use super::{ISSUER, Window, pause};
use crate::client::{Client, Stuck};
use crate::stage::Stage;

/// The issuer.
const MOODY: &str = "moody";
/// What it allows, one at a time.
const SUFFIXES: [&str; 2] = ["example.org", "example.net"];

/// Certificates that were handed out, by serial: below which suffix their name is.
#[derive(Default)]
pub struct Granted(RefCell<BTreeMap<String, &'static str>>);

/// Declares the issuer.
pub async fn declare(client: &Client) -> Result<(), Stuck> {
    client.issuer(MOODY, ISSUER, &SUFFIXES[..1]).await
}

/// Changes what it allows.
pub async fn change(estate: &impl Stage, client: &Client, window: &Window) -> Result<(), Stuck> {
    let draw = estate.draw(7);
    while window.is_open() {
        let allowed = SUFFIXES[draw.next_u64() as usize % SUFFIXES.len()];
        client.issuer(MOODY, ISSUER, &[allowed]).await?;
        estate.tell("policy", format_args!("{allowed}"));
        estate.count();
        pause(&draw).await;
    }
    Ok(())
}

/// Asks for either.
pub async fn orders(estate: &impl Stage, client: &Client, granted: &Granted, window: &Window) -> Result<(), Stuck> {
    let draw = estate.draw(8);
    let key = LeafKey::generate(KeyAlgorithm::EcdsaP256).expect("a key");
    while window.is_open() {
        let suffix = SUFFIXES[draw.next_u64() as usize % SUFFIXES.len()];
        let names = Names { dns_names: vec![format!("policy.{suffix}")], ..Names::default() };
        let csr = key.request(&names).expect("a request");
        if let Some(issued) = client.issue_if_allowed(MOODY, &csr, &client.request_id()).await? {
            granted.0.borrow_mut().insert(issued.serial, suffix);
        }
        estate.count();
        pause(&draw).await;
    }
    Ok(())
}

/// Whether everything was allowed where it stands in the log.
pub fn check(estate: &impl Stage, granted: &Granted, history: &[v1::Event]) {
    let granted = granted.0.borrow();
    let mut allowed = String::new();
    for event in history {
        let data: Value = serde_json::from_str(&event.data_json).unwrap_or_default();
        match event.r#type.as_str() {
            "IssuerDeclared" | "IssuerUpdated" if event.stream.ends_with(MOODY) => {
                allowed = data["spec"]["allowedDnsSuffixes"][0].as_str().unwrap_or_default().to_owned();
            }
            "CertificateIssued" => {
                let suffix = data["serial"].as_str().and_then(|serial| granted.get(serial));
                if let Some(suffix) = suffix.filter(|suffix| **suffix != allowed) {
                    let what = format_args!("a name below {suffix} was signed at {} under {allowed}", event.index);
                    estate.verdict().report("I10", "policy", what);
                }
            }
            _ => {}
        }
    }
}

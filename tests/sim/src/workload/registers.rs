//! A few objects that callers read and write, with and without conditions, and what they saw: for the search of
//! [`linear`](crate::check::linear).
//!
//! It refuses reads that a quorum has not confirmed.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use certwright_core::Reason;
use certwright_proto::v1;
use certwright_proto::v1::certificates_client::CertificatesClient;
use certwright_seams::Entropy;

use super::{ISSUER, Window, pause};
use crate::check::linear::{Call, OPERATIONS_MAX, Operation, is_linearizable};
use crate::client::{Client, Stuck};
use crate::stage::Stage;

/// Objects.
const REGISTERS: usize = 2;
/// Where an object's value is: a label, which changes nothing that is issued.
const LABEL: &str = "value";

/// Everything that was asked of every object.
#[derive(Default)]
pub struct Registers {
    histories: RefCell<[Vec<Operation>; REGISTERS]>,
    /// What every object holds when its history begins.
    first: Cell<u64>,
    /// Time, as far as it matters: what was sent and answered before what.
    ticks: Cell<u64>,
    values: Cell<u64>,
}

fn name(register: usize) -> String {
    format!("namespaces/default/certificates/register-{register}")
}

/// An object with that value; nobody has a target for it, so nothing is issued.
fn object(register: usize, value: u64, etag: String) -> v1::Certificate {
    let spec = v1::CertificateSpec {
        dns_names: vec!["register.example.com".into()],
        issuer: ISSUER.into(),
        ..Default::default()
    };
    let labels = BTreeMap::from([(LABEL.to_owned(), value.to_string())]).into_iter().collect();
    v1::Certificate { name: name(register), etag, labels, spec: Some(spec), ..Default::default() }
}

fn value(object: &v1::Certificate) -> Result<u64, Stuck> {
    let text = object.labels.get(LABEL).and_then(|text| text.parse().ok());
    text.ok_or_else(|| Stuck(format!("{} has no value", object.name)))
}

impl Registers {
    /// Makes the objects, with their first value.
    pub async fn declare(&self, client: &Client) -> Result<(), Stuck> {
        for register in 0..REGISTERS {
            client
                .certificate(object(register, self.first.get(), String::new()))
                .await?
                .map_err(|it| Stuck(format!("{it:?}")))?;
        }
        Ok(())
    }

    /// Begins other histories, from a value that no object ever had; nobody may be calling. An answer that is older than
    /// that is known by its value.
    pub fn begin_anew(&self) {
        self.first.set(self.fresh());
        self.histories.take();
    }

    fn tick(&self) -> u64 {
        self.ticks.set(self.ticks.get() + 1);
        self.ticks.get()
    }

    fn fresh(&self) -> u64 {
        self.values.set(self.values.get() + 1);
        self.values.get()
    }

    /// One caller, who reads and writes until the window is over.
    pub async fn use_them(
        &self,
        estate: &impl Stage,
        client: &Client,
        readers: &[Client],
        caller: u64,
        window: &Window,
    ) -> Result<(), Stuck> {
        let draw = estate.draw(100 + caller);
        while window.is_open() {
            let register = draw.next_u64() as usize % REGISTERS;
            if self.histories.borrow()[register].len() >= OPERATIONS_MAX - 8 {
                return Ok(());
            }
            let begun = self.tick();
            let call = match draw.next_u64() % 3 {
                0 => self.read(client, &readers[draw.next_u64() as usize % readers.len()], register).await?,
                1 => self.write(client, register).await?,
                _ => self.exchange(client, register).await?,
            };
            let Some(call) = call else { continue };
            let operation = Operation { call, begun, ended: Some(self.tick()) };
            self.histories.borrow_mut()[register].push(operation);
            estate.tell("registers", format_args!("{caller} {register} {call:?}"));
            estate.count();
            pause(&draw).await;
        }
        Ok(())
    }

    /// One server has a quorum confirm where the log stands, another one answers from there.
    async fn read(&self, client: &Client, reader: &Client, register: usize) -> Result<Option<Call>, Stuck> {
        let confirmed = client.cluster(true).await?.token;
        let request = v1::GetCertificateRequest { name: name(register), min_token: confirmed, ..Default::default() };
        let get = async |channel| CertificatesClient::new(channel).get_certificate(request.clone()).await;
        // One that was removed meanwhile never answers.
        let seen = reader.once(get).await.and_then(|answer| answer.certificate);
        seen.map(|seen| value(&seen).map(Call::Read)).transpose()
    }

    /// Reads every object through every server, each of which must answer.
    pub async fn read_all(&self, client: &Client, readers: &[Client]) -> Result<(), Stuck> {
        for register in 0..REGISTERS {
            for reader in readers {
                let begun = self.tick();
                let confirmed = client.cluster(true).await?.token;
                let call = Call::Read(value(&reader.get(&name(register), confirmed).await?)?);
                let operation = Operation { call, begun, ended: Some(self.tick()) };
                self.histories.borrow_mut()[register].push(operation);
            }
        }
        Ok(())
    }

    async fn write(&self, client: &Client, register: usize) -> Result<Option<Call>, Stuck> {
        let to = self.fresh();
        let done = client.certificate(object(register, to, String::new())).await?;
        Ok(done.is_ok().then_some(Call::Write(to)))
    }

    /// From any version that was once there, however old the server that tells it.
    async fn exchange(&self, client: &Client, register: usize) -> Result<Option<Call>, Stuck> {
        let (seen, to) = (client.get(&name(register), None).await?, self.fresh());
        let done = client.certificate(object(register, to, seen.etag.clone())).await?;
        let is_done = match done {
            Ok(()) => true,
            Err(Reason::EtagMismatch) => false,
            Err(reason) => return Err(Stuck(format!("an exchange: {reason:?}"))),
        };
        Ok(Some(Call::Exchange(value(&seen)?, to, Some(is_done))))
    }

    /// Whether all that was seen fits together.
    pub fn check(&self, estate: &impl Stage) {
        for (register, history) in self.histories.borrow().iter().enumerate() {
            if !is_linearizable(self.first.get(), history) {
                estate.verdict().report("I13", "linear", format_args!("register {register}: {history:?}"));
            }
        }
    }
}

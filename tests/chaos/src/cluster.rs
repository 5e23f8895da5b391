//! A cluster at work: callers who remember what they were told, and the look at everything afterwards.
//!
//! It refuses to know how the servers run, and what is done to them.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use certwright_agent::Context;
use certwright_core::time::Timestamp;
use certwright_proto::v1;
use certwright_seams::sim::SeededEntropy;
use certwright_seams::{Entropy, Seams};
use certwright_sim::check::promises::Promises;
use certwright_sim::check::{Verdict, history};
use certwright_sim::client::{Client, Stuck};
use certwright_sim::stage::Stage;
use certwright_sim::workload::registers::Registers;
use certwright_sim::workload::{self, ISSUER, Window};
use futures_util::future::{try_join, try_join_all, try_join3};
use tokio::time::{Instant, sleep};

use crate::server::Server;

/// Callers of the registers.
const USING: u64 = 3;
/// The cluster is founded by then.
const FOUNDED_WITHIN: Duration = Duration::from_secs(60);
/// All servers have a digest of the same entry by then.
const EQUAL_WITHIN: Duration = Duration::from_secs(30);
/// A server's whole history is told by then.
const HISTORY_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks.
pub const PAUSE: Duration = Duration::from_millis(2);

/// On how many servers' disks something would be if the power went now; `None` where nobody can look.
type Kept = Box<dyn Fn(&[u8]) -> Option<usize>>;

/// Callers who have certificates signed.
#[derive(Clone, Copy)]
pub struct Load {
    /// How many.
    pub ordering: usize,
    /// Longest pause of one of them.
    pub pause_millis_max: u64,
}

/// A cluster.
pub struct Cluster {
    /// The administrator's, with all servers' addresses.
    pub context: Context,
    /// Names of the servers, in the order of their addresses.
    pub names: Vec<String>,
    /// Names of the agents.
    pub agents: Vec<String>,
    /// This machine.
    pub seams: Seams,
    /// What was found.
    pub verdict: Verdict,
    draw: SeededEntropy,
    load: Load,
    kept: Kept,
    promises: Promises,
    registers: Registers,
    /// What was told when everything was looked at the last time.
    judged: RefCell<Vec<v1::Event>>,
    operations: Cell<u64>,
}

impl Stage for Cluster {
    fn servers(&self) -> Vec<String> {
        self.names.clone()
    }

    fn agents(&self) -> &[String] {
        &self.agents
    }

    fn draw(&self, part: u64) -> SeededEntropy {
        SeededEntropy::new(self.draw.next_u64() ^ part)
    }

    fn kept_by(&self, octets: &[u8]) -> Option<usize> {
        (self.kept)(octets)
    }

    fn true_time(&self) -> Timestamp {
        Timestamp::from_millis(self.seams.clock.wall_millis())
    }

    fn order_pause_millis_max(&self) -> u64 {
        self.load.pause_millis_max
    }

    fn count(&self) {
        self.operations.set(self.operations.get() + 1);
    }

    fn tell(&self, _: &str, _: fmt::Arguments<'_>) {}

    fn verdict(&self) -> &Verdict {
        &self.verdict
    }
}

/// Waits for the context that the first server writes.
pub async fn administrator(first: &mut Server) -> Result<Context> {
    let end = Instant::now() + FOUNDED_WITHIN;
    loop {
        if let Some(context) = first.administrator() {
            return Ok(context);
        }
        if Instant::now() > end || first.has_ended() {
            bail!("no administrator: {}", first.last_words());
        }
        sleep(PAUSE).await;
    }
}

/// Authorities and an issuer for what callers ask.
pub async fn furnish(client: &Client) -> Result<()> {
    client.authority("demo-root", "").await?;
    client.authority(ISSUER, "demo-root").await?;
    Ok(client.issuer(ISSUER, ISSUER, &[]).await?)
}

impl Cluster {
    /// A cluster that was founded.
    pub fn new(context: Context, names: Vec<String>, seed: u64, load: Load, kept: Kept) -> Self {
        Self {
            context,
            names,
            agents: Vec::new(),
            seams: Seams::system(),
            verdict: Verdict::default(),
            draw: SeededEntropy::new(!seed),
            load,
            kept,
            promises: Promises::default(),
            registers: Registers::default(),
            judged: RefCell::default(),
            operations: Cell::default(),
        }
    }

    /// A caller of any server.
    pub fn client(&self) -> Client {
        Client::new(&self.context, &self.seams)
    }

    /// A caller of every server, in order.
    fn clients(&self) -> Vec<Client> {
        self.context.servers.iter().map(|api| Client::at(&self.context, &self.seams, api)).collect()
    }

    /// Operations that were answered so far.
    pub fn operations(&self) -> u64 {
        self.operations.get()
    }

    /// Whether nothing was found yet.
    pub fn is_whole(&self) -> bool {
        self.verdict.violations().is_empty()
    }

    /// Has callers work until the disturbance is over, and looks at what they saw. What is found while somebody waits in
    /// vain ends it early.
    pub async fn work(&self, disturbance: impl Future<Output = Result<()>>) -> Result<()> {
        let window = Window::default();
        let ordering: Vec<Client> = (0..self.load.ordering).map(|_| self.client()).collect();
        let orders = ordering.iter().map(|it| workload::orders(self, it, &self.promises, &window));
        let renewing = self.client();
        let renewals = async {
            if !self.agents.is_empty() {
                workload::renewals(self, &renewing, &window).await?;
            }
            Ok(())
        };
        let disturbance = async {
            let done = disturbance.await;
            window.close();
            done
        };
        let using = self.use_registers(&window);
        let work = async { Ok(try_join3(using, try_join_all(orders), renewals).await.map(drop)?) };
        match try_join(disturbance, work).await {
            Err(error) if self.is_whole() => Err(error),
            _ => Ok(()),
        }
    }

    /// Callers of the registers: one history after the other, each as long as can be searched, and in the end what every
    /// server tells.
    async fn use_registers(&self, window: &Window) -> Result<(), Stuck> {
        let (callers, readers): (Vec<Client>, _) = ((0..USING).map(|_| self.client()).collect(), self.clients());
        let registers = &self.registers;
        while window.is_open() {
            registers.begin_anew();
            registers.declare(&callers[0]).await?;
            let numbered = callers.iter().zip(0..);
            try_join_all(numbered.map(|(it, number)| registers.use_them(self, it, &readers, number, window))).await?;
            registers.check(self);
        }
        registers.read_all(&callers[0], &readers).await?;
        registers.check(self);
        Ok(())
    }

    /// What was answered until now is there, before anybody waits for servers that have forgotten it.
    pub async fn compare(&self) -> Result<()> {
        let answered = self.promises.count();
        // Whoever follows may tell less than whoever leads.
        let histories = self.histories().await?;
        let longest = longest(&histories)?;
        self.keep(longest);
        self.promises.check_first(answered, self, longest);
        match self.verdict.violations().first() {
            Some(violation) => bail!("{violation}"),
            None => Ok(()),
        }
    }

    /// Everything answered is there, nothing is there twice, all servers tell the same. Answers what they tell.
    pub async fn judge(&self) -> Result<Vec<v1::Event>> {
        if self.names.len() > 1 {
            let digests = self.client().digests(self.names.len(), EQUAL_WITHIN).await?.digests;
            let first = digests.values().next();
            if digests.values().any(|digest| Some(digest) != first) {
                self.verdict.report("I4", "digests", format_args!("{digests:?}"));
            }
        }
        let histories = self.histories().await?;
        history::check(&self.verdict, &histories);
        let longest = longest(&histories)?;
        self.keep(longest);
        self.promises.check(self, longest);
        self.judged.replace(longest.to_vec());
        Ok(longest.to_vec())
    }

    /// What was told once is told for ever, issued by whomever and for whatever reason.
    fn keep(&self, history: &[v1::Event]) {
        let judged = self.judged.borrow();
        if let Some((at, told)) = judged.iter().enumerate().find(|(at, told)| history.get(*at) != Some(told)) {
            let now = history.get(at);
            self.verdict.report("I3", "history", format_args!("{told:?} was told, now it is {now:?}"));
        }
    }

    /// What every server tells.
    async fn histories(&self) -> Result<Vec<(String, Vec<v1::Event>)>> {
        let mut histories = Vec::new();
        for (name, client) in self.names.iter().zip(self.clients()) {
            histories.push((name.clone(), self.history(name, &client.patient(HISTORY_WITHIN)).await?));
        }
        Ok(histories)
    }

    /// What a server tells. One that lacks entries gets them from the others; who gets them from nobody has lost them.
    async fn history(&self, name: &str, client: &Client) -> Result<Vec<v1::Event>> {
        let end = Instant::now() + HISTORY_WITHIN;
        loop {
            if let Some(events) = client.events_kept().await? {
                return Ok(events);
            }
            if Instant::now() > end {
                self.verdict.report("I3", "history", format_args!("{name} lacks entries, and gets them from nobody"));
                bail!("{name} no longer has the whole log");
            }
            sleep(PAUSE).await;
        }
    }
}

fn longest(histories: &[(String, Vec<v1::Event>)]) -> Result<&[v1::Event]> {
    let longest = histories.iter().map(|(_, events)| events).max_by_key(|events| events.len());
    longest.map(Vec::as_slice).context("there are servers")
}

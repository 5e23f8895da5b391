//! Power cuts: real servers on disks that lose what was not synced, callers who remember every answer, and a look at
//! everything after every cut.
//!
//! It refuses to cut at convenient moments: the power goes at any operation of a disk, recovery included.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use certwright_agent::Context;
use certwright_proto::v1;
use certwright_seams::sim::SeededEntropy;
use certwright_seams::{Entropy, Seams};
use certwright_sim::check::Violation;
use certwright_sim::client::Client;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, Load, PAUSE, administrator, furnish};
use crate::drive::{Drive, DriveKind, drive};
use crate::room::Folder;
use crate::server::{Entry, Launch, Server};
use crate::volume::{Found, Power};

/// Files of the log change over as often as can be.
const LOAD: Load = Load { ordering: 6, pause_millis_max: 40 };
/// How long callers work before the power goes at the latest.
const WORK_MILLIS_MAX: u64 = 1_500;
/// Operations of the disks before it goes, if it goes by these.
const OPERATIONS_MAX: u64 = 800;
/// The same while servers recover.
const RECOVERY_OPERATIONS_MAX: u64 = 60;
/// A server that does not serve by then never will.
const SERVES_WITHIN: Duration = Duration::from_secs(60);
/// Operations that callers must have had answered between two cuts, on average. As long as they had less, as on a busy machine,
/// there are more cuts, up to so many times what was asked for.
const OPERATIONS_MIN: u64 = 10;
const CUTS_FACTOR_MAX: u64 = 3;
/// After so many cuts the next ones strike a new cluster.
const CUTS_PER_CLUSTER: u64 = 25;

/// What is asked for.
#[derive(Clone)]
pub struct Options {
    /// So many cuts.
    pub cuts: u64,
    /// Of so many servers at the same instant.
    pub servers: usize,
    /// On such disks.
    pub drive: DriveKind,
    /// Decides what can be decided: when the power goes and what is left.
    pub seed: u64,
    /// The program, and what to set for it.
    pub program: PathBuf,
    /// Environment variables for it.
    pub environment: Vec<(String, String)>,
}

/// What came of it.
#[derive(Default, Debug, Serialize)]
pub struct Outcome {
    /// Cuts.
    pub cuts: u64,
    /// Of these while a server was recovering from the one before.
    pub in_recovery: u64,
    /// Clusters that were founded.
    pub clusters: u64,
    /// Operations that callers had answered.
    pub operations: u64,
    /// What nobody had synced when the power went.
    pub unsynced: Unsynced,
    /// What should not be.
    pub violations: Vec<Violation>,
}

/// Files with changes that nobody had synced, changed names, and pieces of both that were lost.
#[derive(Default, Debug, Serialize)]
pub struct Unsynced {
    files: usize,
    names: usize,
    lost: usize,
}

impl Outcome {
    /// Whether callers had too few operations answered for so many cuts.
    fn proves_little(&self, cuts: u64) -> bool {
        self.operations < cuts * OPERATIONS_MIN
    }

    fn add(&mut self, of_one: Self) {
        self.clusters += 1;
        self.cuts += of_one.cuts;
        self.in_recovery += of_one.in_recovery;
        self.operations += of_one.operations;
        self.unsynced.files += of_one.unsynced.files;
        self.unsynced.names += of_one.unsynced.names;
        self.unsynced.lost += of_one.unsynced.lost;
        self.violations.extend(of_one.violations);
    }
}

/// Cuts until there were enough, or until something is wrong.
pub async fn run(options: &Options, folder: &Folder) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    while outcome.violations.is_empty() && outcome.cuts < CUTS_FACTOR_MAX * options.cuts {
        if outcome.cuts >= options.cuts && !outcome.proves_little(options.cuts) {
            break;
        }
        let seed = options.seed + outcome.clusters;
        let place = folder.path().join(format!("cluster-{}", outcome.clusters));
        // More than were asked for follow only until callers had enough answered.
        let left = options.cuts.checked_sub(outcome.cuts).filter(|left| *left > 0).unwrap_or(options.cuts);
        let left = left.min(CUTS_PER_CLUSTER);
        let rig = Rig::found(options, seed, &place).await.context("founding a cluster")?;
        let began = Instant::now();
        let done = rig.strike(left).await;
        let of_one = rig.end(done)?;
        let (cuts, operations) = (of_one.cuts, of_one.operations);
        outcome.add(of_one);
        eprintln!(
            "seed {seed}: {cuts} cuts of {} servers in {:.0?}, {operations} operations, {} violations; {} cuts so far",
            options.servers,
            began.elapsed(),
            outcome.violations.len(),
            outcome.cuts
        );
        if outcome.violations.is_empty() {
            std::fs::remove_dir_all(&place)?;
        }
    }
    if outcome.violations.is_empty() && outcome.proves_little(options.cuts) {
        bail!("{} operations between {} cuts: that proves nothing", outcome.operations, outcome.cuts);
    }
    Ok(outcome)
}

/// A server on its disk.
struct Machine {
    // Before the drive: what uses a disk ends first.
    server: Server,
    drive: Box<dyn Drive>,
}

impl Machine {
    fn new(number: usize, place: &Path, kind: DriveKind, launch: Launch, power: &Power) -> Result<Self> {
        let name = format!("server-{number}");
        let at = place.join(&name);
        let mut drive = drive(kind, &at, power)?;
        drive.mount()?;
        let server = Server::new(&name, at.join("data"), place.join(format!("{name}.log")), launch);
        Ok(Self { server, drive })
    }

    fn boot(&mut self) -> Result<()> {
        self.drive.mount()?;
        self.server.start(Entry::Belongs)
    }
}

/// Sizes of files of the log and of snapshots, small ones most often: what is cut while they change over is what matters.
fn sizes(seed: u64, drive: DriveKind) -> (Option<u64>, Option<u64>) {
    match (seed % 4, drive) {
        (0, DriveKind::Fuse) => (None, None),
        (1, _) | (_, DriveKind::Ext4) => (Some(256 * 1024), Some(192 * 1024)),
        _ => (Some(64 * 1024), Some(48 * 1024)),
    }
}

/// One cluster and its power.
struct Rig {
    cluster: Cluster,
    machines: Rc<RefCell<Vec<Machine>>>,
    power: Power,
    draw: SeededEntropy,
    outcome: RefCell<Outcome>,
}

impl Rig {
    async fn found(options: &Options, seed: u64, place: &Path) -> Result<Self> {
        let (power, draw, seams) = (Power::default(), SeededEntropy::new(seed), Seams::system());
        power.switch_on(None);
        let (segment_octets, snapshot_octets) = sizes(seed, options.drive);
        let machine = |number: usize| {
            let address = IpAddr::from(Ipv4Addr::new(127, 0, 0, number as u8));
            let (program, environment) = (options.program.clone(), options.environment.clone());
            let (under, listen, advertise) = (Vec::new(), address, address);
            let launch = Launch { under, program, environment, segment_octets, snapshot_octets, listen, advertise };
            Machine::new(number, place, options.drive, launch, &power)
        };
        let mut machines = vec![machine(1)?];
        machines[0].server.start(Entry::Founds)?;
        let context = administrator(&mut machines[0].server).await?;
        let client = Client::new(&context, &seams);
        for number in 2..=options.servers {
            let token = client.token("node", "").await?;
            machines.push(machine(number)?);
            let first = machines[0].server.api();
            machines[number - 1].server.start(Entry::Joins(&first, &token))?;
            client.voters(number).await?;
        }
        furnish(&client).await?;
        let context = Context { servers: machines.iter().map(|it| it.server.api()).collect(), ..context };
        let names = machines.iter().map(|it| it.server.name.clone()).collect();
        let machines = Rc::new(RefCell::new(machines));
        let disks = machines.clone();
        let kept = move |octets: &[u8]| {
            let keeps = |it: &Machine| it.drive.keeps(Path::new("data/log"), octets);
            let kept: Option<Vec<bool>> = disks.borrow().iter().map(keeps).collect();
            kept.map(|kept| kept.into_iter().filter(|it| *it).count())
        };
        let cluster = Cluster::new(context, names, seed, LOAD, Box::new(kept));
        Ok(Self { cluster, machines, power, draw, outcome: RefCell::default() })
    }

    /// So many cuts, each with everything looked at afterwards.
    async fn strike(&self, cuts: u64) -> Result<()> {
        let client = self.cluster.client();
        while self.outcome.borrow().cuts < cuts && self.cluster.is_whole() {
            self.cluster.work(self.cut(&client)).await?;
            if self.cluster.is_whole() {
                self.cluster.judge().await?;
            }
        }
        Ok(())
    }

    /// Cuts the power of all servers, perhaps again while they recover, and waits until they serve.
    async fn cut(&self, client: &Client) -> Result<()> {
        if self.draw.next_u64().is_multiple_of(2) {
            self.power.switch_on(Some((self.draw.next_u64() % OPERATIONS_MAX) as u32));
        }
        let end = Instant::now() + Duration::from_millis(100 + self.draw.next_u64() % WORK_MILLIS_MAX);
        while self.power.is_on() && Instant::now() < end {
            sleep(PAUSE).await;
        }
        loop {
            self.power.cut();
            self.lose()?;
            let again = self.draw.next_u64().is_multiple_of(3);
            self.power.switch_on(again.then(|| (self.draw.next_u64() % RECOVERY_OPERATIONS_MAX) as u32));
            self.machines.borrow_mut().iter_mut().try_for_each(Machine::boot)?;
            if self.serves(client).await? {
                return self.cluster.compare().await;
            }
            self.outcome.borrow_mut().in_recovery += 1;
        }
    }

    /// What was not synced is lost.
    fn lose(&self) -> Result<()> {
        let mut machines = self.machines.borrow_mut();
        machines.iter_mut().for_each(|it| it.server.kill());
        let mut outcome = self.outcome.borrow_mut();
        for machine in &mut *machines {
            let Found { files, names, lost } = machine.drive.lose(&self.draw)?;
            outcome.unsynced.files += files;
            outcome.unsynced.names += names;
            outcome.unsynced.lost += lost;
        }
        outcome.cuts += 1;
        Ok(())
    }

    /// Waits until all servers serve; not if the power goes before.
    async fn serves(&self, client: &Client) -> Result<bool> {
        let end = Instant::now() + SERVES_WITHIN;
        let ask = async |channel| {
            let request = v1::GetClusterRequest { min_token: None, linearizable: true };
            v1::cluster_client::ClusterClient::new(channel).get_cluster(request).await
        };
        while self.power.is_on() {
            let ended = self.machines.borrow_mut().iter_mut().find_map(|it| {
                let has_ended = it.server.has_ended();
                has_ended.then(|| format!("{} does not start again: {}", it.server.name, it.server.last_words()))
            });
            // Without power a server may end.
            if let Some(what) = ended.filter(|_| self.power.is_on()) {
                return self.fails("I3", &what);
            }
            if let Some(seen) = client.once(ask).await {
                let votes = seen.nodes.iter().filter(|it| it.role == "leader" || it.role == "follower").count();
                if votes == self.cluster.names.len() {
                    // What is still to come must not strike who is being judged.
                    return Ok(self.power.stay());
                }
            }
            if Instant::now() > end {
                let said: Vec<String> = self.machines.borrow().iter().map(|it| it.server.last_words()).collect();
                return self.fails("stuck", &format!("nobody serves within {SERVES_WITHIN:?}: {said:?}"));
            }
            sleep(PAUSE).await;
        }
        Ok(false)
    }

    /// A server that ends instead of serving has lost what it held; one that is slow has not.
    fn fails(&self, invariant: &str, what: &str) -> Result<bool> {
        self.cluster.verdict.report(invariant, "restart", format_args!("{what}"));
        bail!("{what}")
    }

    fn end(self, done: Result<()>) -> Result<Outcome> {
        let mut outcome = self.outcome.take();
        outcome.operations = self.cluster.operations();
        outcome.violations = self.cluster.verdict.violations();
        if outcome.violations.is_empty() {
            done?;
        }
        Ok(outcome)
    }
}

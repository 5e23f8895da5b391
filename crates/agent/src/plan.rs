//! What to do next about one instance: a pure function of what the servers want, what is here, and the time.
//!
//! It refuses IO and memory of its own: the agent's loop acts and remembers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use certwright_core::event::Stage;
use certwright_core::ids::TargetName;
use certwright_core::mutant::{self, Mutant};
use certwright_core::time::Timestamp;

use crate::failure::{Failure, FailureReason};

/// A CSR that nobody answered is sent again after this long in the same session.
pub const ANSWER_WAIT: Duration = Duration::from_secs(60);
/// First wait after a failed attempt at a target; doubles up to the maximum.
pub const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest wait between attempts: whatever was in the way, the agent is back at work within a minute of its end.
pub const RETRY_MAX: Duration = Duration::from_secs(30);

/// What the servers want of an instance, without what is on disk anyway.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wish {
    /// Revision of the certificate at the server.
    pub revision: u64,
    /// An issuance waits for a CSR of this generation; 0 for none.
    pub wanted_generation: u64,
    /// The newest generation issued.
    pub issued: Option<IssuedFacts>,
    /// The targets that this agent holds.
    pub targets: Vec<TargetWish>,
}

/// What planning must know of an issued generation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IssuedFacts {
    /// The generation.
    pub generation: u64,
    /// Its serial, upper-case hex.
    pub serial: String,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
}

/// What planning must know of a target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetWish {
    /// Its name.
    pub name: TargetName,
    /// Changes whenever the files would have to be written anew (directory, names, owner, mode, key encoding).
    pub digest: u64,
    /// Whether a handshake must prove that the certificate is served.
    pub served_check: bool,
    /// Where it writes, when it writes files.
    pub directory: Option<String>,
}

/// What is here of an instance.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Held {
    /// Generations whose private key is in the state directory.
    pub keys: BTreeSet<u64>,
    /// What each target holds; shared, because a map of whole values would keep room for eleven of them.
    pub targets: BTreeMap<TargetName, Arc<Installed>>,
    /// Targets whose files somebody removed: what `targets` says of them was true once, and keeps older generations away.
    pub lost: BTreeSet<TargetName>,
    /// What was refused last without an attempt: generation and reason, so that it is said once.
    pub refused: Option<(u64, FailureReason)>,
    /// Failed attempts at targets.
    pub attempts: BTreeMap<TargetName, Attempt>,
}

/// What a target holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Installed {
    /// The generation.
    pub generation: u64,
    /// Its serial, upper-case hex.
    pub serial: String,
    /// Name of the version at the sink.
    pub version: String,
    /// The target's digest at that time.
    pub digest: u64,
    /// Written or served.
    pub stage: Stage,
}

/// Failed attempts at a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// The generation attempted.
    pub generation: u64,
    /// Failures in a row.
    pub failures: u32,
    /// Not before this moment again, by the monotonic clock.
    pub retry_at: Duration,
}

impl Attempt {
    /// One more failure of `generation` after `before`, at `now`.
    pub fn after(before: Option<Self>, generation: u64, now: Duration) -> Self {
        let failures = before.filter(|before| before.generation == generation).map_or(0, |before| before.failures);
        let wait = RETRY_FIRST.saturating_mul(1 << failures.min(10)).min(RETRY_MAX);
        Self { generation, failures: failures + 1, retry_at: now + wait }
    }
}

/// How far a request for the wanted generation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Request {
    /// Nothing was sent in this session.
    #[default]
    Idle,
    /// Key and CSR are being made.
    Making,
    /// The CSR is on its way, or waits for its answer.
    Sent {
        /// Of this generation.
        generation: u64,
        /// Since this moment, by the monotonic clock.
        at: Duration,
    },
    /// The servers said no, or the key could not be made.
    Refused {
        /// Of this generation,
        generation: u64,
        /// under this revision: a newer one is another question.
        revision: u64,
        /// Not before this moment again.
        retry_at: Duration,
    },
}

/// Now, by both clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// The wall clock: dates of certificates.
    pub wall: Timestamp,
    /// The monotonic clock: waits.
    pub monotonic: Duration,
}

/// One thing to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Make (or find) the key of this generation and send its CSR.
    Request {
        /// The generation.
        generation: u64,
    },
    /// Say why the issued generation is not even attempted.
    Refuse {
        /// The generation.
        generation: u64,
        /// Why.
        failure: Failure,
    },
    /// Verify the issued generation and put it on these targets; look whether these others serve it.
    Deliver {
        /// The generation.
        generation: u64,
        /// Targets to write.
        install: Vec<TargetName>,
        /// Targets to look at.
        check: Vec<TargetName>,
    },
    /// Remove private keys of generations below this one.
    DropKeys {
        /// The oldest generation that keeps its key.
        below: u64,
    },
}

/// What to do, and whether that is all there will be to do until something changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// In this order.
    pub actions: Vec<Action>,
    /// Nothing is outstanding: no need to look again before a message or a result.
    pub settled: bool,
}

/// Plans one instance.
pub fn plan(wish: &Wish, held: &Held, request: Request, connected: bool, now: Now) -> Plan {
    let mut plan = Plan { actions: Vec::new(), settled: true };
    plan_request(&mut plan, wish, request, connected, now);
    if let Some(issued) = &wish.issued {
        plan_delivery(&mut plan, wish, issued, held, now);
        plan_keys(&mut plan, wish, issued, held);
    }
    plan
}

fn plan_request(plan: &mut Plan, wish: &Wish, request: Request, connected: bool, now: Now) {
    let generation = wish.wanted_generation;
    if generation <= wish.issued.as_ref().map_or(0, |issued| issued.generation) {
        return;
    }
    plan.settled = false;
    let waits = match request {
        Request::Idle => false,
        Request::Making => true,
        Request::Sent { generation: sent, at } => sent == generation && now.monotonic < at + ANSWER_WAIT,
        Request::Refused { generation: refused, revision, retry_at } => {
            refused == generation && revision >= wish.revision && now.monotonic < retry_at
        }
    };
    if connected && !waits {
        plan.actions.push(Action::Request { generation });
    }
}

fn plan_delivery(plan: &mut Plan, wish: &Wish, issued: &IssuedFacts, held: &Held, now: Now) {
    let generation = issued.generation;
    if let Some((target, newer)) = held.targets.iter().find(|(_, installed)| installed.generation > generation)
        && !mutant::is(Mutant::OlderGenerationTaken)
    {
        let message = format!("generation {generation} came after {} was installed on {target}", newer.generation);
        return refuse(plan, held, generation, FailureReason::OlderGeneration, message);
    }
    let outstanding = |target: &&TargetWish| !is_installed(held, target, issued);
    if wish.targets.iter().any(|target| outstanding(&target)) {
        plan.settled = false;
        if now.wall < issued.not_before {
            let message = format!("{} is valid from {}; it is {} here", issued.serial, issued.not_before, now.wall);
            return refuse(plan, held, generation, FailureReason::NotYetValid, message);
        }
        if now.wall >= issued.not_after {
            let message = format!("{} expired at {}; it is {} here", issued.serial, issued.not_after, now.wall);
            return refuse(plan, held, generation, FailureReason::Expired, message);
        }
    }
    let may = |target: &&TargetWish| {
        let attempt = held.attempts.get(&target.name).filter(|attempt| attempt.generation == generation);
        attempt.is_none_or(|attempt| now.monotonic >= attempt.retry_at)
    };
    let unserved = |target: &&TargetWish| !outstanding(target) && !is_served(held, target);
    plan.settled &= !wish.targets.iter().any(|target| unserved(&target));
    let names = |wanted: &dyn Fn(&&TargetWish) -> bool| -> Vec<TargetName> {
        wish.targets.iter().filter(|target| wanted(target) && may(target)).map(|target| target.name.clone()).collect()
    };
    let (install, check) = (names(&outstanding), names(&unserved));
    if !install.is_empty() || !check.is_empty() {
        plan.actions.push(Action::Deliver { generation, install, check });
    }
}

/// Whether a target holds the issued generation as it would be written now.
fn is_installed(held: &Held, target: &TargetWish, issued: &IssuedFacts) -> bool {
    held.targets.get(&target.name).is_some_and(|installed| {
        installed.generation == issued.generation
            && installed.serial == issued.serial
            && installed.digest == target.digest
            && !held.lost.contains(&target.name)
    })
}

fn is_served(held: &Held, target: &TargetWish) -> bool {
    !target.served_check || held.targets.get(&target.name).is_some_and(|installed| installed.stage >= Stage::Served)
}

/// A refusal is said once for a generation and reason, and looked at again until it no longer holds.
fn refuse(plan: &mut Plan, held: &Held, generation: u64, reason: FailureReason, message: String) {
    if held.refused != Some((generation, reason)) {
        plan.actions.push(Action::Refuse { generation, failure: Failure::new(reason, message) });
    }
}

/// Keys below the issued generation can never be installed again once the issued one was.
fn plan_keys(plan: &mut Plan, wish: &Wish, issued: &IssuedFacts, held: &Held) {
    let installed = wish.targets.iter().all(|target| is_installed(held, target, issued));
    if installed && held.keys.first().is_some_and(|oldest| *oldest < issued.generation) {
        plan.actions.push(Action::DropKeys { below: issued.generation });
    }
}

#[cfg(test)]
mod tests;

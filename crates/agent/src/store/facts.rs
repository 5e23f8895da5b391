//! What the agent did about one instance, as it is remembered across restarts.
//!
//! It refuses secrets and anything that the assignment says already.

use std::collections::BTreeMap;
use std::sync::Arc;

use certwright_core::event::Stage;
use certwright_core::ids::TargetName;
use serde::{Deserialize, Serialize};

use crate::plan::{Held, Installed};

/// What each target holds.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Facts {
    /// By target name.
    pub targets: BTreeMap<String, TargetFacts>,
}

/// What one target holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TargetFacts {
    /// The generation.
    pub generation: u64,
    /// Its serial, upper-case hex.
    pub serial: String,
    /// Name of the version at the sink.
    pub version: String,
    /// The target's digest at that time.
    pub digest: u64,
    /// Whether a handshake showed it.
    pub served: bool,
    /// Whether the servers have acknowledged all that was reported.
    pub acknowledged: bool,
}

impl Facts {
    /// What planning wants to know of them; a name that is none is left out.
    pub fn installed(&self) -> BTreeMap<TargetName, Arc<Installed>> {
        let target = |(name, facts): (&String, &TargetFacts)| {
            let installed = Installed {
                generation: facts.generation,
                serial: facts.serial.clone(),
                version: facts.version.clone(),
                digest: facts.digest,
                stage: if facts.served { Stage::Served } else { Stage::Written },
            };
            Some((TargetName::parse(name).ok()?, Arc::new(installed)))
        };
        self.targets.iter().filter_map(target).collect()
    }

    /// What is remembered of `held`; `acknowledged` says of which targets every report was acknowledged.
    pub fn of(held: &Held, acknowledged: impl Fn(&TargetName) -> bool) -> Self {
        let target = |(name, installed): (&TargetName, &Arc<Installed>)| {
            let facts = TargetFacts {
                generation: installed.generation,
                serial: installed.serial.clone(),
                version: installed.version.clone(),
                digest: installed.digest,
                served: installed.stage >= Stage::Served,
                acknowledged: acknowledged(name),
            };
            (name.to_string(), facts)
        };
        Self { targets: held.targets.iter().map(target).collect() }
    }
}

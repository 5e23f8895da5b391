//! The named steps of deliveries and of the agent's own renewal, and the hook by which a test stops the process at any one of them.
//!
//! It refuses to act by itself: without a hook, reaching a step does nothing.

use std::fmt;
use std::sync::Arc;

macro_rules! steps {
    ($($list:ident, $list_doc:literal: { $($(#[$doc:meta])* $variant:ident = $name:literal;)* })*) => {
        /// A moment after which the process may die; every one has a test.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum WriteStep { $($($(#[$doc])* $variant,)*)* }

        impl WriteStep {
            $(
                #[doc = $list_doc]
                pub const $list: &'static [Self] = &[$(Self::$variant,)*];
            )*

            /// Its name, as `CERTWRIGHT_STOP_AT` takes it.
            pub const fn name(self) -> &'static str {
                match self { $($(Self::$variant => $name,)*)* }
            }

            /// The step with this name.
            pub fn from_name(name: &str) -> Option<Self> {
                [$(Self::$list),*].into_iter().flatten().copied().find(|step| step.name() == name)
            }
        }
    };
}

steps! {
DELIVERY, "Every step of a delivery, in the order in which it passes them.": {
    /// The private key exists in memory only.
    KeyMade = "key-made";
    /// The private key is durable in the state directory; the CSR has not been sent.
    KeyStored = "key-stored";
    /// The issued certificate was stored; nothing is on the target.
    AssignmentStored = "assignment-stored";
    /// The directory of the new version exists under a temporary name.
    VersionCreated = "version-created";
    /// `cert.pem` is there.
    CertificateWritten = "certificate-written";
    /// `chain.pem` is there.
    ChainWritten = "chain-written";
    /// `fullchain.pem` is there.
    FullchainWritten = "fullchain-written";
    /// `key.pem` was created and is empty.
    KeyFileCreated = "key-file-created";
    /// `key.pem` is there.
    KeyFileWritten = "key-file-written";
    /// `combined.pem` is there.
    CombinedWritten = "combined-written";
    /// `ca.pem` is there.
    RootWritten = "root-written";
    /// The temporary directory is durable.
    VersionSynced = "version-synced";
    /// The version has its final name.
    VersionNamed = "version-named";
    /// Files of somebody else's under the visible names are a version, to which the names lead.
    Adopted = "adopted";
    /// The next link is beside the current one.
    LinkPrepared = "link-prepared";
    /// The link was switched, by one rename.
    Switched = "switched";
    /// The switch is durable.
    SwitchSynced = "switch-synced";
    /// The visible names are there.
    NamesLinked = "names-linked";
    /// The consumer was told.
    Reloaded = "reloaded";
    /// Old versions are gone.
    Pruned = "pruned";
    /// The state directory remembers the installation.
    Recorded = "recorded";
}

IDENTITY, "Every step of a renewal of the agent's own identity, in the order in which it passes them.": {
    /// The key of the next identity is durable; nothing was asked for.
    IdentityKeyStored = "identity-key-stored";
    /// The servers answered; nothing of the answer is on disk.
    IdentityAnswered = "identity-answered";
    /// The context holds the new identity.
    IdentityStored = "identity-stored";
    /// The new identity is in use, and its key nowhere else.
    IdentityAdopted = "identity-adopted";
}
}

impl fmt::Display for WriteStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a test does when a step is reached.
pub type FaultHook = Arc<dyn Fn(WriteStep) + Send + Sync>;

/// Passes steps to the hook, when there is one.
#[derive(Clone, Default)]
pub struct Fault(Option<FaultHook>);

impl Fault {
    /// No hook.
    pub fn none() -> Self {
        Self(None)
    }

    /// Calls `hook` at every step.
    pub fn with(hook: FaultHook) -> Self {
        Self(Some(hook))
    }

    /// Kills this process, as `kill -9` does, when `step` is reached.
    pub fn kill_at(step: WriteStep) -> Self {
        Self::with(Arc::new(move |reached| {
            if reached == step {
                let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            }
        }))
    }

    /// Says that a step was passed.
    pub fn at(&self, step: WriteStep) {
        if let Some(hook) = &self.0 {
            hook(step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_distinct_names_that_parse_back() {
        for &step in [WriteStep::DELIVERY, WriteStep::IDENTITY].into_iter().flatten() {
            assert_eq!(WriteStep::from_name(step.name()), Some(step));
        }
        assert_eq!(WriteStep::from_name("nothing"), None);
    }
}

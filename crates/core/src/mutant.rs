//! Bugs planted on purpose, one at a time, to prove that the checks of the simulation bite.
//!
//! It refuses to exist in a release build: the feature `mutants` does not compile there, and without it every question
//! is answered `false` by the compiler.

#[cfg(all(feature = "mutants", not(debug_assertions)))]
compile_error!("the feature `mutants` plants bugs: it has no place in a release build");

macro_rules! mutants {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal $(breaks $($invariant:literal)|+)?;)+) => {
        /// Every bug that can be planted.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Mutant {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// What `CERTWRIGHT_MUTANT` calls it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The invariants that it breaks; whoever finds it must name one of them. None for a condition of following a
            /// leader at once: without it servers disturb each other, and agree all the same. Tests in `crates/raft` find these.
            pub fn invariants(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($($invariant),+)?],)+ }
            }
        }
    };
}

mutants! {
    /// A certificate is handed out before its event is agreed on.
    ReplyBeforeCommit = "reply_before_commit" breaks "I1" | "I12";
    /// A leader that was deposed meanwhile hands out what it signed.
    LeadershipOnlyBeforeSigning = "leadership_only_before_signing" breaks "I12";
    /// The log is not synced.
    SkipFsync = "skip_fsync" breaks "I3" | "I1" | "I12" | "I4";
    /// Only every other batch of the log is synced.
    FsyncEveryOther = "fsync_every_other" breaks "I3" | "I1" | "I12" | "I4";
    /// Directories of the log are not synced.
    SkipDirectoryFsync = "skip_directory_fsync" breaks "I3" | "I1" | "I12" | "I4";
    /// Votes are not kept.
    ForgetVotes = "forget_votes" breaks "I4" | "I3" | "I12" | "I5";
    /// Serials are derived from the hour.
    SerialReuse = "serial_reuse" breaks "I2";
    /// A token's end is drawn as hash maps draw their order.
    HashOrderInApply = "hash_order_in_apply" breaks "I4";
    /// A token's end has a bit of the machine's clock in it.
    ClockInApply = "clock_in_apply" breaks "I4";
    /// A generation may be issued as often as somebody asks.
    GenerationUnchecked = "generation_unchecked" breaks "I5";
    /// What was answered is forgotten after a second.
    RequestsForgottenEarly = "requests_forgotten_early" breaks "I5";
    /// A command that is repeated is carried out again.
    RepeatsUnchecked = "repeats_unchecked" breaks "I5";
    /// A command gets another id whenever it is passed on.
    IdPerAttempt = "id_per_attempt" breaks "I5";
    /// Snapshots do not hold the requests that were answered.
    SnapshotForgetsRequests = "snapshot_forgets_requests" breaks "I5" | "I4" | "I18";
    /// Snapshots do not hold the servers that were removed.
    SnapshotForgetsRemoved = "snapshot_forgets_removed" breaks "I18" | "I19";
    /// A pair is written in place, file by file.
    FilesInPlace = "files_in_place" breaks "I6";
    /// What an agent writes is not synced.
    DeliveryUnsynced = "delivery_unsynced" breaks "I6" | "I8";
    /// An agent takes whatever comes, older or not.
    OlderGenerationTaken = "older_generation_taken" breaks "I6" | "I8";
    /// A watch goes on one transaction after the one it should.
    ResumeOneLater = "resume_one_later" breaks "I8";
    /// A watch goes on with the transaction it has told.
    ResumeOneEarlier = "resume_one_earlier" breaks "I8";
    /// A bookmark is one entry ahead of what was told.
    BookmarkAhead = "bookmark_ahead" breaks "I8";
    /// What a slow watcher does not take at once is left out.
    DropForSlowWatcher = "drop_for_slow_watcher" breaks "I8";
    /// Checksums of the log are not compared.
    ChecksumsUnchecked = "checksums_unchecked" breaks "I9";
    /// The leader signs under the policy that it saw first.
    PolicyOfYesterday = "policy_of_yesterday" breaks "I10";
    /// A read that says it was confirmed was not.
    ReadWithoutQuorum = "read_without_quorum" breaks "I13";
    /// Every server confirms reads to itself.
    FollowerConfirmsItself = "follower_confirms_itself" breaks "I13";
    /// A read does not wait for the state that its caller has seen.
    MinTokenIgnored = "min_token_ignored" breaks "I13";
    /// A write is done whatever version it was meant for.
    EtagIgnored = "etag_ignored" breaks "I13";
    /// Log time follows the leader's clock, however far ahead of the others.
    ClockUnbounded = "clock_unbounded" breaks "I14";
    /// Log time is the leader's clock.
    LogTimeGoesBack = "log_time_goes_back" breaks "I14";
    /// Log time stays where it was when the server started.
    LogTimeFrozen = "log_time_frozen" breaks "I14";
    /// A jump of all clocks is taken for time that passed.
    JumpUnnoticed = "jump_unnoticed" breaks "I14";
    /// Servers' clocks go on from a log time that was taken back.
    RebaseLeavesClocks = "rebase_leaves_clocks" breaks "I14";
    /// Entries are stamped by a log time that was taken back.
    StampsByOldTime = "stamps_by_old_time" breaks "I14";
    /// Commands are decided while log time is being set back.
    RebaseInFlight = "rebase_in_flight" breaks "I14";
    /// What became due by a log time that was taken back is renewed at once.
    RebaseUnheld = "rebase_unheld" breaks "I14";
    /// A join token is looked at, but its use is not made a condition.
    TokenUsedTwice = "token_used_twice" breaks "I16";
    /// History is let go although a certificate in it has not ended.
    TrimsUnexpired = "trims_unexpired" breaks "I3";
    /// As many strangers as like may be at their handshake.
    HandshakesUnbounded = "handshakes_unbounded" breaks "I17";
    /// A server that was removed is spoken with as before.
    RemovedServerAccepted = "removed_server_accepted" breaks "I19";
    /// The session of an agent that was removed goes on.
    RemovedAgentAccepted = "removed_agent_accepted" breaks "I19";
    /// A leader that does not answer is taken for dead.
    DeathBySilence = "death_by_silence";
    /// A leader is dead because another server says so.
    DeathByHearsay = "death_by_hearsay";
    /// The death of a leader is proved for its later terms, too.
    DeathInEveryTerm = "death_in_every_term";
    /// One server that has seen a leader die follows it.
    DeathByMinority = "death_by_minority";
    /// A leader is followed although a server still hears it.
    DeathDespiteObjection = "death_despite_objection";
    /// The server whose log is shortest follows a leader.
    ShortestLogFollows = "shortest_log_follows";
    /// A learner follows a leader.
    LearnerFollows = "learner_follows";
}

/// Whether bugs can be planted in this build.
pub const CAN_BE_PLANTED: bool = cfg!(feature = "mutants");

#[cfg(feature = "mutants")]
static PLANTED: std::sync::OnceLock<Option<Mutant>> = std::sync::OnceLock::new();

/// Plants a bug for the rest of the process; the first one stays.
#[cfg(feature = "mutants")]
pub fn plant(mutant: Mutant) {
    let _ = PLANTED.set(Some(mutant));
}

/// Whether this bug is planted, or named by `CERTWRIGHT_MUTANT` in a process that plants none.
#[cfg(feature = "mutants")]
pub fn is(mutant: Mutant) -> bool {
    let named = || {
        let name = std::env::var("CERTWRIGHT_MUTANT").ok()?;
        Mutant::ALL.iter().copied().find(|it| it.name() == name)
    };
    *PLANTED.get_or_init(named) == Some(mutant)
}

/// Whether this bug is planted: never.
#[cfg(not(feature = "mutants"))]
pub const fn is(_mutant: Mutant) -> bool {
    false
}

/// A moment as `apply` must never make it: from a hash map's order, or from the machine's clock.
#[cfg(feature = "mutants")]
#[allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "that is the bug")]
pub(crate) fn unsteady(moment: crate::time::Timestamp) -> crate::time::Timestamp {
    use std::time::Duration;
    // What the order of a hash map comes from, another one on every replica.
    let order = || std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0_u8) % 64;
    if is(Mutant::HashOrderInApply) {
        return moment.plus(Duration::from_millis(order()));
    }
    let now = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    if is(Mutant::ClockInApply) { moment.plus(Duration::from_millis(u64::from(now().subsec_micros()))) } else { moment }
}

/// A moment as it is.
#[cfg(not(feature = "mutants"))]
pub(crate) const fn unsteady(moment: crate::time::Timestamp) -> crate::time::Timestamp {
    moment
}

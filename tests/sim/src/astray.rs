//! Most clocks go wrong together: ahead, and take log time along; they are set right, and an operator has log time set back.
//! Or behind: log time stands still meanwhile, work goes on, and nobody has to do anything.
//!
//! It refuses to have that done by wrong clocks: that it is refused is looked at first.

use std::time::Duration;

use certwright_core::Reason;
use certwright_core::time::Timestamp;
use certwright_proto::api::values::moment_from_message;
use certwright_proto::v1;
use certwright_seams::Entropy;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::check::promises::Promises;
use crate::client::{Client, PAUSE, Stuck};
use crate::estate::{Estate, Order};
use crate::nemesis::cut_off;
use crate::stage::Stage;
use crate::workload::watcher::Watcher;
use crate::workload::{self, Window};

/// How far the clocks go wrong: by an hour all that agents deliver is due, by a month or a year their identities have lapsed, too.
const WRONG_MILLIS: [i64; 3] = [3_600_000, 30 * 86_400_000, 365 * 86_400_000];
/// How long most clocks are behind, at most.
const BEHIND_LASTS_MILLIS_MAX: u64 = 6000;
/// Until log time has followed a majority of clocks.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(30);
/// How far log time may be from true time once it was set back: five seconds, and what clocks differ by.
const OFF_MAX: Duration = Duration::from_secs(8);
/// How long what strikes meanwhile lasts at most.
const STRIKE_LASTS_MILLIS_MAX: u64 = 3000;
/// How soon it does.
const STRIKE_AFTER_MILLIS_MAX: u64 = 300;
/// How long callers work on when log time is back.
const BUSY: Duration = Duration::from_secs(2);
/// How long what happens then is looked at.
const WATCHED: Duration = Duration::from_secs(10);
/// What a small estate may renew in an hour without an operator's word.
const RENEWALS_MAX: usize = 1;

/// What strikes while log time is set back.
#[derive(Clone, Copy, Debug)]
enum Strike {
    Nothing,
    LeaderKilled,
    LeaderWithoutPower,
    LeaderCutOff,
    FollowerWithoutPower,
    AllWithoutPower,
}

const STRIKES: [Strike; 6] = [
    Strike::Nothing,
    Strike::LeaderKilled,
    Strike::LeaderWithoutPower,
    Strike::LeaderCutOff,
    Strike::FollowerWithoutPower,
    Strike::AllWithoutPower,
];

/// Those who work on an estate that goes astray.
pub(crate) struct Callers {
    pub(crate) operating: Client,
    pub(crate) striking: Client,
    pub(crate) ordering: Client,
    pub(crate) renewing: Client,
    pub(crate) creating: Client,
}

/// Leads the estate astray in two runs of four, and back; answers by how much it was ahead.
pub(crate) async fn go_astray(
    estate: &Estate,
    callers: &Callers,
    promises: &Promises,
    watcher: &Watcher,
) -> Result<Duration, Stuck> {
    let draw = estate.draw(11);
    let which = draw.next_u64() % 4;
    if which > 1 {
        return Ok(Duration::ZERO);
    }
    let millis = WRONG_MILLIS[draw.next_u64() as usize % WRONG_MILLIS.len()];
    let strike = STRIKES[draw.next_u64() as usize % STRIKES.len()];
    let servers = estate.servers();
    let wrong = servers.iter().cycle().skip(draw.next_u64() as usize % servers.len()).take(servers.len() / 2 + 1);
    if which == 1 {
        estate.trace.tell("astray", format_args!("{millis} ms behind, {strike:?}"));
        estate.fault("most clocks behind");
        wrong.for_each(|server| estate.machine(server).step_clock(-millis));
        fall_behind(estate, callers, promises, strike, draw.next_u64() % BEHIND_LASTS_MILLIS_MAX).await?;
        return Ok(Duration::ZERO);
    }
    estate.trace.tell("astray", format_args!("{millis} ms, {strike:?}"));
    estate.fault("most clocks ahead");
    watcher.excuse();
    let client = &callers.operating;
    wrong.for_each(|server| estate.machine(server).step_clock(millis));
    let ahead = Duration::from_millis(millis.unsigned_abs());
    followed(estate, client, ahead / 2).await?;
    // What is done by the wrong time, in some runs by somebody who takes it for the right one.
    if draw.next_u64().is_multiple_of(2) {
        client.release_renewals().await?;
    }
    client.renew(&workload::name_of(&estate.agents()[0])).await?;
    if draw.next_u64().is_multiple_of(2) {
        estate.order(Order::Kill(estate.agents()[0].clone()));
        sleep(PAUSE).await;
        estate.order(Order::Start(estate.agents()[0].clone()));
    }
    if let Ok(answer) = client.rebase_time(&[Reason::ClocksDisagree, Reason::NotReady]).await? {
        let text = format_args!("log time was set back while most clocks are wrong: {answer:?}");
        estate.verdict.report("I14", "astray", text);
    }
    servers.iter().for_each(|server| estate.machine(server).step_clock(0));
    set_back(estate, callers, promises, strike).await?;
    look(estate, client).await?;
    client.release_renewals().await?;
    Ok(ahead)
}

/// Callers work while most clocks are behind and something strikes; then the clocks are right, and log time is with them
/// without anybody's word.
async fn fall_behind(
    estate: &Estate,
    callers: &Callers,
    promises: &Promises,
    strike: Strike,
    lasts_millis: u64,
) -> Result<(), Stuck> {
    let operating = async {
        sleep(Duration::from_millis(lasts_millis)).await;
        estate.servers().iter().for_each(|server| estate.machine(server).step_clock(0));
        estate.trace.tell("astray", format_args!("clocks are right"));
        sleep(BUSY).await;
        Ok(())
    };
    under_work(estate, callers, promises, strike, operating).await?;
    let (client, end) = (&callers.operating, Instant::now() + FOLLOWED_WITHIN);
    loop {
        client.token("agent", "behind").await?;
        let seen = client.cluster(true).await?;
        if let Some(hold) = &seen.renewal_hold {
            estate.verdict.report("I14", "astray", format_args!("renewals are held back: {hold:?}"));
        }
        let behind = estate.true_time().since(log_time(&seen));
        if behind <= OFF_MAX {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(Stuck(format!("log time is {behind:?} behind although clocks are right")));
        }
        sleep(PAUSE).await;
    }
}

fn log_time(seen: &v1::GetClusterResponse) -> Timestamp {
    let log_time = seen.log_time.as_ref().and_then(|at| moment_from_message("log_time", at).ok());
    log_time.unwrap_or(Timestamp::EPOCH)
}

/// How far log time is ahead of true time.
fn ahead(estate: &Estate, seen: &v1::GetClusterResponse) -> Duration {
    log_time(seen).since(estate.true_time())
}

/// Waits until log time is that far ahead.
async fn followed(estate: &Estate, client: &Client, wanted: Duration) -> Result<(), Stuck> {
    let end = Instant::now() + FOLLOWED_WITHIN;
    loop {
        client.token("agent", "astray").await?;
        if ahead(estate, &client.cluster(true).await?) > wanted {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(Stuck(format!("log time does not follow most clocks within {FOLLOWED_WITHIN:?}")));
        }
        sleep(PAUSE).await;
    }
}

/// Has log time set back while callers work and something strikes.
async fn set_back(estate: &Estate, callers: &Callers, promises: &Promises, strike: Strike) -> Result<(), Stuck> {
    let operating = async {
        let answer = callers.operating.rebase_time(&[]).await?.map_err(|reason| Stuck(format!("{reason:?}")))?;
        estate.trace.tell("astray", format_args!("set back: {}", !answer.unchanged));
        sleep(BUSY).await;
        Ok(())
    };
    under_work(estate, callers, promises, strike, operating).await
}

/// What an operator does while callers work and something strikes.
async fn under_work(
    estate: &Estate,
    callers: &Callers,
    promises: &Promises,
    strike: Strike,
    operating: impl Future<Output = Result<(), Stuck>>,
) -> Result<(), Stuck> {
    let window = Window::default();
    let operating = async {
        operating.await?;
        window.close();
        Ok(())
    };
    let creating = async {
        while window.is_open() {
            callers.creating.token("agent", "late").await?;
            sleep(PAUSE).await;
        }
        Ok(())
    };
    tokio::try_join!(
        operating,
        creating,
        strike_out(estate, &callers.striking, strike),
        workload::orders(estate, &callers.ordering, promises, &window),
        workload::renewals(estate, &callers.renewing, &window),
    )?;
    Ok(())
}

async fn strike_out(estate: &Estate, client: &Client, strike: Strike) -> Result<(), Stuck> {
    let draw = estate.draw(12);
    let leader = client.cluster(true).await?.leader;
    let servers = estate.servers();
    let follower = servers.iter().find(|server| **server != leader).cloned().unwrap_or_default();
    sleep(Duration::from_millis(draw.next_u64() % STRIKE_AFTER_MILLIS_MAX)).await;
    let struck = match strike {
        Strike::Nothing => return Ok(()),
        Strike::LeaderKilled => {
            estate.order(Order::Kill(leader.clone()));
            vec![leader]
        }
        Strike::LeaderWithoutPower => vec![leader],
        Strike::LeaderCutOff => {
            cut_off(estate, &leader);
            Vec::new()
        }
        Strike::FollowerWithoutPower => vec![follower],
        Strike::AllWithoutPower => servers,
    };
    // A power cut of one that was killed changes nothing: it is down already.
    struck.iter().for_each(|server| estate.order(Order::PowerCut(server.clone())));
    sleep(Duration::from_millis(draw.next_u64() % STRIKE_LASTS_MILLIS_MAX)).await;
    struck.into_iter().for_each(|server| estate.order(Order::Start(server)));
    estate.order(Order::Mend);
    Ok(())
}

/// Log time is with the clocks, once is enough, and renewals wait for a word.
async fn look(estate: &Estate, client: &Client) -> Result<(), Stuck> {
    let again = client.rebase_time(&[]).await?.map_err(|reason| Stuck(format!("{reason:?}")))?;
    if !again.unchanged {
        estate.verdict.report("I14", "astray", format_args!("log time was ahead again: {again:?}"));
    }
    let seen = client.cluster(true).await?;
    if ahead(estate, &seen) > OFF_MAX {
        estate.verdict.report("I14", "astray", format_args!("log time is ahead: {:?}", seen.log_time));
    }
    let since = seen.renewal_hold.and_then(|hold| moment_from_message("since", &hold.since?).ok());
    if since.is_none_or(|since| since.since(estate.true_time()) > OFF_MAX) {
        estate.verdict.report("I14", "astray", format_args!("renewals are held back since {since:?}"));
    }
    sleep(WATCHED).await;
    match begun_since(&client.events().await?) {
        None => estate.verdict.report("I14", "astray", format_args!("no entry sets log time back")),
        Some(begun) if begun.len() > RENEWALS_MAX => {
            estate.verdict.report("I14", "astray", format_args!("renewals were begun without a word: {begun:?}"));
        }
        Some(_) => {}
    }
    Ok(())
}

/// Renewals that were begun, because their time had come, behind the last entry that set log time back; `None` if none did.
fn begun_since(events: &[v1::Event]) -> Option<Vec<String>> {
    let rebased = events.iter().rposition(|event| event.r#type == "TimeRebased")?;
    let opened = events[rebased..].iter().filter(|event| event.r#type == "IssuanceOpened");
    let is_due = |event: &&v1::Event| {
        let data: Value = serde_json::from_str(&event.data_json).unwrap_or_default();
        data["trigger"] == "due"
    };
    Some(opened.filter(is_due).map(|event| format!("{} at {:?}", event.stream, event.at)).collect())
}

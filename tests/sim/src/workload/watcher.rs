//! A program that follows all events, over as many connections as it takes, sometimes slower than they come.
//!
//! It refuses to put right what it is told: the check looks at every connection as it was.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use certwright_core::time::Timestamp;
use certwright_proto::api::values::moment_from_message;
use certwright_proto::v1;
use certwright_proto::v1::events_client::EventsClient;
use certwright_seams::Entropy;
use tokio::time::{sleep, timeout};
use tonic::Status;

use crate::client::{Client, PAUSE};
use crate::stage::Stage;

/// How far log time may be ahead of true time: five seconds, what clocks differ by, and a step of one of them.
const AHEAD_MAX: Duration = Duration::from_secs(8);
/// Nothing comes for that long, not even a bookmark: the connection is given up.
const SILENCE: Duration = Duration::from_secs(8);

/// What it was told.
#[derive(Default)]
pub struct Watcher {
    /// By connection.
    told: RefCell<Vec<Vec<v1::Event>>>,
    token: RefCell<Option<v1::Token>>,
    is_in_haste: Cell<bool>,
    /// Most clocks are wrong, or it has not heard yet that log time was set back.
    is_excused: Cell<bool>,
}

impl Watcher {
    /// Follows for ever.
    pub async fn follow(&self, estate: &impl Stage, client: &Client) {
        let draw = estate.draw(4);
        let slowness = Duration::from_millis([0, 0, 5, 40][draw.next_u64() as usize % 4]);
        loop {
            if let Err(status) = self.listen(estate, client, slowness).await {
                estate.tell("watcher", format_args!("cut: {:?}", status.code()));
            }
            sleep(PAUSE).await;
        }
    }

    async fn listen(&self, estate: &impl Stage, client: &Client, slowness: Duration) -> Result<(), Status> {
        let token = self.token.borrow().clone();
        let request = v1::WatchRequest { from_index: 1, token, follow: true, ..Default::default() };
        let silent = |_| Status::deadline_exceeded("silence");
        let mut events = EventsClient::new(client.connection());
        let mut stream = timeout(SILENCE, events.watch(request)).await.map_err(silent)??.into_inner();
        self.told.borrow_mut().push(Vec::new());
        while let Some(message) = timeout(SILENCE, stream.message()).await.map_err(silent)?? {
            self.token.replace(message.token);
            if let Some(event) = &message.event {
                self.check_time(estate, event);
            }
            if let Some(now) = self.told.borrow_mut().last_mut() {
                now.extend(message.event);
            }
            sleep(if self.is_in_haste.get() { Duration::ZERO } else { slowness }).await;
        }
        Ok(())
    }

    /// Log time may be ahead until an operator has it set back.
    pub fn excuse(&self) {
        self.is_excused.set(true);
    }

    /// One clock that is off must not take log time along.
    fn check_time(&self, estate: &impl Stage, event: &v1::Event) {
        let at = event.at.as_ref().and_then(|at| moment_from_message("at", at).ok()).unwrap_or(Timestamp::EPOCH);
        let now = estate.true_time();
        if at.since(now) > AHEAD_MAX && !self.is_excused.get() {
            estate.verdict().report("I14", "watcher", format_args!("entry {} is of {at}, it is {now}", event.index));
        }
        if event.r#type == "TimeRebased" {
            self.is_excused.set(false);
        }
    }

    /// From now on it is not slow on purpose.
    pub fn make_haste(&self) {
        self.is_in_haste.set(true);
    }

    /// Everything it was told, by connection.
    pub fn told(&self) -> Vec<Vec<v1::Event>> {
        self.told.borrow().clone()
    }
}

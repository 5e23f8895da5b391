//! A program that follows all events, over as many connections as it takes, sometimes slower than they come.
//!
//! It refuses to put right what it is told: the check looks at every connection as it was.

use std::cell::RefCell;
use std::time::Duration;

use certwright_proto::v1;
use certwright_proto::v1::events_client::EventsClient;
use certwright_seams::Entropy;
use tokio::time::{sleep, timeout};
use tonic::Status;

use crate::client::{Client, PAUSE};
use crate::estate::Estate;

/// Nothing comes for that long, not even a bookmark: the connection is given up.
const SILENCE: Duration = Duration::from_secs(8);

/// What it was told.
#[derive(Default)]
pub(crate) struct Watcher {
    /// By connection.
    told: RefCell<Vec<Vec<v1::Event>>>,
    token: RefCell<Option<v1::Token>>,
}

impl Watcher {
    /// Follows for ever.
    pub(crate) async fn follow(&self, estate: &Estate, client: &Client) {
        let draw = estate.draw(4);
        let slowness = Duration::from_millis([0, 0, 5, 40][draw.next_u64() as usize % 4]);
        loop {
            if let Err(status) = self.listen(client, slowness).await {
                estate.trace.tell("watcher", format_args!("cut: {:?}", status.code()));
            }
            sleep(PAUSE).await;
        }
    }

    async fn listen(&self, client: &Client, slowness: Duration) -> Result<(), Status> {
        let token = self.token.borrow().clone();
        let request = v1::WatchRequest { from_index: 1, token, follow: true, ..Default::default() };
        let silent = |_| Status::deadline_exceeded("silence");
        let mut events = EventsClient::new(client.connection());
        let mut stream = timeout(SILENCE, events.watch(request)).await.map_err(silent)??.into_inner();
        self.told.borrow_mut().push(Vec::new());
        while let Some(message) = timeout(SILENCE, stream.message()).await.map_err(silent)?? {
            self.token.replace(message.token);
            if let Some(now) = self.told.borrow_mut().last_mut() {
                now.extend(message.event);
            }
            sleep(slowness).await;
        }
        Ok(())
    }

    /// Everything it was told, by connection.
    pub(crate) fn told(&self) -> Vec<Vec<v1::Event>> {
        self.told.borrow().clone()
    }
}

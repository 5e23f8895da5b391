//! `certwright.v1.Events`: the log as its watchers see it.
//!
//! It refuses gaps and repeats: a token names the last transaction that was sent completely, or the watch is refused
//! as too old.

use std::cmp::Ordering;
use std::sync::Arc;

use certwright_core::log::Position;
use certwright_core::mutant::{self, Mutant};
use certwright_core::policy::{Action, Resource};
use certwright_core::{Event, Reason, Rejection, State};
use certwright_proto::api::event::events_of;
use certwright_proto::v1;
use certwright_proto::v1::events_server::Events;
use certwright_raft::{AppliedEntry, ReadError, Watch, WatchItem};
use certwright_seams::exec::compute;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::Api;
use crate::doors::{Doors, read_failed};
use crate::limits::{BEHIND_WAIT, BOOKMARK_INTERVAL, OUTBOUND_QUEUE_MAX};
use crate::{auth, refuse};

#[tonic::async_trait]
impl Events for Api {
    type WatchStream = ReceiverStream<Result<v1::WatchResponse, Status>>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        auth::allow(&auth::caller(&request)?, Action::Read, &Resource::Events)?;
        let asked = request.into_inner();
        self.doors.open().map_err(refuse::status)?;
        if asked.follow {
            self.doors.in_touch().map_err(refuse::status)?;
        }
        let after = begin(&self.doors, &asked).await.map_err(refuse::status)?;
        let told = |error| refuse::status(self.doors.unread(format_args!("what follows {after}"), error));
        let watch = self.doors.log.watch(after).await.map_err(told)?;
        let (out, outgoing) = mpsc::channel(OUTBOUND_QUEUE_MAX);
        let is_cut = asked.token.is_none() && asked.from_index <= 1 && after > Position::START;
        let watcher = Watcher { doors: self.doors.clone(), asked, out, told: after };
        if is_cut {
            // Whoever asked for everything is told first where everything begins.
            let _ = watcher.bookmark().await;
        }
        tokio::spawn(watcher.run(watch));
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

/// The kind of event that the log writes about itself.
const CHECKPOINT: &str = "CheckpointSigned";

/// Where a watch begins: after its token, before its first index, or where the history begins that is kept.
async fn begin(doors: &Doors, asked: &v1::WatchRequest) -> Result<Position, Rejection> {
    match doors.position(asked.token.as_ref())? {
        Some(position) => {
            doors.log.wait_applied(position.index, BEHIND_WAIT).await.map_err(read_failed)?;
            Ok(match position.index {
                index if mutant::is(Mutant::ResumeOneLater) => Position { index: index + 1, ordinal: u32::MAX },
                index if mutant::is(Mutant::ResumeOneEarlier) => Position { index: index - 1, ordinal: u32::MAX },
                _ => position,
            })
        }
        None => match asked.from_index.checked_sub(1) {
            Some(before) if before > 0 => Ok(Position { index: before, ordinal: u32::MAX }),
            // All that is kept.
            _ => Ok(match doors.first_kept().checked_sub(1) {
                Some(before) => Position { index: before, ordinal: u32::MAX },
                None => Position::START,
            }),
        },
    }
}

/// One watch.
struct Watcher {
    doors: Arc<Doors>,
    asked: v1::WatchRequest,
    out: mpsc::Sender<Result<v1::WatchResponse, Status>>,
    /// The last transaction that was sent completely, or needed no sending.
    told: Position,
}

/// The stream is over.
struct Over;

/// Whether no transaction of the entry comes after that position.
fn is_last(entry: &AppliedEntry<Event>, position: Position) -> bool {
    entry.effective().all(|(other, _)| other <= position)
}

impl Watcher {
    async fn run(mut self, watch: Watch<State>) {
        self.doors.metrics.watches.inc();
        // The end of a stream needs no word; a broken one was told.
        let _ = self.follow(watch).await;
        self.doors.metrics.watches.dec();
    }

    async fn follow(&mut self, mut watch: Watch<State>) -> Result<(), Over> {
        let end = match (self.asked.to_index, self.asked.follow) {
            (0, true) => u64::MAX,
            (0, false) => self.doors.log.applied().borrow().index,
            (to, true) => to,
            (to, false) => to.min(self.doors.log.applied().borrow().index),
        };
        let mut over = match self.complete(end).await {
            Ok(over) => over,
            Err(error) => return self.fail(read_failed(error)).await,
        };
        // Counted from when something was sent: a log that is busy with other things keeps nobody from hearing how far it is.
        let mut bookmark_at = Instant::now() + BOOKMARK_INTERVAL;
        while !over {
            if Instant::now() >= bookmark_at {
                self.bookmark().await?;
                bookmark_at = Instant::now() + BOOKMARK_INTERVAL;
                if let Err(rejection) = self.doors.in_touch() {
                    return self.fail(rejection).await;
                }
            }
            let draining = self.doors.draining.clone();
            let item = tokio::select! {
                biased;
                () = draining.cancelled() => return self.stop().await,
                () = self.out.closed() => return Err(Over),
                item = watch.next() => item,
                () = sleep_until(bookmark_at) => continue,
            };
            match item {
                Ok(WatchItem::Transaction { position, .. }) if position.index > end => break,
                Ok(WatchItem::Transaction { position, at, entry, ordinal }) => {
                    let transaction = &entry.transactions[ordinal as usize];
                    let mut events = events_of(position, at, transaction);
                    let epoch = self.doors.log.read(|view| view.state.cluster.epoch_of(position.index));
                    events.iter_mut().for_each(|event| event.epoch = epoch);
                    if self.tell(events, position).await? {
                        bookmark_at = Instant::now() + BOOKMARK_INTERVAL;
                    }
                    over = position.index == end && is_last(&entry, position);
                }
                Ok(WatchItem::Bookmark(position)) => {
                    self.told = self.told.max(position);
                    over = position.index >= end;
                }
                Err(ReadError::Stopped) => return self.stop().await,
                Err(error) => {
                    tracing::warn!(%error, after = %self.told, "a watch ends");
                    let rejection = self.doors.unread(format_args!("what follows {}", self.told), error);
                    return self.fail(rejection).await;
                }
            }
        }
        self.bookmark().await
    }

    /// Whether nothing up to that index is left to tell. An entry holds many transactions: having told one of the last
    /// entry's is not the end.
    async fn complete(&self, end: u64) -> Result<bool, ReadError> {
        match self.told.index.cmp(&end) {
            Ordering::Less => Ok(false),
            Ordering::Greater => Ok(true),
            Ordering::Equal => {
                let log = self.doors.log.clone();
                let entry = compute(&*self.doors.seams.exec, "read", move || log.entry(end)).await?;
                Ok(entry.is_some_and(|entry| is_last(&entry, self.told)))
            }
        }
    }

    /// Sends the events of one transaction that the caller asked for. Only the last of them carries the transaction's
    /// own token: whoever stops in the middle gets all of it again. Says whether there were any.
    async fn tell(&mut self, events: Vec<v1::Event>, position: Position) -> Result<bool, Over> {
        let wanted: Vec<_> = events.into_iter().filter(|event| self.wants(event)).collect();
        let last = wanted.len();
        for (number, event) in wanted.into_iter().enumerate() {
            let at = if number + 1 == last { position } else { self.told };
            self.send(Some(event), at).await?;
        }
        self.told = position;
        Ok(last > 0)
    }

    /// Checkpoints are told to those who ask for streams: every few seconds one, about nothing but the log itself.
    fn wants(&self, event: &v1::Event) -> bool {
        let prefix = &self.asked.stream_prefix;
        event.stream.starts_with(prefix) && (!prefix.is_empty() || event.r#type != CHECKPOINT)
    }

    async fn bookmark(&self) -> Result<(), Over> {
        let ahead = u64::from(mutant::is(Mutant::BookmarkAhead));
        self.send(None, Position { index: self.told.index + ahead, ..self.told }).await
    }

    async fn send(&self, event: Option<v1::Event>, at: Position) -> Result<(), Over> {
        let token = Some(self.doors.token(at));
        if mutant::is(Mutant::DropForSlowWatcher) && self.out.capacity() < self.out.max_capacity() {
            return Ok(());
        }
        self.out.send(Ok(v1::WatchResponse { event, token })).await.map_err(|_| Over)
    }

    async fn stop(&self) -> Result<(), Over> {
        self.bookmark().await?;
        self.fail(Rejection::new(Reason::NotReady, "this server is stopping: watch on from another one")).await
    }

    async fn fail(&self, rejection: Rejection) -> Result<(), Over> {
        self.out.send(Err(refuse::status(rejection))).await.map_err(|_| Over)
    }
}

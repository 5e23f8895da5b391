//! The task that asks known servers who the members are, when a stranger comes and no leader is heard: the stranger may have
//! joined, and lead, while this node was away.
//!
//! It refuses a stranger's own word. Only voters of the record here can vouch for a member, and only by theirs.

use std::sync::Arc;

use certwright_core::log::Fold;
use certwright_proto::internal::v1::{IntroduceRequest, PinnedMember};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::silence::Heard;
use crate::fold::shared::Shared;
use crate::limits::{INTRODUCTION_AFTER, INTRODUCTION_EVERY, INTRODUCTION_TIMEOUT};
use crate::member::{Leadership, Member};
use crate::peer::channels::{Channels, Lane};
use crate::peer::client::raft_client;

/// What the task needs.
pub(super) struct Introductions<F: Fold> {
    pub(super) shared: Arc<Shared<F>>,
    pub(super) channels: Arc<Channels>,
    pub(super) heard: Arc<Heard>,
    pub(super) leadership: watch::Receiver<Leadership>,
}

impl<F: Fold> Introductions<F> {
    /// The task.
    pub(super) async fn run(self, cancel: CancellationToken) {
        let asking = async {
            loop {
                self.channels.pins().stranger().await;
                let unheard = self.heard.since(self.shared.seams.clock.monotonic());
                if unheard >= INTRODUCTION_AFTER && !self.leadership.borrow().is_self {
                    self.ask().await;
                }
                sleep(INTRODUCTION_EVERY).await;
            }
        };
        let _: Option<()> = cancel.run_until_cancelled(asking).await;
    }

    async fn ask(&self) {
        let voters = self.shared.clocks.others();
        let vouchers = if voters.is_empty() { self.channels.pins().trusted() } else { voters };
        let mut answers: FuturesUnordered<_> = vouchers.into_iter().map(|voucher| self.ask_one(voucher)).collect();
        while let Some((voucher, members)) = answers.next().await {
            for member in members.into_iter().filter_map(member) {
                let node = member.node_id;
                if self.channels.pins().introduce(member, voucher) {
                    tracing::info!(node, voucher, "a member that joined while this server was away");
                }
            }
        }
    }

    async fn ask_one(&self, voucher: u64) -> (u64, Vec<PinnedMember>) {
        let asked = async {
            let mut client = raft_client(self.channels.get(voucher, Lane::Heartbeat)?);
            Some(client.introduce(IntroduceRequest {}).await.ok()?.into_inner().members)
        };
        (voucher, timeout(INTRODUCTION_TIMEOUT, asked).await.ok().flatten().unwrap_or_default())
    }
}

fn member(told: PinnedMember) -> Option<Member> {
    let spki_hash = told.spki_hash[..].try_into().ok()?;
    Some(Member { node_id: told.node_id, address: told.address, spki_hash })
}

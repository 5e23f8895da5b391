//! The handle of the log for the rest of the house.
//!
//! It refuses openraft's vocabulary: callers see positions, marks, leadership and members.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use certwright_core::log::{Codec, Fold, Position, Transaction};
use certwright_seams::Seams;
use certwright_seams::net::Listener;
use tokio_util::sync::CancellationToken;

use crate::error::{MembershipError, OpenError, ProposeError, ReadError};
use crate::member::{Leadership, Mark, Member, Members, Role};
use crate::options::LogOptions;
use crate::projection::{ProjectionStore, Projector};
use crate::view::{AppliedEntry, Committed, View};
use crate::watch::Watch;

/// What a node says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// This node.
    pub node_id: u64,
    /// Its term.
    pub term: u64,
    /// Its role.
    pub role: Role,
    /// The leader it follows.
    pub leader: Option<u64>,
    /// Index it has applied.
    pub applied_index: u64,
    /// Index of the last entry in its log.
    pub last_log_index: u64,
    /// The newest membership it knows.
    pub members: Members,
}

/// The replicated log; clones share it.
pub struct Log<F: Fold> {
    _fold: std::marker::PhantomData<Arc<F>>,
}

impl<F: Fold> Clone for Log<F> {
    fn clone(&self) -> Self {
        Self { _fold: std::marker::PhantomData }
    }
}

#[allow(unused_variables, clippy::unimplemented, clippy::unused_async, missing_docs)]
impl<F: Fold> Log<F> {
    pub async fn open(
        options: LogOptions,
        seams: Seams,
        codec: Arc<dyn Codec<F>>,
        projector: Arc<dyn Projector<F::Event>>,
        projection: Box<dyn ProjectionStore>,
        identity: Arc<rustls::sign::CertifiedKey>,
    ) -> Result<Self, OpenError> {
        unimplemented!()
    }
    pub async fn initialize(&self, me: Member) -> Result<(), ProposeError> {
        unimplemented!()
    }
    pub fn trust(&self, peers: Vec<Member>) {}
    pub async fn serve(
        &self,
        listener: Box<dyn Listener>,
        routes: tonic::service::Routes,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        unimplemented!()
    }
    pub fn peer_channel(&self, node_id: u64) -> Option<tonic::transport::Channel> {
        unimplemented!()
    }
    pub async fn propose(&self, transaction: Transaction<F::Event>) -> Result<Committed, ProposeError> {
        unimplemented!()
    }
    pub fn read<R>(&self, read: impl FnOnce(&View<'_, F>) -> R) -> R {
        unimplemented!()
    }
    pub async fn read_index(&self) -> Result<u64, ReadError> {
        unimplemented!()
    }
    pub async fn wait_applied(&self, index: u64, timeout: Duration) -> Result<(), ReadError> {
        unimplemented!()
    }
    pub fn applied(&self) -> tokio::sync::watch::Receiver<Mark> {
        unimplemented!()
    }
    pub fn leadership(&self) -> tokio::sync::watch::Receiver<Leadership> {
        unimplemented!()
    }
    pub fn entry(&self, index: u64) -> Result<Option<Arc<AppliedEntry<F::Event>>>, ReadError> {
        unimplemented!()
    }
    pub fn watch(&self, after: Position) -> Result<Watch<F>, ReadError> {
        unimplemented!()
    }
    pub fn lookup(&self, key: &[u8]) -> Option<Vec<u8>> {
        unimplemented!()
    }
    pub fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        unimplemented!()
    }
    pub fn status(&self) -> Status {
        unimplemented!()
    }
    pub async fn add_learner(&self, member: Member) -> Result<(), MembershipError> {
        unimplemented!()
    }
    pub async fn promote(&self, node_id: u64) -> Result<(), MembershipError> {
        unimplemented!()
    }
    pub async fn remove(&self, node_id: u64) -> Result<(), MembershipError> {
        unimplemented!()
    }
    pub async fn transfer_leader(&self, to: u64) -> Result<(), MembershipError> {
        unimplemented!()
    }
    pub async fn request_digest(&self) -> Result<u64, ProposeError> {
        unimplemented!()
    }
    pub fn digests(&self) -> Vec<(u64, [u8; 32])> {
        unimplemented!()
    }
    pub async fn shutdown(&self) {}
}

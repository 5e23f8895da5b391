//! What tests/fuzz calls of what is private here: messages between servers, and snapshot files read and written again.
//!
//! It refuses to exist in builds for users: only the feature `fuzz` opens it.

use std::io;
use std::path::Path;

use bytes::Bytes;
use certwright_core::log::{Codec, Fold};
use certwright_proto::internal::v1::BackfillFrame;
use certwright_seams::disk::{Disk, Open};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse};
use prost::Message;

use crate::consensus::record::{MembershipForm, SnapshotMetaForm, decode, encode};
use crate::consensus::wire::{
    AppendForm, AppendedForm, DeathForm, SnapshotEndForm, SnapshotKeptForm, SnapshotStartForm, TestimonyForm,
    TransferForm, TransferredForm, VoteRequestForm, VoteResponseForm, streamed_form, streamed_result, transferred_form,
    transferred_result,
};
use crate::consensus::{Membership, SnapshotMeta, Types};
use crate::snapshot::content::{Owner, fingerprint, read, write};
use crate::wal::Record;

/// Kinds of messages that [`peer_message`] knows.
pub const PEER_MESSAGES: u8 = 12;

/// Reads a message of that kind as a peer sends it (version octet, then protobuf). What is understood must mean the same
/// after it was written and read again.
///
/// # Panics
/// When it does not.
pub fn peer_message(kind: u8, octets: &Bytes) -> io::Result<()> {
    match kind % PEER_MESSAGES {
        0 => again(octets, |form| {
            AppendEntriesRequest::<Types>::try_from(form).map(|request| AppendForm::from(&request))
        }),
        1 => again(octets, |form: AppendedForm| AppendEntriesResponse::<Types>::try_from(form).map(AppendedForm::from)),
        2 => again(octets, |form: AppendedForm| streamed_result(form).map(streamed_form)),
        3 => again(octets, |form| VoteRequest::<Types>::try_from(form).map(|request| VoteRequestForm::from(&request))),
        4 => again(octets, |form| {
            VoteResponse::<Types>::try_from(form).map(|response| VoteResponseForm::from(&response))
        }),
        5 => again(octets, |form| {
            TransferLeaderRequest::<Types>::try_from(form).map(|request| TransferForm::from(&request))
        }),
        6 => again(octets, |form: TransferredForm| transferred_result(form).map(transferred_form)),
        7 => again(octets, |form| SnapshotMeta::try_from(form).map(|meta| SnapshotMetaForm::from(&meta))),
        8 => again(octets, |form| Membership::try_from(form).map(|membership| MembershipForm::from(&membership))),
        9 => again(octets, |form: SnapshotStartForm| {
            let meta = form.meta.clone().map(SnapshotMeta::try_from).transpose()?;
            Ok(SnapshotStartForm { meta: meta.as_ref().map(SnapshotMetaForm::from), ..form })
        }),
        10 => again(octets, |form: SnapshotEndForm| Ok(form)).and(again(octets, |form: DeathForm| Ok(form))),
        _ => again(octets, |form: TestimonyForm| Ok(form)).and(again(octets, |form: SnapshotKeptForm| Ok(form))),
    }
}

/// The entry in a frame of a backfill, if it is the one that was asked for.
pub fn backfilled(frame: BackfillFrame, expected: u64) -> Result<Record, String> {
    crate::handle::backfill::open(frame, expected)
}

/// Decodes, has it understood and written anew, and does the same with what was written.
fn again<M: Message + Default + Clone + PartialEq + std::fmt::Debug>(
    octets: &Bytes,
    through: impl Fn(M) -> io::Result<M>,
) -> io::Result<()> {
    let written = through(decode("message", octets)?)?;
    let once_more: M = decode("message", &encode(&written)).expect("what was written is a message");
    assert_eq!(once_more, written);
    let same = through(once_more).expect("what was understood is understood again");
    assert_eq!(same, written);
    Ok(())
}

/// Reads a snapshot file, whoever's it is said to be, writes what it holds to another one and reads that. Answers the
/// state's digest.
///
/// # Panics
/// When the second one holds something else.
pub fn snapshot<F: Fold>(
    disk: &dyn Disk,
    (path, other): (&Path, &Path),
    (cluster_id, epoch): ([u8; 16], u64),
    codec: &dyn Codec<F>,
) -> io::Result<[u8; 32]> {
    let owner = Owner { cluster_id, epoch };
    let cut = read::<F>(&*disk.open(path, Open::Read)?, owner, codec)?.cut();
    let digest = fingerprint(owner, codec, &cut);
    write(&*disk.open(other, Open::Create(0o600))?, owner, codec, &cut)?;
    let same = read::<F>(&*disk.open(other, Open::Read)?, owner, codec).expect("what was written is read");
    assert_eq!(fingerprint(owner, codec, &same.cut()), digest);
    Ok(digest)
}

//! Certificates as they were: folded anew from their own stream of the log, onto what the history that is kept begins with.
//!
//! It refuses moments before that, and to guess: while this server lacks entries of the stream, it says so. What other streams
//! do to a certificate is not folded: that its agent joined again and has yet to prove its deliveries anew is not seen, nor that
//! it was to be renewed earlier because log time had been set back.

use std::sync::Arc;

use certwright_core::ids::CertificateName;
use certwright_core::log::{Position, StreamId};
use certwright_core::state::State;
use certwright_core::time::Timestamp;
use certwright_core::{Reason, Rejection};
use certwright_issuance::projector;
use certwright_proto::api::certificate::certificate_to_message;
use certwright_proto::api::values::moment_from_message;
use certwright_proto::v1;
use certwright_proto::v1::get_certificate_request::AsOf;
use certwright_raft::{Effective, ReadError};

use crate::doors::{Doors, read_failed};
use crate::history;
use crate::limits::BEHIND_WAIT;

/// Positions of a stream looked up at a time.
const PAGE: usize = 256;

/// The last entry that counts.
#[derive(Clone, Copy)]
struct Until {
    index: u64,
    /// No later than this; of an index asked for, nothing but the index counts.
    at: Option<Timestamp>,
}

/// A stream folded up to some moment.
struct Folded {
    state: State,
    /// The last transaction about it.
    position: Position,
    at: Timestamp,
}

/// The certificate as it was.
pub(crate) async fn certificate(
    doors: &Arc<Doors>,
    name: &CertificateName,
    as_of: &AsOf,
) -> Result<v1::GetCertificateResponse, Rejection> {
    if let AsOf::Index(index) = as_of {
        let beyond = |error: ReadError| match error {
            ReadError::Behind { applied, .. } => {
                let message = format!("the log of this server ends at {applied}");
                Rejection::field(Reason::InvalidSpec, "index", message)
            }
            other => read_failed(other),
        };
        doors.log.wait_applied(*index, BEHIND_WAIT).await.map_err(beyond)?;
    }
    let (applied, now) = doors.log.read(|view| (view.index, view.at));
    let until = match as_of {
        AsOf::Index(index) => Until { index: *index, at: None },
        AsOf::Time(time) => Until { index: applied, at: Some(moment_from_message("time", time)?.min(now)) },
    };
    let (begins, first) = beginning(doors, name, until).await?;
    let wipes = doors.log.projection_wipes();
    doors.log.wait_projected(until.index, BEHIND_WAIT).await.map_err(read_failed)?;
    let Folded { state, position, at } = fold(doors, &name.stream(), until, (begins, first)).await?;
    // It may have been let go while it was folded: then what was folded onto one beginning lacks entries of before the other.
    if beginning(doors, name, until).await?.1 != first {
        return Err(Rejection::new(Reason::Behind, "older history was let go meanwhile: ask again"));
    }
    if doors.log.projection_wipes() != wipes {
        return Err(Rejection::new(Reason::Behind, "the index of the log is being built anew here"));
    }
    let absent = || Rejection::new(Reason::NotFound, format!("there was no certificate {name} then"));
    let certificate = state.certificates.get(name).ok_or_else(absent)?;
    // Whether it had expired is a question of the moment that was asked for.
    let seen_at = match until.at {
        Some(moment) => moment,
        None => history::stamp(doors, until.index).await?.max(at),
    };
    Ok(v1::GetCertificateResponse {
        certificate: Some(certificate_to_message(certificate, seen_at)),
        token: Some(doors.token(position)),
    })
}

/// The certificate as it was where the history begins that is kept, if that is not after the moment asked for, and the first entry
/// that is not in it.
async fn beginning(doors: &Doors, name: &CertificateName, until: Until) -> Result<(Folded, u64), Rejection> {
    let mut begins = Folded { state: State::default(), position: Position::START, at: Timestamp::EPOCH };
    if doors.log.kept().is_none() {
        return Ok((begins, 0));
    }
    let base = doors.log.first_state().await.map_err(read_failed)?;
    let last = base.last().map_or(0, |last| last.index);
    // It may be of when log time was ahead: by that stamp, nothing would be late enough until the clocks get there.
    let at = history::corrected(doors, last, base.at());
    if until.index < last || until.at.is_some_and(|until| until < at) {
        return Err(doors.too_old("that moment"));
    }
    if let Some(certificate) = base.state().certificates.get(name) {
        begins.state.certificates.insert(certificate.clone());
        (begins.position, begins.at) = (base.state().applied, at);
    }
    Ok((begins, base.floor().first_index))
}

/// Folds what was written to a stream from an entry on, onto what it was before that.
async fn fold(
    doors: &Doors,
    stream: &StreamId,
    until: Until,
    (mut folded, first): (Folded, u64),
) -> Result<Folded, Rejection> {
    let prefix = projector::stream_prefix(stream);
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = doors.log.scan(&prefix, after.as_deref(), PAGE);
        let positions = page.iter().filter_map(|(key, _)| projector::position_of_key(stream, key));
        for position in positions.filter(|position| position.index >= first) {
            if position.index > until.index || !take(doors, stream, position, until.at, &mut folded).await? {
                return Ok(folded);
            }
        }
        match page.into_iter().next_back() {
            Some((last, _)) => after = Some(last),
            None => return Ok(folded),
        }
    }
}

/// Folds one transaction, unless it is later than that.
async fn take(
    doors: &Doors,
    stream: &StreamId,
    position: Position,
    latest: Option<Timestamp>,
    folded: &mut Folded,
) -> Result<bool, Rejection> {
    let found = history::transaction(doors, position).await?;
    let Effective { at, transaction } = found.ok_or_else(|| {
        let message = format!("entry {} of the log is not kept here", position.index);
        Rejection::new(Reason::Behind, message)
    })?;
    let at = history::corrected(doors, position.index, at);
    if latest.is_some_and(|latest| at > latest) {
        return Ok(false);
    }
    for append in transaction.appends.iter().filter(|append| append.stream == *stream) {
        append.fold_into(&mut folded.state, position, at, &transaction.actor);
    }
    (folded.position, folded.at) = (position, at);
    Ok(true)
}

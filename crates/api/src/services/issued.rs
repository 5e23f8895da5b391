//! What was issued, read back from the log: the newest generation, an older one, or a direct issuance by serial.
//!
//! It refuses to keep certificates anywhere else: state says where, the log says what.

use std::sync::Arc;

use certwright_core::event::Issued;
use certwright_core::ids::{CertificateName, InstanceId, Serial};
use certwright_core::log::{Position, StreamId};
use certwright_core::policy::{Action, Resource};
use certwright_core::{Reason, Rejection};
use certwright_issuance::order::IssuedAnswer;
use certwright_issuance::{chain, projector};
use certwright_proto::api::names::IssuedName;
use certwright_proto::{api, v1};
use tonic::{Request, Status};

use super::issue::response;
use crate::doors::Doors;
use crate::{auth, history, refuse};

/// Positions of a stream looked up at a time.
const PAGE: usize = 256;

/// Answers `GetIssued`.
pub(crate) async fn get(
    doors: &Arc<Doors>,
    request: Request<v1::GetIssuedRequest>,
) -> Result<v1::GetIssuedResponse, Status> {
    auth::allow(&auth::caller(&request)?, Action::Read, &Resource::Certificates)?;
    let request = request.into_inner();
    let found = match api::names::issued(&request.name).map_err(refuse::status)? {
        IssuedName::Direct(serial) => direct(doors, serial).await,
        IssuedName::Certificate(name) => stored(doors, name, &request).await,
    };
    let (issued, position) = found.map_err(refuse::status)?;
    let chain = doors.log.read(|view| chain::of(view.state, &issued.authority)).map_err(refuse::status)?;
    Ok(v1::GetIssuedResponse {
        instance: issued.instance.map_or_else(|| issued.serial.to_string(), |it| it.to_string()),
        generation: issued.generation,
        issued: Some(response(doors, IssuedAnswer { issued, chain, position })),
    })
}

async fn direct(doors: &Arc<Doors>, serial: Serial) -> Result<(Issued, Position), Rejection> {
    let position = doors.log.lookup(&projector::serial_key(&serial)).and_then(|it| projector::decode_position(&it));
    let position = position.ok_or_else(|| absent(format!("no certificate with serial {serial} is known here")))?;
    at(doors, position, |issued| issued.serial == serial).await
}

async fn stored(
    doors: &Arc<Doors>,
    name: CertificateName,
    request: &v1::GetIssuedRequest,
) -> Result<(Issued, Position), Rejection> {
    let instance = match request.instance.as_str() {
        "" => None,
        text => Some(api::values::instance("instance", text)?),
    };
    let (id, newest) = newest(doors, &name, instance)?;
    match newest {
        Some((generation, position)) if request.generation == 0 || request.generation == generation => {
            at(doors, position, |it| it.instance == Some(id) && it.generation == generation).await
        }
        Some(_) => older(doors, &name, id, request.generation).await,
        None => Err(absent(format!("{name} has no certificate yet"))),
    }
}

type Newest = (InstanceId, Option<(u64, Position)>);

/// The instance asked for, or the only one, and where its newest generation is.
fn newest(doors: &Doors, name: &CertificateName, instance: Option<InstanceId>) -> Result<Newest, Rejection> {
    doors.log.read(|view| {
        let certificate = view.state.certificates.get(name);
        let certificate = certificate.ok_or_else(|| absent(format!("there is no certificate {name}")))?;
        let instance = match (instance, certificate.instances.as_slice()) {
            (Some(id), _) => certificate.instance(id).ok_or_else(|| absent(format!("{name} has no instance {id}")))?,
            (None, [only]) => only,
            (None, []) => return Err(absent(format!("{name} has no instance yet"))),
            (None, many) => {
                let why = format!("{name} has {} instances: say which", many.len());
                return Err(Rejection::field(Reason::InvalidSpec, "instance", why));
            }
        };
        Ok((instance.id, instance.current.map(|current| (current.generation, current.position))))
    })
}

/// An older generation, found among the positions of its certificate's stream.
async fn older(
    doors: &Arc<Doors>,
    name: &CertificateName,
    id: InstanceId,
    generation: u64,
) -> Result<(Issued, Position), Rejection> {
    let stream: StreamId = name.stream();
    let prefix = projector::stream_prefix(&stream);
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = doors.log.scan(&prefix, after.as_deref(), PAGE);
        for (key, _) in &page {
            let Some(position) = projector::position_of_key(&stream, key) else { continue };
            let fits = |it: &Issued| it.instance == Some(id) && it.generation == generation;
            match at(doors, position, fits).await {
                Err(rejection) if [Reason::NotFound, Reason::TokenTooOld].contains(&rejection.reason) => {}
                found => return found,
            }
        }
        match page.into_iter().next_back() {
            Some((last, _)) => after = Some(last),
            None => return Err(absent(format!("{name} has no generation {generation}"))),
        }
    }
}

async fn at(
    doors: &Arc<Doors>,
    position: Position,
    fits: impl Fn(&Issued) -> bool,
) -> Result<(Issued, Position), Rejection> {
    let found = history::transaction(doors, position).await?;
    if found.is_none() && position.index < doors.first_kept() {
        return Err(doors.too_old("that certificate, which has ended,"));
    }
    let issued = found.and_then(|found| history::issued(found.transaction, fits));
    issued.map(|issued| (issued, position)).ok_or_else(|| absent(format!("nothing was issued at {position}")))
}

fn absent(why: String) -> Rejection {
    Rejection::new(Reason::NotFound, why)
}

//! Direct issuance: one CSR, one certificate, one call or many on a stream.
//!
//! It refuses to answer before the certificate is in the log of a majority.

use std::sync::Arc;

use certwright_core::Rejection;
use certwright_core::ids::Actor;
use certwright_core::policy::{Action, Resource};
use certwright_issuance::order::{Call, IssueOrder, IssuedAnswer, ValidatedAnswer};
use certwright_proto::api::certificate::issued_to_message;
use certwright_proto::api::values::{moment_to_message, span_from_optional, span_to_message};
use certwright_proto::status::from_status;
use certwright_proto::v1::issue_stream_response::Result as Outcome;
use certwright_proto::{api, v1};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use crate::dispatch::{Method, execute};
use crate::doors::Doors;
use crate::limits::STREAM_IN_FLIGHT_MAX;
use crate::listener::Caller;
use crate::{auth, refuse, trace};

/// Signs one request without stored intent.
pub(crate) struct Issue;

impl Method for Issue {
    const PATH: &'static str = "/certwright.v1.Certificates/Issue";
    type Request = v1::IssueRequest;
    type Response = v1::IssueResponse;

    fn request_id(request: &Self::Request) -> &str {
        &request.request_id
    }

    fn right(_: &Actor) -> (Action, Resource) {
        (Action::Issue, Resource::Issuers)
    }

    async fn run(doors: &Arc<Doors>, call: Call, request: Self::Request) -> Result<Self::Response, Rejection> {
        let order = IssueOrder {
            issuer: api::names::issuer(&request.issuer)?,
            csr: request.csr.into(),
            duration: span_from_optional("duration", request.duration.as_ref())?,
            usages: api::spec::usages("usages", &request.usages)?,
        };
        match request.validate_only {
            true => doors.control.validate(call, order).await.map(|answer| validated(doors, answer)),
            false => doors.control.issue(call, order).await.map(|answer| response(doors, answer)),
        }
    }
}

/// What would be issued: no serial, no certificate.
fn validated(doors: &Doors, answer: ValidatedAnswer) -> v1::IssueResponse {
    v1::IssueResponse {
        chain: answer.chain.iter().map(|der| der.to_vec().into()).collect(),
        not_before: Some(moment_to_message(answer.not_before)),
        not_after: Some(moment_to_message(answer.not_after)),
        token: Some(doors.token(answer.position)),
        ..v1::IssueResponse::default()
    }
}

/// A certificate as the API answers it.
pub(super) fn response(doors: &Doors, answer: IssuedAnswer) -> v1::IssueResponse {
    let token = doors.token(answer.position);
    issued_to_message(&answer.issued, &answer.chain, token, answer.position.index)
}

/// Many requests on one stream, at most `STREAM_IN_FLIGHT_MAX` under way; more wait in the caller's socket.
pub(crate) fn stream(
    doors: &Arc<Doors>,
    request: Request<Streaming<v1::IssueRequest>>,
) -> Result<ReceiverStream<Result<v1::IssueStreamResponse, Status>>, Status> {
    let caller = auth::caller(&request)?;
    auth::allow(&caller, Action::Issue, &Resource::Issuers)?;
    doors.open().map_err(refuse::status)?;
    let (answers, outgoing) = mpsc::channel(STREAM_IN_FLIGHT_MAX);
    let trace = trace::of(request.metadata());
    let (doors, mut incoming) = (doors.clone(), request.into_inner());
    let caller = Arc::new(caller);
    tokio::spawn(async move {
        let under_way = Arc::new(Semaphore::new(STREAM_IN_FLIGHT_MAX));
        let end = loop {
            let next = async { (under_way.clone().acquire_owned().await, incoming.message().await) };
            let (permit, next) = tokio::select! {
                biased;
                () = doors.draining.cancelled() => break doors.open().err().map(refuse::status),
                next = next => next,
            };
            let request = match next {
                Ok(Some(request)) => request,
                Ok(None) => return,
                // A message too large, for one: whoever still listens is told.
                Err(status) => break Some(status),
            };
            let (doors, caller, answers) = (doors.clone(), caller.clone(), answers.clone());
            tokio::spawn(async move {
                let answer = one(&doors, &caller, trace, request).await;
                // A caller that is gone finds the certificate in the log; one that does not read is not read either.
                let _ = answers.send(Ok(answer)).await;
                drop(permit);
            });
        };
        // What is under way is still answered, certificates that are in the log by now: a stream ends with its first error.
        let _ = under_way.acquire_many(STREAM_IN_FLIGHT_MAX as u32).await;
        if let Some(status) = end {
            let _ = answers.send(Err(status)).await;
        }
    });
    Ok(ReceiverStream::new(outgoing))
}

async fn one(
    doors: &Arc<Doors>,
    caller: &Caller,
    trace: certwright_core::log::Trace,
    request: v1::IssueRequest,
) -> v1::IssueStreamResponse {
    let id = request.id;
    let result = match execute::<Issue>(doors, caller, trace, request).await {
        Ok(issued) => Outcome::Issued(issued),
        Err(status) => {
            let refused = from_status(&status);
            Outcome::Failure(v1::IssueFailure {
                reason: refused.code,
                message: refused.message,
                retry_after: refused.retry_after.map(span_to_message),
            })
        }
    };
    v1::IssueStreamResponse { id, result: Some(result) }
}

//! What an agent sends: CSRs, reports and identity requests, forwarded to the leader and answered on the session.
//!
//! It refuses to drop: what cannot be taken now stays in the agent's socket, what failed is answered with its reason.

use std::sync::Arc;

use certwright_core::ids::{Actor, InstanceId};
use certwright_core::limits::REFUSAL_PATH_OCTETS_MAX;
use certwright_core::log::Trace;
use certwright_core::policy::{Action, Resource};
use certwright_core::{Reason, Rejection, rejection};
use certwright_issuance::order::{self, Call};
use certwright_proto::agent::v1::agent_message::Kind as Up;
use certwright_proto::agent::v1::server_message::Kind as Down;
use certwright_proto::agent::v1::{
    AgentMessage, CsrAnswer, CsrSubmission, HeldCertificate, IdentityIssued, IdentityRenewal, Report as WireReport,
    ReportAck,
};
use certwright_proto::api::names;
use certwright_proto::api::session::{report_from_message, submission_from_message};
use certwright_proto::api::values::span_to_message;
use certwright_proto::internal::v1::{HeldResponse, ReportBatch};
use certwright_proto::status::{Refusal, from_status};
use certwright_proto::v1;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tonic::Streaming;

use super::{Over, Session};
use crate::dispatch::{Method, execute};
use crate::doors::Doors;
use crate::limits::{HELD_ATTEMPTS_MAX, REPORT_BATCH_MAX, REPORT_LINGER, RETRY_DELAY, STREAM_IN_FLIGHT_MAX};
use crate::listener::Caller;
use crate::services::{identity_response, own_agent};
use crate::trace;

/// Reads until the agent or the stream ends.
pub(super) async fn serve(session: Arc<Session>, caller: Caller, mut incoming: Streaming<AgentMessage>) {
    let caller = Arc::new(caller);
    let under_way = Arc::new(Semaphore::new(STREAM_IN_FLIGHT_MAX));
    let (reports, batches) = mpsc::channel(STREAM_IN_FLIGHT_MAX);
    tokio::spawn(report_all(session.clone(), caller.clone(), batches));
    loop {
        let message = match incoming.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return,
            // A message too large, for one: whoever still listens is told, once everything before is answered, because a
            // stream ends with its first error.
            Err(status) => {
                let _ = under_way.acquire_many(STREAM_IN_FLIGHT_MAX as u32).await;
                return drop(session.out.send(Err(status)).await);
            }
        };
        let trace = trace::parse(&message.traceparent);
        let Ok(permit) = under_way.clone().acquire_owned().await else { return };
        let (doors, by) = (session.doors.clone(), caller.clone());
        match message.kind {
            Some(Up::Csr(csr)) => session.answer(permit, trace, submit(doors, by, trace, csr)),
            Some(Up::Identity(renewal)) => session.answer(permit, trace, renew_identity(doors, by, trace, renewal)),
            Some(Up::Report(report)) => {
                if reports.send((report, trace)).await.is_err() {
                    return;
                }
            }
            Some(Up::Heartbeat(_)) => {
                if session.heartbeat().await.is_err() {
                    return;
                }
            }
            Some(Up::Held(held)) => {
                let agent = session.clone();
                tokio::spawn(async move {
                    agent.adopt(doors, by, trace, held).await;
                    drop(permit);
                });
            }
            Some(Up::CheckpointRefused(refused)) => session.checkpoint_refused(&refused),
            // A second hello, or something newer than this server: nothing that it could answer.
            Some(Up::Hello(_)) | None => {}
        }
    }
}

/// Has the leader answer a request for a generation; what it refused is an answer too.
async fn submit(doors: Arc<Doors>, caller: Arc<Caller>, trace: Trace, csr: CsrSubmission) -> Down {
    let answer = CsrAnswer { instance: csr.instance.clone(), generation: csr.generation, ..CsrAnswer::default() };
    Down::CsrAnswer(match execute::<SubmitCsr>(&doors, &caller, trace, csr).await {
        Ok(_) => answer,
        Err(status) => {
            let Refusal { code, message, retry_after, .. } = from_status(&status);
            CsrAnswer { reason: code, message, retry_after: retry_after.map(span_to_message), ..answer }
        }
    })
}

/// Has the leader renew the agent's identity.
async fn renew_identity(doors: Arc<Doors>, caller: Arc<Caller>, trace: Trace, renewal: IdentityRenewal) -> Down {
    Down::Identity(match execute::<RenewAgentIdentity>(&doors, &caller, trace, renewal).await {
        Ok(v1::IdentityResponse { certificate, chain, .. }) => {
            IdentityIssued { certificate, chain, ..IdentityIssued::default() }
        }
        Err(status) => {
            let Refusal { code, message, .. } = from_status(&status);
            IdentityIssued { reason: code, message, ..IdentityIssued::default() }
        }
    })
}

impl Session {
    /// Has the leader look at a certificate that the agent holds and the log does not know. What becomes of it comes as an
    /// assignment.
    async fn adopt(&self, doors: Arc<Doors>, caller: Arc<Caller>, trace: Trace, held: HeldCertificate) {
        let (certificate, generation) = (held.certificate.clone(), held.generation);
        let mut attempts = 0..HELD_ATTEMPTS_MAX;
        let outcome = loop {
            let refusal = match execute::<AdoptHeld>(&doors, &caller, trace, held.clone()).await {
                Ok(HeldResponse { outcome }) => break outcome,
                Err(status) => from_status(&status),
            };
            // It may have been taken, or be compared with a newer specification in a moment.
            let passes = matches!(refusal.reason, Reason::Moved | Reason::OutcomeUnknown).then_some(RETRY_DELAY);
            match (refusal.retry_after.or(passes), attempts.next()) {
                (Some(wait), Some(_)) => tokio::time::sleep(wait).await,
                _ => break refusal.code.to_lowercase(),
            }
        };
        let certificate = rejection::told(certificate, REFUSAL_PATH_OCTETS_MAX);
        tracing::warn!(agent = %self.agent, certificate, generation, outcome, "an agent holds what the log does not know");
        self.doors.metrics.held_certificates.with_label_values(&[&outcome]).inc();
    }

    /// Waits for one answer of the leader's beside others and passes it on.
    fn answer(
        self: &Arc<Self>,
        permit: OwnedSemaphorePermit,
        trace: Trace,
        asked: impl Future<Output = Down> + Send + 'static,
    ) {
        let session = self.clone();
        tokio::spawn(async move {
            // A stream that is over has nobody to be told; the agent asks again on the next one.
            let _ = session.send(asked.await, trace::format(&trace)).await;
            drop(permit);
        });
    }

    /// Offers reports to the leader until it has taken or refused them; then the agent may let go of them.
    async fn report(&self, caller: &Caller, trace: Trace, mut reports: Vec<WireReport>) -> Result<(), Over> {
        let batch = ReportBatch { reports: reports.clone() };
        let refused = self.offer(caller, trace, batch).await?;
        if refused && reports.len() > 1 {
            // One of them spoils the batch: each by itself, so that the others get through.
            for report in &reports {
                self.offer(caller, trace, ReportBatch { reports: vec![report.clone()] }).await?;
            }
        }
        for report in reports.drain(..) {
            self.send(Down::ReportAck(ReportAck { id: report.id }), String::new()).await?;
        }
        Ok(())
    }

    /// Offers one batch as often as it takes; says whether it was refused for good.
    async fn offer(&self, caller: &Caller, trace: Trace, batch: ReportBatch) -> Result<bool, Over> {
        loop {
            let Err(status) = execute::<Report>(&self.doors, caller, trace, batch.clone()).await else {
                return Ok(false);
            };
            let refused = from_status(&status);
            let Some(delay) =
                refused.retry_after.or((refused.reason == Reason::OutcomeUnknown).then_some(REPORT_LINGER))
            else {
                tracing::warn!(agent = %self.agent, reason = %refused.code, cause = %refused.message, "reports were refused");
                return Ok(true);
            };
            if self.out.is_closed() {
                return Err(Over);
            }
            tokio::time::sleep(delay).await;
        }
    }
}

/// Coalesces reports into batches and offers them one after the other.
async fn report_all(session: Arc<Session>, caller: Arc<Caller>, mut incoming: mpsc::Receiver<(WireReport, Trace)>) {
    while let Some((first, trace)) = incoming.recv().await {
        let mut reports = vec![first];
        let linger = tokio::time::sleep(REPORT_LINGER);
        tokio::pin!(linger);
        while reports.len() < REPORT_BATCH_MAX {
            tokio::select! {
                biased;
                more = incoming.recv() => match more {
                    Some((report, _)) => reports.push(report),
                    None => break,
                },
                () = &mut linger => break,
            }
        }
        if session.report(&caller, trace, reports).await.is_err() {
            return;
        }
    }
}

/// `agent/csr`: answers an open issuance.
pub(crate) struct SubmitCsr;

impl Method for SubmitCsr {
    const PATH: &'static str = "agent/csr";
    type Request = CsrSubmission;
    type Response = v1::Token;

    fn right(actor: &Actor) -> (Action, Resource) {
        own_agent(actor, Action::SubmitCsr)
    }

    async fn run(doors: &Arc<Doors>, call: Call, request: CsrSubmission) -> Result<v1::Token, Rejection> {
        let asked = submission_from_message(request)?;
        let submission = order::CsrSubmission {
            certificate: asked.certificate,
            instance: asked.instance,
            generation: asked.generation,
            csr: asked.csr.to_vec(),
        };
        let outcome = doors.control.submit_csr(call, submission).await?;
        Ok(doors.token(outcome.position))
    }
}

/// `agent/held`: a certificate of before a restore.
pub(crate) struct AdoptHeld;

impl Method for AdoptHeld {
    const PATH: &'static str = "agent/held";
    type Request = HeldCertificate;
    type Response = HeldResponse;

    fn right(actor: &Actor) -> (Action, Resource) {
        own_agent(actor, Action::SubmitCsr)
    }

    async fn run(doors: &Arc<Doors>, call: Call, request: HeldCertificate) -> Result<Self::Response, Rejection> {
        let malformed = || Rejection::field(Reason::InvalidName, "instance", "it is no instance".to_owned());
        let held = order::Held {
            certificate: names::certificate(&request.certificate)?,
            instance: InstanceId::parse(&request.instance).ok_or_else(malformed)?,
            generation: request.generation,
            der: request.der.to_vec(),
        };
        let adopted = doors.control.adopt(call, held).await?;
        Ok(HeldResponse { outcome: adopted.name().to_owned() })
    }
}

/// `agent/reports`: deliveries of one agent, coalesced.
pub(crate) struct Report;

impl Method for Report {
    const PATH: &'static str = "agent/reports";
    type Request = ReportBatch;
    type Response = v1::Token;

    fn right(actor: &Actor) -> (Action, Resource) {
        own_agent(actor, Action::Report)
    }

    async fn run(doors: &Arc<Doors>, call: Call, request: ReportBatch) -> Result<v1::Token, Rejection> {
        let deliveries = request.reports.iter().map(report_from_message).collect::<Result<_, _>>()?;
        let outcome = doors.control.report(call, deliveries).await?;
        Ok(doors.token(outcome.position))
    }
}

/// `agent/identity`: a new certificate for the agent itself.
pub(crate) struct RenewAgentIdentity;

impl Method for RenewAgentIdentity {
    const PATH: &'static str = "agent/identity";
    type Request = IdentityRenewal;
    type Response = v1::IdentityResponse;

    fn right(actor: &Actor) -> (Action, Resource) {
        own_agent(actor, Action::RenewIdentity)
    }

    async fn run(doors: &Arc<Doors>, call: Call, request: IdentityRenewal) -> Result<v1::IdentityResponse, Rejection> {
        if !matches!(call.actor, Actor::Agent(_)) {
            return Err(Rejection::new(Reason::PermissionDenied, "sessions are for agents"));
        }
        let answer = doors.control.renew_identity(call, request.csr.to_vec()).await?;
        Ok(identity_response(doors, answer))
    }
}

//! `certwright.v1.Certificates`: intent, renewals and what became of them.
//!
//! It refuses to sign: `issue` takes direct issuances, `issued` reads what was issued.

use std::sync::Arc;

use certwright_core::command::{Command, Etag};
use certwright_core::ids::{Actor, CertificateName};
use certwright_core::policy::{Action, Resource};
use certwright_core::state::Certificate;
use certwright_core::{Reason, Rejection};
use certwright_issuance::order::{Call, Outcome};
use certwright_proto::api::certificate::{CertificateWish, certificate_from_message, certificate_to_message};
use certwright_proto::v1::certificates_server::Certificates;
use certwright_proto::{api, v1};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Api, issue, issued};
use crate::dispatch::Method;
use crate::doors::Doors;
use crate::filter::Filter;
use crate::{paging, past, refuse};

#[tonic::async_trait]
impl Certificates for Api {
    async fn get_certificate(
        &self,
        request: Request<v1::GetCertificateRequest>,
    ) -> Result<Response<v1::GetCertificateResponse>, Status> {
        let (name, min_token) = (request.get_ref().name.clone(), request.get_ref().min_token.clone());
        let method = ("certwright.v1.Certificates/GetCertificate", Resource::Certificates);
        if let Some(as_of) = request.get_ref().as_of {
            let past = async {
                self.doors.catch_up(min_token.as_ref()).await?;
                past::certificate(&self.doors, &api::names::certificate(&name)?, &as_of).await
            };
            return self.answer(&request, method, async { past.await.map_err(refuse::status) }).await;
        }
        self.read(&request, method, min_token.as_ref(), |view| {
            let name = api::names::certificate(&name)?;
            let certificate = view.state.certificates.get(&name).ok_or_else(|| absent(&name))?;
            Ok(v1::GetCertificateResponse {
                certificate: Some(certificate_to_message(certificate, view.at)),
                token: Some(self.doors.token(view.position)),
            })
        })
        .await
    }

    async fn list_certificates(
        &self,
        request: Request<v1::ListCertificatesRequest>,
    ) -> Result<Response<v1::ListCertificatesResponse>, Status> {
        let asked = request.get_ref().clone();
        let method = ("certwright.v1.Certificates/ListCertificates", Resource::Certificates);
        self.read(&request, method, asked.min_token.as_ref(), |view| {
            let (page, next) = page(&asked, view, self.doors.bounds.page_scan)?;
            Ok(v1::ListCertificatesResponse {
                certificates: page,
                next_page_token: next,
                token: Some(self.doors.token(view.position)),
            })
        })
        .await
    }

    async fn create_certificate(
        &self,
        request: Request<v1::CreateCertificateRequest>,
    ) -> Result<Response<v1::CertificateResponse>, Status> {
        self.command::<CreateCertificate>(request).await
    }

    async fn update_certificate(
        &self,
        request: Request<v1::UpdateCertificateRequest>,
    ) -> Result<Response<v1::CertificateResponse>, Status> {
        self.command::<UpdateCertificate>(request).await
    }

    async fn delete_certificate(
        &self,
        request: Request<v1::DeleteCertificateRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        self.command::<DeleteCertificate>(request).await
    }

    async fn renew_certificate(
        &self,
        request: Request<v1::RenewCertificateRequest>,
    ) -> Result<Response<v1::CertificateResponse>, Status> {
        self.command::<RenewCertificate>(request).await
    }

    async fn issue(&self, request: Request<v1::IssueRequest>) -> Result<Response<v1::IssueResponse>, Status> {
        self.command::<issue::Issue>(request).await
    }

    type IssueStreamStream = ReceiverStream<Result<v1::IssueStreamResponse, Status>>;

    async fn issue_stream(
        &self,
        request: Request<Streaming<v1::IssueRequest>>,
    ) -> Result<Response<Self::IssueStreamStream>, Status> {
        issue::stream(&self.doors, request).map(Response::new)
    }

    async fn get_issued(
        &self,
        request: Request<v1::GetIssuedRequest>,
    ) -> Result<Response<v1::GetIssuedResponse>, Status> {
        issued::get(&self.doors, request).await.map(Response::new)
    }
}

fn absent(name: &CertificateName) -> Rejection {
    Rejection::new(Reason::NotFound, format!("there is no certificate {name}"))
}

type View<'a> = certwright_raft::View<'a, certwright_core::State>;

/// One page of certificates, found among the next `scan` of them, and the token of the next page.
fn page(
    asked: &v1::ListCertificatesRequest,
    view: &View<'_>,
    scan: usize,
) -> Result<(Vec<v1::Certificate>, String), Rejection> {
    let (size, filter) = (paging::size(asked.page_size)?, Filter::parse(&asked.filter)?);
    let namespace = api::names::parent(&asked.parent)?;
    let after = match paging::start(&asked.page_token)? {
        Some(last) => Some(api::names::certificate(&last)?),
        None => None,
    };
    let (mut found, mut last, mut next) = (Vec::new(), None, String::new());
    for (seen, certificate) in view.state.certificates.after(after.as_ref()).enumerate() {
        if found.len() == size || seen == scan {
            next = last.map(|it: &Certificate| paging::token_after(it.name.stream().as_str())).unwrap_or_default();
            break;
        }
        last = Some(certificate);
        let inside = namespace.as_ref().is_none_or(|namespace| *namespace == certificate.name.namespace);
        if inside && filter.matches(certificate, view.at) {
            found.push(certificate_to_message(certificate, view.at));
        }
    }
    Ok((found, next))
}

/// The answer to a write: the certificate as it is now, or as it was asked for when nothing was to happen.
fn answer(
    doors: &Doors,
    name: &CertificateName,
    asked: Option<v1::Certificate>,
    outcome: Outcome,
) -> v1::CertificateResponse {
    let stored = doors.log.read(|view| view.state.certificates.get(name).map(|it| certificate_to_message(it, view.at)));
    v1::CertificateResponse {
        certificate: stored.or(asked),
        token: Some(doors.token(outcome.position)),
        unchanged: outcome.unchanged,
    }
}

/// Creates what is not there.
pub(crate) struct CreateCertificate;

impl Method for CreateCertificate {
    const PATH: &'static str = "/certwright.v1.Certificates/CreateCertificate";
    type Request = v1::CreateCertificateRequest;
    type Response = v1::CertificateResponse;

    fn request_id(request: &Self::Request) -> &str {
        &request.request_id
    }

    fn right(_: &Actor) -> (Action, Resource) {
        (Action::Create, Resource::Certificates)
    }

    async fn run(doors: &Arc<Doors>, call: Call, request: Self::Request) -> Result<Self::Response, Rejection> {
        let call = Call { validate_only: request.validate_only, ..call };
        let CertificateWish { name, spec, .. } = certificate_from_message(request.certificate.clone())?;
        let command = Command::CreateCertificate { name: name.clone(), spec };
        let outcome = doors.control.execute(call, command).await?;
        Ok(answer(doors, &name, request.certificate, outcome))
    }
}

/// Replaces the specification; with `allow_missing` creates what is not there.
pub(crate) struct UpdateCertificate;

impl Method for UpdateCertificate {
    const PATH: &'static str = "/certwright.v1.Certificates/UpdateCertificate";
    type Request = v1::UpdateCertificateRequest;
    type Response = v1::CertificateResponse;

    fn request_id(request: &Self::Request) -> &str {
        &request.request_id
    }

    fn right(_: &Actor) -> (Action, Resource) {
        (Action::Update, Resource::Certificates)
    }

    async fn run(doors: &Arc<Doors>, call: Call, request: Self::Request) -> Result<Self::Response, Rejection> {
        let call = Call { validate_only: request.validate_only, ..call };
        let CertificateWish { name, etag, spec } = certificate_from_message(request.certificate.clone())?;
        let create = Command::CreateCertificate { name: name.clone(), spec: spec.clone() };
        let update = Command::UpdateCertificate { name: name.clone(), etag, spec };
        let exists = doors.log.read(|view| view.state.certificates.contains(&name));
        let outcome = match request.allow_missing {
            true => super::either(doors, call, exists, create, update).await?,
            false => doors.control.execute(call, update).await?,
        };
        Ok(answer(doors, &name, request.certificate, outcome))
    }
}

/// Deletes the intent; what agents hold stays where it is.
pub(crate) struct DeleteCertificate;

impl Method for DeleteCertificate {
    const PATH: &'static str = "/certwright.v1.Certificates/DeleteCertificate";
    type Request = v1::DeleteCertificateRequest;
    type Response = v1::DeleteResponse;

    fn request_id(request: &Self::Request) -> &str {
        &request.request_id
    }

    fn right(_: &Actor) -> (Action, Resource) {
        (Action::Delete, Resource::Certificates)
    }

    async fn run(doors: &Arc<Doors>, call: Call, request: Self::Request) -> Result<Self::Response, Rejection> {
        let call = Call { validate_only: request.validate_only, ..call };
        let name = api::names::certificate(&request.name)?;
        let command = Command::DeleteCertificate { name, etag: Etag(request.etag) };
        let outcome = doors.control.execute(call, command).await?;
        Ok(v1::DeleteResponse { token: Some(doors.token(outcome.position)) })
    }
}

/// Opens a new generation of every instance.
pub(crate) struct RenewCertificate;

impl Method for RenewCertificate {
    const PATH: &'static str = "/certwright.v1.Certificates/RenewCertificate";
    type Request = v1::RenewCertificateRequest;
    type Response = v1::CertificateResponse;

    fn request_id(request: &Self::Request) -> &str {
        &request.request_id
    }

    fn right(_: &Actor) -> (Action, Resource) {
        (Action::Renew, Resource::Certificates)
    }

    async fn run(doors: &Arc<Doors>, call: Call, request: Self::Request) -> Result<Self::Response, Rejection> {
        let name = api::names::certificate(&request.name)?;
        let outcome = doors.control.execute(call, Command::RenewCertificate { name: name.clone() }).await?;
        Ok(answer(doors, &name, None, outcome))
    }
}

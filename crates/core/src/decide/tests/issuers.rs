//! Issuers.

use crate::command::{Command, Etag};
use crate::event::Event;
use crate::rejection::Reason;
use crate::spec::{AuthorityPurpose, AuthoritySpec, IssuerSpec};
use crate::tests::fixtures::*;
use crate::tests::harness::given;

fn create(name: &str, spec: IssuerSpec) -> Command {
    Command::CreateIssuer { name: issuer(name), spec }
}

fn update(etag: &str, spec: IssuerSpec) -> Command {
    Command::UpdateIssuer { name: issuer("demo"), etag: Etag(etag.to_owned()), spec }
}

fn delete(etag: &str) -> Command {
    Command::DeleteIssuer { name: issuer("demo"), etag: Etag(etag.to_owned()) }
}

fn shorter() -> IssuerSpec {
    IssuerSpec { max_duration: Some(std::time::Duration::from_secs(3600)), ..issuer_spec("root") }
}

#[test]
fn create_needs_an_issuing_authority() {
    let declared = Event::IssuerDeclared { name: issuer("second"), spec: issuer_spec("root") };
    given(estate())
        .when(create("second", issuer_spec("root")))
        .guarded_by(&[authority("root").stream()])
        .then([(issuer("second").stream(), declared)]);
    given(estate()).when(create("demo", issuer_spec("root"))).then_rejected(Reason::AlreadyExists);
    given(estate())
        .when(create("second", issuer_spec("nobody")))
        .then_rejected_at(Reason::NotFound, "spec.ca.authority");
    let mut events = estate();
    let system = Event::AuthorityDeclared {
        name: authority("system"),
        spec: AuthoritySpec { purpose: AuthorityPurpose::System, ..authority_spec(None) },
        public_key: vec![1],
        sealed_key: sealed(),
    };
    events.push((authority("system").stream(), system));
    given(events)
        .when(create("second", issuer_spec("system")))
        .then_rejected_at(Reason::InvalidSpec, "spec.ca.authority");
}

#[test]
fn update_heeds_etag_and_equality() {
    let updated = (issuer("demo").stream(), Event::IssuerUpdated { spec: shorter() });
    given(estate()).when(update("6-0.1", shorter())).then([updated.clone()]);
    given(estate()).when(update("", shorter())).then([updated]);
    given(estate()).when(update("", issuer_spec("root"))).then_unchanged();
    given(estate()).when(update("6-0.2", shorter())).then_rejected(Reason::EtagMismatch);
    let nobody = Command::UpdateIssuer { name: issuer("nobody"), etag: Etag::default(), spec: shorter() };
    given(estate()).when(nobody).then_rejected(Reason::NotFound);
}

#[test]
fn delete_is_refused_while_certificates_name_it() {
    let rejection = given(estate()).when(delete("")).then_rejected(Reason::InUse);
    assert!(rejection.message.contains("default/web"), "{rejection}");
    let mut world = given(estate());
    world.must(&Command::DeleteCertificate { name: name("web"), etag: Etag::default() });
    let world = world.when(delete("6-0.1")).then([(issuer("demo").stream(), Event::IssuerDeleted)]);
    world.when(delete("")).then_rejected(Reason::NotFound);
}

//! Every reason goes over the wire and back; what is not ours becomes the nearest reason.

#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn every_reason_goes_there_and_back() {
    for &reason in Reason::ALL {
        for rejection in [
            Rejection::new(reason, "why"),
            Rejection::field(reason, "spec.dnsNames[3]", "why"),
            Rejection::object(reason, "tokens/ab", "why"),
        ] {
            let status = to_status(&rejection);
            assert_eq!(status.code(), code(reason.class()), "{reason:?}");
            assert_ne!(status.code(), Code::Ok);
            let refusal = from_status(&status);
            assert_eq!(refusal.code, reason.code());
            assert_eq!(refusal.retry_after, retry_after(reason.class()));
            assert_eq!(Rejection::from(refusal), rejection);
        }
    }
}

#[test]
fn details_are_what_other_clients_expect() {
    let status = to_status(&Rejection::field(Reason::InvalidSpec, "spec.duration", "shorter than 10 s"));
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!((&*info.reason, &*info.domain), ("INVALID_SPEC", "certwright.dev"));
    assert_eq!(info.metadata["field"], "spec.duration");
    assert_eq!(info.metadata["fix"], Reason::InvalidSpec.fix());
    let violation = &details.bad_request().unwrap().field_violations[0];
    assert_eq!((&*violation.field, &*violation.description), ("spec.duration", "shorter than 10 s"));
    assert!(details.retry_info().is_none());
}

#[test]
fn no_leader_is_worth_repeating_within_50_ms() {
    let refusal = from_status(&to_status(&Rejection::new(Reason::NoLeader, "an election is under way")));
    assert!(refusal.retry_after.unwrap() <= Duration::from_millis(50));
    let after = to_status_after(&Rejection::new(Reason::Overloaded, "too many"), Duration::from_secs(3));
    assert_eq!(from_status(&after).retry_after, Some(Duration::from_secs(3)));
}

#[test]
fn exit_codes() {
    let table = [
        (Reason::InvalidManifest, 1),
        (Reason::NotFound, 1),
        (Reason::CsrNotAllowed, 1),
        (Reason::NoLeader, 1),
        (Reason::Unauthenticated, 4),
        (Reason::PermissionDenied, 4),
        (Reason::PolicyDenied, 4),
        (Reason::TokenUsed, 1),
        (Reason::TokenExpired, 1),
        (Reason::TokenForeign, 1),
        (Reason::OutcomeUnknown, 8),
    ];
    for (reason, code) in table {
        assert_eq!(Exit::of(reason).code(), code, "{reason:?}");
    }
    let all = [Exit::Success, Exit::Failed, Exit::Usage, Exit::Denied, Exit::Pending, Exit::TimedOut];
    assert_eq!(all.map(Exit::code), [0, 1, 2, 4, 8, 124]);
}

#[test]
fn a_status_that_is_not_ours_keeps_its_message() {
    for number in 0..=16 {
        let code = Code::from_i32(number);
        let refusal = from_status(&Status::new(code, "tcp connect error"));
        assert_eq!((refusal.grpc, &*refusal.message, &refusal.field), (code, "tcp connect error", &None));
        assert_eq!(refusal.code, refusal.reason.code());
    }
    assert_eq!(from_status(&Status::unavailable("")).reason, Reason::NotReady);
    assert!(!from_status(&Status::unavailable("")).message.is_empty());
    assert_eq!(from_status(&Status::deadline_exceeded("late")).reason, Reason::OutcomeUnknown);
}

#[test]
fn a_reason_of_a_newer_build_keeps_its_code() {
    let details = ErrorDetails::with_error_info("MOON_PHASE", DOMAIN, HashMap::new());
    let status = Status::with_error_details(Code::PermissionDenied, "not tonight", details);
    let refusal = from_status(&status);
    assert_eq!((refusal.reason, &*refusal.code), (Reason::PermissionDenied, "MOON_PHASE"));

    let details = ErrorDetails::with_error_info("NOT_FOUND", "example.com", HashMap::new());
    let status = Status::with_error_details(Code::Internal, "theirs", details);
    assert_eq!(from_status(&status).reason, Reason::Internal);
}

#[test]
fn a_forwarded_status_arrives_whole() {
    let rejection = Rejection::field(Reason::EtagMismatch, "etag", "moved");
    let forwarded = decode_status(encode_status(&to_status(&rejection)));
    assert_eq!(Rejection::from(from_status(&forwarded)), rejection);
    assert_eq!(forwarded.code(), Code::Aborted);

    let plain = decode_status(encode_status(&Status::cancelled("gone")));
    assert_eq!((plain.code(), plain.message()), (Code::Cancelled, "gone"));

    let damaged = decode_status(Bytes::from_static(b"\xff\xff"));
    assert_eq!(from_status(&damaged).reason, Reason::Internal);
}

//! Codes are stable, distinct and explained.

use std::collections::BTreeSet;

use super::*;

#[test]
fn codes_are_distinct_and_lead_back() {
    let codes: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    assert_eq!(codes.len(), Reason::ALL.len());
    for reason in Reason::ALL {
        let code = reason.code();
        assert_eq!(Reason::from_code(code), Some(*reason));
        assert!(code.bytes().all(|octet| octet.is_ascii_uppercase() || octet == b'_'), "{code}");
        assert!(!reason.fix().is_empty() && !reason.fix().ends_with('.'), "{code}: one sentence without its full stop");
    }
    assert_eq!(Reason::from_code("NO_SUCH_CODE"), None);
}

#[test]
fn a_field_is_named_first() {
    let plain = Rejection::new(Reason::NotFound, "agent a1 does not exist");
    let about = Rejection::field(Reason::InvalidSpec, "spec.duration", "is 1s");
    assert_eq!(plain.to_string(), "agent a1 does not exist");
    assert_eq!(about.to_string(), "spec.duration: is 1s");
}

#[test]
fn what_is_quoted_is_cut_and_steers_no_terminal() {
    let sly = Rejection::field(Reason::InvalidSpec, "labels.\u{1b}[2J", "not a name: \u{1b}]0;x\u{7}\r\n");
    assert_eq!(sly.to_string(), "labels. [2J: not a name:  ]0;x   ");
    let long = Rejection::object(Reason::NotFound, "x".repeat(1000), "\u{e9}".repeat(1000));
    assert_eq!(long.message, "\u{e9}".repeat(limits::REFUSAL_OCTETS_MAX / 2) + "...");
    assert_eq!(long.object.unwrap().len(), limits::REFUSAL_PATH_OCTETS_MAX + 3);
}

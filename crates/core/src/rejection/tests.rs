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

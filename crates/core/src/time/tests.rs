//! Moments as people read them and as certificates carry them.

use super::*;

#[test]
fn rfc_3339_in_utc() {
    let rows = [
        (0, "1970-01-01T00:00:00Z"),
        (1_800_000_000_000, "2027-01-15T08:00:00Z"),
        (1_800_000_000_042, "2027-01-15T08:00:00.042Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        (u64::MAX, "18446744073709551615ms"),
    ];
    for (millis, expected) in rows {
        assert_eq!(Timestamp::from_millis(millis).to_string(), expected);
    }
}

#[test]
fn arithmetic_saturates() {
    let (early, late) = (Timestamp::from_seconds(1), Timestamp::from_millis(u64::MAX));
    assert_eq!(late.plus(Duration::from_secs(1)), late);
    assert_eq!(early.minus(Duration::from_secs(2)), Timestamp::EPOCH);
    assert_eq!(early.since(late), Duration::ZERO);
    assert_eq!(early.plus(Duration::MAX), late);
    assert_eq!(Timestamp::from_millis(1999).whole_second(), early);
}

//! Every decision as a table: given events, when a command, then events or a rejection.
//!
//! It refuses to look into state: what a decision appends is what counts.
#![allow(clippy::unwrap_used)]

mod agents;
mod authorities;
mod certificates;
mod checkpoints;
mod cluster;
mod deliveries;
mod epochs;
mod fan_out;
mod issuance;
mod issuers;
mod retention;
mod tokens;

#[test]
fn long_texts_are_cut_between_characters() {
    for (text, max, expected) in [("abc", 3, "abc"), ("abcd", 3, "abc"), ("aä", 2, "a"), ("ää", 3, "ä"), ("", 0, "")]
    {
        assert_eq!(super::cut(text, max), expected, "{text:?} at {max}");
    }
}

//! Pages: how large, and where the next one starts.
//!
//! It refuses offsets: a page token names the last item sent, so that inserts and deletes never shift a page.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use certwright_core::{Reason, Rejection};

use crate::limits::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX};

/// Marks our page tokens and their shape.
const PREFIX: &str = "p1:";

/// How many items a page holds; `INVALID_SPEC` for a negative size.
pub(crate) fn size(asked: i32) -> Result<usize, Rejection> {
    match usize::try_from(asked) {
        Ok(0) => Ok(PAGE_SIZE_DEFAULT),
        Ok(size) => Ok(size.min(PAGE_SIZE_MAX)),
        Err(_) => Err(Rejection::field(Reason::InvalidSpec, "page_size", "a page cannot have a negative size")),
    }
}

/// The token for what comes after `last`.
pub(crate) fn token_after(last: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{PREFIX}{last}"))
}

/// Cuts a page that was read with one item too many; answers the token of the next page, empty after the last.
pub(crate) fn cut<T>(page: &mut Vec<T>, size: usize, name: impl Fn(&T) -> &str) -> String {
    if page.len() <= size {
        return String::new();
    }
    page.truncate(size);
    page.last().map(|last| token_after(name(last))).unwrap_or_default()
}

/// What a page token names; `None` for the first page.
pub(crate) fn start(token: &str) -> Result<Option<String>, Rejection> {
    if token.is_empty() {
        return Ok(None);
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let last = text.and_then(|text| text.strip_prefix(PREFIX).map(str::to_owned));
    last.map(Some).ok_or_else(|| {
        Rejection::field(Reason::InvalidToken, "page_token", "this is not a page token of an answer of this API")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_token_leads_back_to_the_last_item() {
        let token = token_after("backend/web");
        assert_eq!(start(&token).unwrap().as_deref(), Some("backend/web"));
        assert_eq!(start("").unwrap(), None);
    }

    #[test]
    fn what_we_did_not_write_is_refused() {
        for token in ["x", "!!", &URL_SAFE_NO_PAD.encode("backend/web"), &URL_SAFE_NO_PAD.encode([0xff, 0xfe])] {
            assert_eq!(start(token).unwrap_err().reason, Reason::InvalidToken, "{token}");
        }
    }

    #[test]
    fn sizes_are_bounded() {
        assert_eq!(size(0).unwrap(), PAGE_SIZE_DEFAULT);
        assert_eq!(size(7).unwrap(), 7);
        assert_eq!(size(PAGE_SIZE_MAX as i32 + 1).unwrap(), PAGE_SIZE_MAX);
        assert_eq!(size(-1).unwrap_err().reason, Reason::InvalidSpec);
    }
}

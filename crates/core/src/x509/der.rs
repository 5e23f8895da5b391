//! Just enough DER (X.690) to cut a structure into its elements, strictly, and to put one together again.
//!
//! It refuses BER: indefinite, long-winded or missing lengths, and tag numbers above 30.

/// Tag of BOOLEAN.
pub const BOOLEAN: u8 = 0x01;
/// Tag of INTEGER.
pub const INTEGER: u8 = 0x02;
/// Tag of BIT STRING.
pub const BIT_STRING: u8 = 0x03;
/// Tag of OCTET STRING.
pub const OCTET_STRING: u8 = 0x04;
/// Tag of OBJECT IDENTIFIER.
pub const OID: u8 = 0x06;
/// Tag of UTF8String.
pub const UTF8_STRING: u8 = 0x0c;
/// Tag of PrintableString.
pub const PRINTABLE_STRING: u8 = 0x13;
/// Tag of SEQUENCE.
pub const SEQUENCE: u8 = 0x30;
/// Tag of SET.
pub const SET: u8 = 0x31;

/// One element.
#[derive(Clone, Copy)]
pub struct Element<'a> {
    /// Tag octet.
    pub tag: u8,
    /// Content octets.
    pub content: &'a [u8],
    /// The whole element, tag and length included.
    pub raw: &'a [u8],
}

/// The first element of `input` and what follows it; `None` when it is not DER.
pub fn next(input: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&tag, rest) = input.split_first()?;
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let count = usize::from(first & 0x7f);
            let (octets, rest) = rest.split_at_checked(count)?;
            let length = octets.iter().fold(0usize, |sum, &octet| sum << 8 | usize::from(octet));
            let minimal = if count == 1 { length >= 0x80 } else { length >> (8 * (count - 1)) != 0 };
            (minimal.then_some(length)?, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((Element { tag, content, raw: &input[..input.len() - rest.len()] }, rest))
}

/// The content of the one element that `input` consists of, if it has that tag.
pub fn only(tag: u8, input: &[u8]) -> Option<&[u8]> {
    let (element, rest) = next(input)?;
    (element.tag == tag && rest.is_empty()).then_some(element.content)
}

/// All elements of `input`, up to `limit`.
pub fn elements(mut input: &[u8], limit: usize) -> Option<Vec<Element<'_>>> {
    let mut found = Vec::new();
    while !input.is_empty() {
        if found.len() == limit {
            return None;
        }
        let (element, rest) = next(input)?;
        found.push(element);
        input = rest;
    }
    Some(found)
}

/// Encodes one element from the pieces of its content, in one allocation that does not grow.
pub fn encode(tag: u8, pieces: &[&[u8]]) -> Vec<u8> {
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    let mut out = Vec::with_capacity(length + 6);
    out.push(tag);
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let octets = length.to_be_bytes();
        let skipped = octets.iter().take_while(|&&octet| octet == 0).count();
        out.push(0x80 | (octets.len() - skipped) as u8);
        out.extend_from_slice(&octets[skipped..]);
    }
    pieces.iter().for_each(|piece| out.extend_from_slice(piece));
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lengths_round_trip_at_their_borders() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000] {
            let content = vec![7; length];
            let encoded = encode(SEQUENCE, &[&content]);
            assert_eq!(only(SEQUENCE, &encoded), Some(&content[..]), "{length}");
        }
    }

    #[test]
    fn what_is_not_der_is_refused() {
        let cases: [&[u8]; 8] = [
            &[],
            &[0x30],
            &[0x30, 0x01],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x81, 0x01, 0],
            &[0x30, 0x82, 0x00, 0x01, 0],
            &[0x3f, 0x01, 0],
            &[0x30, 0x85, 0, 0, 0, 0, 1, 0],
        ];
        for case in cases {
            assert!(next(case).is_none(), "{case:02x?}");
        }
        assert!(only(SEQUENCE, &[0x30, 0, 0]).is_none(), "trailing octets");
        assert!(elements(&[5, 0, 5, 0, 5, 0], 2).is_none(), "more than the limit");
        assert_eq!(elements(&[5, 0, 5, 0], 2).unwrap().len(), 2);
    }
}

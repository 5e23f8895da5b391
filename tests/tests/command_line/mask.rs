//! What differs from run to run, replaced by what it is: times, serials, addresses, ids, hashes, positions, paths.
//!
//! It refuses to hide words and small numbers: those must be the same every time.

/// Text with everything masked that another run would print otherwise; columns are not compared, only their contents.
pub fn mask(text: &str) -> String {
    let lines = text.lines().map(|line| line.split_whitespace().map(word).collect::<Vec<_>>().join(" "));
    lines.map(|line| line.trim_end().to_string()).collect::<Vec<_>>().join("\n").trim_end().to_string()
}

/// One word, with punctuation around it left alone.
fn word(word: &str) -> String {
    let edge = |c: char| "()[]{},;\"'".contains(c);
    let core = word.trim_matches(edge);
    let masked = match core.trim_end_matches(['.', ':']) {
        bare if bare != core => masked(bare).map(|masked| format!("{masked}{}", &core[bare.len()..])),
        bare => masked(bare).map(str::to_string),
    };
    match masked {
        Some(masked) if !core.is_empty() => word.replacen(core, &masked, 1),
        _ => word.to_string(),
    }
}

fn masked(text: &str) -> Option<&'static str> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    let hexadecimal = |text: &str| text.bytes().all(|octet| octet.is_ascii_hexdigit());
    let all =
        |separator: char, parts: usize| text.split(separator).count() == parts && text.split(separator).all(digits);
    if text.len() >= 20 && text.as_bytes()[4] == b'-' && text.contains('T') && text.ends_with('Z') {
        return Some("TIME");
    }
    if text.len() == 40 && hexadecimal(text) {
        return Some("SERIAL");
    }
    if text.len() >= 32 && hexadecimal(text) {
        return Some("HASH");
    }
    if text.starts_with("cw1.") {
        return Some("TOKEN");
    }
    if text.rsplit_once(':').is_some_and(|(host, port)| host == "127.0.0.1" && digits(port)) {
        return Some("ADDRESS");
    }
    if all('-', 3) || text.split_once('-').is_some_and(|(uid, rest)| digits(uid) && rest.split('.').all(digits)) {
        return Some("ID");
    }
    if all('.', 2) {
        return Some("POSITION");
    }
    if text.len() > 1 && digits(&text[..text.len() - 1]) && text.ends_with(['s', 'm', 'h', 'd']) {
        return Some("SPAN");
    }
    // Generations, terms and counts are small and the same every time; indexes and milliseconds are not.
    (digits(text) && text.len() > 1).then_some("NUMBER")
}

#[test]
fn what_changes_is_masked_and_what_does_not_is_not() {
    let cases = [
        ("18  2026-11-22T09:33:09.653Z  Declared", "NUMBER TIME Declared"),
        ("serial 7BC318317A7476C3761B9341A85E53041B952960 (125 ms)", "serial SERIAL (NUMBER ms)"),
        ("cluster 8403979e642e9b3d61d23a8f5dd250e5 epoch 1,", "cluster HASH epoch 1,"),
        ("Instance 18-0-1 on agent-1, etag 18-0.4", "Instance ID on agent-1, etag ID"),
        ("valid for 28s, renewed in 16s", "valid for SPAN, renewed in SPAN"),
        ("127.0.0.1:34401 generation 2", "ADDRESS generation 2"),
        ("21.0 x 2m", "POSITION x SPAN"),
    ];
    for (given, expected) in cases {
        assert_eq!(mask(given), expected);
    }
}

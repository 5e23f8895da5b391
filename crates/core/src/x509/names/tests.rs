//! Tables of names.
#![allow(clippy::unwrap_used)]

use super::*;

fn table(check: impl Fn(&str) -> Result<(), NameError>, good: &[&str], bad: &[&str]) {
    good.iter().for_each(|name| check(name).unwrap());
    bad.iter().for_each(|name| assert!(check(name).is_err(), "{name:?}"));
}

#[test]
fn dns_names() {
    let label = "a".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
    assert_eq!(longest.len(), 253);
    let too_long = format!("{label}.{label}.{label}.{}", "a".repeat(62));
    table(
        check_dns,
        &[
            "a",
            "localhost",
            "example.com",
            "A.Example.COM",
            "xn--bcher-kva.example",
            "1.example",
            "*.example.com",
            "a-b.c",
            &label,
            &longest,
        ],
        &[
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "*",
            "*.com",
            "*.*.example.com",
            "a.*.com",
            "a*.example.com",
            "**.example.com",
            "-a.com",
            "a-.com",
            "a_b.com",
            "a b.com",
            "a\0.com",
            "bücher.example",
            "10.0.0.1",
            "1.2",
            "::1",
            "a.123",
            "https://a",
            "a/b",
            "a:80",
            &"a".repeat(64),
            &too_long,
        ],
    );
}

#[test]
fn ip_addresses() {
    table(
        |text| check_ip(&text.parse().unwrap()),
        &["10.0.0.1", "127.0.0.1", "::1", "2001:db8::1"],
        &["0.0.0.0", "255.255.255.255", "224.0.0.1", "::", "ff02::1"],
    );
}

#[test]
fn uris() {
    let longest = format!("urn:{}", "a".repeat(URI_OCTETS_MAX - 4));
    table(
        check_uri,
        &[
            "spiffe://example.com/ns/a/sa/b",
            "https://example.com:8443/x?y#z",
            "https://user@[::1]:1/",
            "urn:uuid:x",
            "certwright://00ff/node/1",
            "https://10.0.0.1/",
            "a:%20",
            &longest,
        ],
        &[
            "",
            "x",
            "/relative",
            ":x",
            "1a:x",
            "https:",
            "https://",
            "https://a b/",
            "https://ex\0ample/",
            "a:%2",
            "a:%zz",
            "https://*.example.com/",
            "https://exa_mple.com/",
            "https:///path",
            "https://bücher/",
            &format!("{longest}a"),
        ],
    );
}

#[test]
fn email_addresses() {
    let local = "a".repeat(64);
    table(
        check_email,
        &["a@example.com", "first.last+tag@example.com", &format!("{local}@b.c")],
        &[
            "",
            "a",
            "@b.c",
            "a@",
            "a@b@c.d ",
            ".a@b.c",
            "a.@b.c",
            "a b@c.d",
            "a@*.b.c",
            "a@1.2.3.4",
            "\"q\"@b.c",
            &format!("{local}a@b.c"),
        ],
    );
}

#[test]
fn common_names() {
    table(
        check_common_name,
        &["x", "Jane Doe", "Zoë", &"a".repeat(64)],
        &["", " x", "x ", "a\nb", "a\0", &"a".repeat(65)],
    );
}

#[test]
fn one_name_too_many() {
    let names = |count: usize| Names { dns_names: (0..count).map(|n| format!("h{n}.x")).collect(), ..Names::default() };
    names(NAMES_MAX).check().unwrap();
    assert!(names(NAMES_MAX + 1).check().is_err());
}

#[test]
fn hosts_of_uris() {
    for (after, host) in
        [("a/b", Some("a")), ("u@h:1?q", Some("h")), ("[::1]:2", Some("[::1]")), ("[::1", None), ("", Some(""))]
    {
        assert_eq!(uri_host(after), host, "{after}");
    }
}

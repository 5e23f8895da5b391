//! `inspect`: what a certificate says, from a file or from what HOST:PORT serves.
//!
//! It refuses to judge trust; `verify` does that.

use std::path::Path;
use std::process::ExitCode;

use certwright_core::Reason;
use certwright_core::x509::inspect::{Inspected, inspect};
use certwright_core::x509::pem;
use certwright_seams::Seams;
use serde_json::{Value, json};

use crate::args::{Format, Global, InspectArgs};
use crate::failure::Failure;
use crate::limits::PEM_FILE_OCTETS_MAX;
use crate::output;

/// Runs the verb.
pub async fn run(global: &Global, args: InspectArgs) -> Result<ExitCode, Failure> {
    let seams = Seams::system();
    let path = Path::new(&args.subject);
    let chain = if seams.disk.exists(path).unwrap_or(false) {
        let octets =
            seams.disk.read(path, PEM_FILE_OCTETS_MAX).map_err(|error| Failure::file(path.display(), error))?;
        if octets.starts_with(&[0x30]) { vec![octets] } else { pem::certificates(&octets)? }
    } else if args.subject.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        let served = certwright_agent::served::probe(&seams, &args.subject, &args.server_name).await;
        served.map_err(|error| unreachable(&args.subject, &error))?.chain
    } else {
        return Err(Failure::usage(
            format!("{} is neither a file nor HOST:PORT", args.subject),
            "name a certificate file or a TLS server",
        ));
    };
    let inspected = chain.iter().map(|der| inspect(der)).collect::<Result<Vec<_>, _>>()?;
    match global.output {
        Format::Json | Format::Yaml => output::value(global.output, &inspected.iter().map(value).collect::<Value>())?,
        Format::Name => inspected.iter().try_for_each(|certificate| output::line(&certificate.serial))?,
        Format::Table | Format::Wide | Format::Junit => {
            let pages: Vec<String> = inspected.iter().map(page).collect();
            output::line(&pages.join("\n\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn unreachable(address: &str, error: &std::io::Error) -> Failure {
    let fix = "check the address and that a TLS server listens there";
    Failure::new(Reason::Unreachable, format!("{address}: {error}"), fix)
}

fn value(certificate: &Inspected) -> Value {
    json!({
        "serial": certificate.serial, "subject": certificate.subject, "issuer": certificate.issuer,
        "commonName": certificate.names.common_name, "dnsNames": certificate.names.dns_names,
        "ipAddresses": certificate.names.ip_addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "uris": certificate.names.uris, "emailAddresses": certificate.names.email_addresses,
        "notBefore": certificate.not_before.to_string(), "notAfter": certificate.not_after.to_string(),
        "isCA": certificate.is_ca, "usages": certificate.usages, "signatureAlgorithm": certificate.signature_algorithm,
        "fingerprint": hex::encode_upper(certificate.fingerprint), "spki": hex::encode_upper(certificate.spki_hash),
    })
}

fn page(certificate: &Inspected) -> String {
    let names = &certificate.names;
    let addresses = names.ip_addresses.iter().map(ToString::to_string);
    let all: Vec<String> = names
        .dns_names
        .iter()
        .cloned()
        .chain(addresses)
        .chain(names.uris.clone())
        .chain(names.email_addresses.clone())
        .collect();
    let lines = [
        ("Serial", certificate.serial.clone()),
        ("Subject", certificate.subject.clone()),
        ("Issuer", certificate.issuer.clone()),
        ("Names", all.join(", ")),
        ("Valid", format!("{} to {}", certificate.not_before, certificate.not_after)),
        ("CA", certificate.is_ca.to_string()),
        ("Usages", certificate.usages.join(", ")),
        ("Signature", certificate.signature_algorithm.clone()),
        ("Fingerprint", hex::encode_upper(certificate.fingerprint)),
    ];
    let lines = lines
        .iter()
        .map(|(name, text)| format!("{:<13}{}", format!("{name}:"), if text.is_empty() { "-" } else { text }));
    lines.collect::<Vec<_>>().join("\n")
}

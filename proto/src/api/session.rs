//! What agents say on their session, parsed; and what they are assigned.
//!
//! It refuses stages and ids that are none, and trusts no agent's word for whose it is: the caller checks the scope.

use bytes::Bytes;
use certwright_core::event::{Delivered, Issued, Stage};
use certwright_core::ids::{CertificateName, Generation, InstanceId, TargetName};
use certwright_core::limits::MESSAGE_OCTETS_MAX;
use certwright_core::{Reason, Rejection};

use super::names;
use super::values::{self, about, invalid, moment_to_message, span_from_optional};
use crate::agent::v1;

/// A signing request of an agent, its names parsed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Submission {
    /// The certificate.
    pub certificate: CertificateName,
    /// The instance.
    pub instance: InstanceId,
    /// The generation that it is for.
    pub generation: Generation,
    /// The request, DER.
    pub csr: Bytes,
}

/// Parses a signing request's names.
pub fn submission_from_message(submission: v1::CsrSubmission) -> Result<Submission, Rejection> {
    Ok(Submission {
        certificate: about("certificate", names::certificate(&submission.certificate))?,
        instance: values::instance("instance", &submission.instance)?,
        generation: submission.generation,
        csr: submission.csr,
    })
}

/// Parses a report. Failure texts are cut to what state keeps, and hold nothing that would steer a reader's terminal.
pub fn report_from_message(report: &v1::Report) -> Result<(CertificateName, Delivered), Rejection> {
    let stages = [Stage::Received, Stage::Verified, Stage::Written, Stage::Served];
    let stage = stages.into_iter().find(|stage| stage.name() == report.stage);
    let target = match &*report.target {
        "" => None,
        target => Some(about("target", TargetName::parse(target))?),
    };
    let failure =
        (!report.failure_reason.is_empty()).then(|| (told(&report.failure_reason), told(&report.failure_message)));
    let delivered = Delivered {
        instance: values::instance("instance", &report.instance)?,
        generation: report.generation,
        target,
        stage: stage.ok_or_else(|| invalid("stage", format!("{:?} is not a stage", report.stage)))?,
        failure,
        elapsed: span_from_optional("elapsed", report.elapsed.as_ref())?.unwrap_or_default(),
    };
    Ok((about("certificate", names::certificate(&report.certificate))?, delivered))
}

/// The text up to the bound, cut between characters.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MESSAGE_OCTETS_MAX)]
}

/// The same in one line, without control characters.
fn told(text: &str) -> String {
    cut(text).replace(char::is_control, " ")
}

/// A report as an agent sends it.
pub fn report_to_message(id: u64, certificate: &CertificateName, delivered: &Delivered) -> v1::Report {
    let (failure_reason, failure_message) = delivered.failure.clone().unwrap_or_default();
    v1::Report {
        id,
        certificate: names::certificate_to_message(certificate),
        instance: delivered.instance.to_string(),
        generation: delivered.generation,
        target: delivered.target.as_ref().map(ToString::to_string).unwrap_or_default(),
        stage: delivered.stage.name().to_owned(),
        failure_reason,
        failure_message,
        elapsed: Some(values::span_to_message(delivered.elapsed)),
    }
}

/// A generation as an agent gets it. `chain` goes from the signer up to and including the root.
pub fn issued_to_message(issued: &Issued, chain: &[std::sync::Arc<[u8]>]) -> Result<v1::Issued, Rejection> {
    let (root, intermediates) = chain
        .split_last()
        .ok_or_else(|| Rejection::new(Reason::Internal, format!("authority {} has no chain", issued.authority)))?;
    Ok(v1::Issued {
        generation: issued.generation,
        serial: issued.serial.to_string(),
        certificate: Bytes::copy_from_slice(&issued.certificate),
        intermediates: intermediates.iter().map(|der| Bytes::copy_from_slice(der)).collect(),
        root: Bytes::copy_from_slice(root),
        not_before: Some(moment_to_message(issued.not_before)),
        not_after: Some(moment_to_message(issued.not_after)),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use super::*;

    fn report() -> v1::Report {
        v1::Report {
            id: 3,
            certificate: "namespaces/web/certificates/front".into(),
            instance: "7-0-1".into(),
            generation: 2,
            target: "files".into(),
            stage: "written".into(),
            failure_reason: "TARGET_NOT_WRITABLE".into(),
            failure_message: "read-only".into(),
            elapsed: Some(prost_types::Duration { seconds: 1, nanos: 5 }),
        }
    }

    #[test]
    fn reports_go_there_and_back() {
        let (certificate, delivered) = report_from_message(&report()).unwrap();
        assert_eq!(delivered.stage, Stage::Written);
        assert_eq!(report_to_message(3, &certificate, &delivered), report());
    }

    #[test]
    fn wrong_reports_name_the_field() {
        let wrong = |change: fn(&mut v1::Report)| {
            let mut report = report();
            change(&mut report);
            report_from_message(&report).unwrap_err().field.unwrap()
        };
        assert_eq!(wrong(|report| report.stage = "flown".into()), "stage");
        assert_eq!(wrong(|report| report.target = "No".into()), "target");
        assert_eq!(wrong(|report| report.instance = "7".into()), "instance");
        assert_eq!(wrong(|report| report.certificate = "front".into()), "name");
        assert_eq!(wrong(|report| report.elapsed = Some(prost_types::Duration { seconds: -1, nanos: 0 })), "elapsed");
    }

    #[test]
    fn failure_texts_hold_no_control_characters() {
        let mut sly = report();
        (sly.failure_reason, sly.failure_message) = ("A\u{1b}[2J".into(), "é\u{1b}]0;x\u{7}\r\n\u{9b}1m".into());
        let (_, delivered) = report_from_message(&sly).unwrap();
        assert_eq!(delivered.failure.unwrap(), ("A [2J".to_string(), "é ]0;x    1m".to_string()));
    }

    #[test]
    fn failure_texts_are_cut_between_characters() {
        let mut long = report();
        long.failure_message = "é".repeat(MESSAGE_OCTETS_MAX);
        let (_, delivered) = report_from_message(&long).unwrap();
        assert_eq!(delivered.failure.unwrap().1.len(), MESSAGE_OCTETS_MAX / 2 * 2);
        long.failure_message = "e".repeat(MESSAGE_OCTETS_MAX + 1);
        let (_, delivered) = report_from_message(&long).unwrap();
        assert_eq!(delivered.failure.unwrap().1.len(), MESSAGE_OCTETS_MAX);
    }

    #[test]
    fn a_chain_needs_a_root() {
        let issued = crate::storage::tests::samples::issued();
        let chain: [Arc<[u8]>; 2] = [[1].into(), [2].into()];
        let message = issued_to_message(&issued, &chain).unwrap();
        assert_eq!((message.intermediates.len(), &message.root[..]), (1, &[2][..]));
        assert_eq!(issued_to_message(&issued, &[]).unwrap_err().reason, Reason::Internal);
    }
}

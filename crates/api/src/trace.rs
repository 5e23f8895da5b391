//! W3C trace context (`traceparent`) on its way in and out.
//!
//! It refuses baggage and vendor state: one trace id and one span id are what a transaction stores.

use certwright_core::log::Trace;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tonic::metadata::MetadataMap;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Parses `00-{trace id}-{span id}-{flags}`; anything else is no trace.
pub(crate) fn parse(text: &str) -> Trace {
    let mut parts = text.split('-');
    let (version, trace, span) = (parts.next(), parts.next(), parts.next());
    let read = || {
        if version == Some("ff") {
            return None;
        }
        let trace_id: [u8; 16] = hex::decode(trace?).ok()?.try_into().ok()?;
        let span_id: [u8; 8] = hex::decode(span?).ok()?.try_into().ok()?;
        (trace_id != [0; 16] && span_id != [0; 8]).then_some(Trace { trace_id, span_id })
    };
    read().unwrap_or_default()
}

/// The header of a request.
pub(crate) fn of(metadata: &MetadataMap) -> Trace {
    metadata.get("traceparent").and_then(|value| value.to_str().ok()).map(parse).unwrap_or_default()
}

/// Prints a trace for the next hop; empty when there is none.
pub(crate) fn format(trace: &Trace) -> String {
    if trace.trace_id == [0; 16] {
        return String::new();
    }
    format!("00-{}-{}-01", hex::encode(trace.trace_id), hex::encode(trace.span_id))
}

/// Makes `span` a child of the caller's trace and answers what its own children, and the transaction, belong to. Without
/// an exporter the span has no identity of its own and the caller's is passed on as it came.
pub(crate) fn adopt(span: &tracing::Span, parent: Trace) -> Trace {
    if parent.trace_id != [0; 16] {
        // Refused only when nobody exports: then there is nothing to attach to.
        let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(elsewhere(parent)));
    }
    let context = span.context();
    let own = context.span().span_context().clone();
    match own.is_valid() {
        true => Trace { trace_id: own.trace_id().to_bytes(), span_id: own.span_id().to_bytes() },
        false => parent,
    }
}

/// Makes `span` point at a trace that came before it, when there is one.
pub(crate) fn link(span: &tracing::Span, former: Trace) {
    if former.trace_id != [0; 16] {
        span.add_link(elsewhere(former));
    }
}

/// The place in a trace that another process, or this one earlier, stood at.
fn elsewhere(trace: Trace) -> SpanContext {
    let (trace_id, span_id) = (TraceId::from_bytes(trace.trace_id), SpanId::from_bytes(trace.span_id));
    SpanContext::new(trace_id, span_id, TraceFlags::SAMPLED, true, TraceState::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_header_survives_the_hop() {
        assert_eq!(format(&parse(HEADER)), HEADER);
    }

    #[test]
    fn without_an_exporter_the_callers_trace_is_passed_on() {
        let parent = parse(HEADER);
        assert_eq!(adopt(&tracing::info_span!("request"), parent), parent);
        assert_eq!(adopt(&tracing::info_span!("request"), Trace::default()), Trace::default());
    }

    #[test]
    fn what_is_no_trace_is_none() {
        let zero = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        for text in ["", "00", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", zero, "00-4b-00-01"] {
            assert_eq!(parse(text), Trace::default(), "{text}");
        }
        assert_eq!(format(&Trace::default()), "");
    }
}

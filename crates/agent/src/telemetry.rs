//! Logs to standard error, and traces to an OTLP collector when one is configured.
//!
//! It refuses to hold up the agent for a collector that is slow or gone.

use std::collections::HashMap;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// The header of a W3C trace context.
const TRACEPARENT: &str = "traceparent";

/// Telemetry of one process.
pub(crate) struct Telemetry(Option<SdkTracerProvider>);

/// Starts logging (`CERTWRIGHT_LOG`, for instance `info` or `certwright_agent=debug`; `CERTWRIGHT_LOG_FORMAT=json`) and,
/// when `OTEL_EXPORTER_OTLP_ENDPOINT` is set, traces. In a process that logs already it changes nothing.
pub(crate) fn start(service: &'static str) -> Telemetry {
    let filter = EnvFilter::try_from_env("CERTWRIGHT_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let json = std::env::var("CERTWRIGHT_LOG_FORMAT").is_ok_and(|format| format == "json");
    let logs = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let logs = if json { logs.json().boxed() } else { logs.with_ansi(false).boxed() };
    let provider = provider(service);
    let traces = provider.as_ref().map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer(service)));
    let _ = tracing_subscriber::registry().with(filter).with(traces).with(logs).try_init();
    Telemetry(provider)
}

fn provider(service: &'static str) -> Option<SdkTracerProvider> {
    std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").filter(|endpoint| !endpoint.is_empty())?;
    match opentelemetry_otlp::SpanExporter::builder().with_tonic().build() {
        Ok(exporter) => {
            let resource = Resource::builder().with_service_name(service).build();
            Some(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
        }
        Err(error) => {
            eprintln!("no traces: {error}");
            None
        }
    }
}

impl Telemetry {
    /// Sends what is left, within the exporter's own timeout.
    pub(crate) fn stop(self) {
        if let Some(provider) = self.0 {
            let _ = provider.shutdown();
        }
    }
}

/// Makes `span` a child of the W3C trace context, when that is one; returns the context of the span, for messages that
/// it causes. Without a collector that is the context that was given.
pub(crate) fn follow(span: &Span, traceparent: &str) -> String {
    let propagator = TraceContextPropagator::new();
    if !traceparent.is_empty() {
        let carrier = HashMap::from([(TRACEPARENT.to_string(), traceparent.to_string())]);
        let _ = span.set_parent(propagator.extract(&carrier));
    }
    let mut carrier = HashMap::new();
    propagator.inject_context(&span.context(), &mut carrier);
    carrier.remove(TRACEPARENT).unwrap_or_else(|| traceparent.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn without_a_collector_the_given_context_is_handed_on() {
        assert_eq!(follow(&tracing::info_span!("request"), GIVEN), GIVEN);
        assert_eq!(follow(&tracing::info_span!("request"), ""), "");
    }

    #[test]
    fn with_a_recorder_the_span_continues_the_trace() {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let told = follow(&tracing::info_span!("request"), GIVEN);
            assert_eq!(told[..36], GIVEN[..36], "the trace goes on");
            assert_ne!(told, GIVEN, "with a span of its own");
        });
    }
}

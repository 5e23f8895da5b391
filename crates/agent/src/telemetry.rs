//! Logs to standard error, and traces to an OTLP collector when one is configured: for agents and servers alike.
//!
//! It refuses to hold up a process for a collector that is slow or gone: what cannot be sent is dropped, and said once.

mod collector;
mod exporter;

use std::collections::HashMap;
use std::time::Duration;

use certwright_seams::exec::compute;
use certwright_seams::{Exec, Seams};
use opentelemetry::KeyValue;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::WithTonicConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tonic::transport::Channel;
use tracing::{Level, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use collector::Unusable;

/// The header of a W3C trace context.
const TRACEPARENT: &str = "traceparent";
/// How long a process that ends waits for a collector that does not answer.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Telemetry of one process.
pub struct Telemetry(Option<SdkTracerProvider>);

impl Telemetry {
    /// Starts logging (`CERTWRIGHT_LOG` or `RUST_LOG`, else `levels`; `CERTWRIGHT_LOG_FORMAT=json`) and, when
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` is set, traces under this service name. In a process that logs already it changes
    /// nothing. An endpoint that cannot be one is said, with what to correct, before anything is started; without the
    /// roots for it the process goes on, without traces.
    pub fn start(service: &'static str, levels: &str, seams: &Seams) -> Result<Self, String> {
        let (channel, missing) = match collector::of_environment(seams) {
            Ok(channel) => (channel, None),
            Err(Unusable::Roots(cause)) => (None, Some(cause)),
            Err(Unusable::Address(cause)) => return Err(cause),
        };
        let provider = channel.map(|channel| provider(service, channel)).transpose()?;
        let given = ["CERTWRIGHT_LOG", "RUST_LOG"].into_iter().find_map(|name| EnvFilter::try_from_env(name).ok());
        let json = std::env::var("CERTWRIGHT_LOG_FORMAT").is_ok_and(|format| format == "json");
        let logs = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
        let logs = if json { logs.json().boxed() } else { logs.boxed() };
        let logs = logs.with_filter(given.unwrap_or_else(|| EnvFilter::new(levels)));
        // A filter of its own: how much is logged does not decide what is traced, and the exporter's own connection is
        // not traced at all.
        let traces = provider.as_ref().map(|provider| {
            let layer = tracing_opentelemetry::layer().with_location(false).with_threads(false);
            layer
                .with_tracer(provider.tracer(service))
                .with_filter(Targets::new().with_target("certwright", Level::INFO))
        });
        let _ = tracing_subscriber::registry().with(traces).with(logs).try_init();
        if let Some(cause) = missing {
            tracing::error!(%cause, "no traces are sent until this is corrected and the process restarted");
        }
        Ok(Self(provider))
    }

    /// Sends what is left. The exporter's connection lives on the caller's runtime, so that the wait for it must not.
    pub async fn stop(self, exec: &dyn Exec) {
        let Some(provider) = self.0 else { return };
        if let Err(error) = compute(exec, "telemetry", move || provider.shutdown_with_timeout(FLUSH_TIMEOUT)).await {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

fn provider(service: &'static str, channel: Channel) -> Result<SdkTracerProvider, String> {
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().with_channel(channel).build();
    let exporter = exporter.map_err(|error| format!("{}: {error}", collector::ENDPOINT))?;
    let process = KeyValue::new("process.pid", i64::from(std::process::id()));
    let resource = Resource::builder().with_service_name(service).with_attribute(process).build();
    let exporter = exporter::Outspoken::new(exporter);
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
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

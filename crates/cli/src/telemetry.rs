//! Logs on standard error; traces to an OTLP endpoint when one is configured.
//!
//! It refuses to be in the way: without an endpoint no exporter runs.

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// What must be flushed before the process ends.
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Starts logging (`CERTWRIGHT_LOG` or `RUST_LOG`, `info` when absent) and, when `OTEL_EXPORTER_OTLP_ENDPOINT` is set,
    /// tracing under this service name.
    pub fn start(service: &'static str) -> Self {
        Self::start_at(service, "info,openraft=warn")
    }

    /// The same with warnings only, for a demonstration whose own words matter.
    pub fn quiet(service: &'static str) -> Self {
        Self::start_at(service, "warn,openraft=error")
    }

    fn start_at(service: &'static str, levels: &str) -> Self {
        let filter = std::env::var("CERTWRIGHT_LOG")
            .or_else(|_| std::env::var("RUST_LOG"))
            .ok()
            .and_then(|text| EnvFilter::try_new(text).ok())
            .unwrap_or_else(|| {
                EnvFilter::new(format!(
                    "{levels},openraft::replication=error,openraft::engine=error,h2=warn,hyper=warn,sled=warn"
                ))
            });
        let provider = std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").and_then(|_| exporter(service));
        let traces =
            provider.as_ref().map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer(service)));
        let logs = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
        // A second start in one process (dev runs a server and an agent) keeps the first.
        let _ = tracing_subscriber::registry().with(filter).with(traces).with(logs).try_init();
        Self { provider }
    }

    /// Sends what is left.
    pub fn stop(self) {
        if let Some(provider) = self.provider
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// The OTLP exporter over gRPC, batched; `None` with a warning when the endpoint makes no sense.
fn exporter(service: &'static str) -> Option<SdkTracerProvider> {
    match opentelemetry_otlp::SpanExporter::builder().with_tonic().build() {
        Ok(exporter) => {
            let resource = Resource::builder().with_service_name(service).build();
            Some(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
        }
        Err(error) => {
            eprintln!("traces are not exported: {error}");
            None
        }
    }
}

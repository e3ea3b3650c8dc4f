//! Spans over OTLP.

use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{Protocol, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use crate::{Error, Result, worker};

/// How many spans wait to be sent, at most, where OTEL_BSP_MAX_QUEUE_SIZE doesn't say: many short tasks end at once.
const QUEUE: usize = 16 << 10;
/// How long the last spans may take.
const FLUSH: Duration = Duration::from_secs(5);
const WORKER_FLUSH: Duration = Duration::from_secs(1);
const QUEUE_VARIABLE: &str = "OTEL_BSP_MAX_QUEUE_SIZE";

/// Exports spans over OTLP, in protobuf over HTTP, from a thread of its own: a receiver that is slow or down slows nobody;
/// what does not get through is dropped, which is told as a `tracing` event of target `opentelemetry…`.
///
/// What is not said here is taken from the standard's variables: `OTEL_EXPORTER_OTLP_ENDPOINT`,
/// `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`,
/// `OTEL_BSP_…` and so on. There is no TLS in it: a program that wants `https` adds the crate `opentelemetry-otlp`, of the
/// same version, with its feature `reqwest-rustls`.
#[derive(Clone, Debug, Default)]
pub struct Otlp {
    service: Option<String>,
    endpoint: Option<String>,
    flush_within: Option<Duration>,
}

impl Otlp {
    /// What the environment says, or a receiver on this machine, port 4318.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the program is called in traces.
    #[must_use]
    pub fn service(mut self, name: impl Into<String>) -> Self {
        self.service = Some(name.into());
        self
    }

    /// The receiver's address, such as `http://collector:4318`; spans go to `/v1/traces` below it.
    #[must_use]
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = Some(url.into());
        self
    }

    /// How long the guard waits, when it is dropped, for the last spans to be sent. 5 seconds where not given, and 1 second in
    /// a [worker](crate::worker), whose end its engine waits for.
    #[must_use]
    pub fn flush_within(mut self, time: Duration) -> Self {
        self.flush_within = Some(time);
        self
    }

    /// The layer, to be composed with others of the program's, and the guard that is to be kept until the spans' end.
    ///
    /// Which spans are exported is the program's choice, with
    /// [`Layer::with_filter`](tracing_subscriber::Layer::with_filter); those of the exporter itself never are.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the endpoint, or a variable that says it, is no address.
    pub fn layer<S>(self) -> Result<(impl Layer<S> + Send + Sync + use<S>, OtlpGuard)>
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        let mut exporter = SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary);
        if let Some(endpoint) = &self.endpoint {
            exporter = exporter.with_endpoint(traces(endpoint)?);
        }
        // Whoever waits for a worker's end is not to wait for its receiver to come back.
        let worker = std::env::var_os(worker::ENTRY).is_some();
        if worker {
            exporter = exporter.with_retry_policy(RetryPolicy::disabled());
        }
        let exporter = exporter.build().map_err(|error| Error::Invalid {
            what: "OTLP exporter",
            found: error.to_string(),
            expected: "an address such as `http://collector:4318`, and valid OTEL_EXPORTER_OTLP_… variables",
        })?;
        let mut batches = BatchConfigBuilder::default();
        if std::env::var_os(QUEUE_VARIABLE).is_none() {
            batches = batches.with_max_queue_size(QUEUE);
        }
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches.build()).build();
        let mut resource = Resource::builder();
        if let Some(service) = self.service {
            resource = resource.with_service_name(service);
        }
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_resource(resource.build())
            .build();
        let within = if worker { WORKER_FLUSH } else { FLUSH };
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("kf"));
        let layer = layer.with_filter(filter_fn(|metadata| {
            let exporters = ["opentelemetry", "hyper", "reqwest"];
            !exporters.iter().any(|name| metadata.target().starts_with(name))
        }));
        Ok((layer, OtlpGuard { provider, within: self.flush_within.unwrap_or(within) }))
    }
}

/// Where spans go, below the receiver's address.
fn traces(endpoint: &str) -> Result<String> {
    let host = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
    if host.is_none_or(|host| host.is_empty() || host.starts_with('/')) {
        return Err(Error::Invalid {
            what: "OTLP endpoint",
            found: endpoint.chars().take(200).collect(),
            expected: "an address such as `http://collector:4318`",
        });
    }
    Ok(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
}

/// Sends what is left when it is dropped, for as long as [`Otlp::flush_within`] says; no span is exported after that.
#[must_use = "spans are exported until it is dropped"]
#[derive(Debug)]
pub struct OtlpGuard {
    provider: SdkTracerProvider,
    within: Duration,
}

impl Drop for OtlpGuard {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown_with_timeout(self.within) {
            tracing::warn!(%error, "the last spans were not exported");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        assert_eq!(traces("http://a:1").unwrap(), "http://a:1/v1/traces");
        assert_eq!(traces("https://a/b/").unwrap(), "https://a/b/v1/traces");
        for bad in ["", "a:1", "http://", "http:///x", "grpc://a"] {
            assert!(traces(bad).is_err(), "{bad}");
        }
        let bad = Otlp::new().endpoint("http://a b\n").layer::<tracing_subscriber::Registry>();
        assert!(matches!(bad.map(|_| ()), Err(Error::Invalid { .. })));
    }
}

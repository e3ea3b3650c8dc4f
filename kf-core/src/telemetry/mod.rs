//! Traces: what a span's trace is called outside of this process, and, with the feature `otel`, spans exported over
//! OTLP.
//!
//! The crates make `tracing` spans and leave it to the program what becomes of them; nothing here sets a global
//! subscriber. A [`TraceContext`] is a place in a trace, as HTTP headers and the environment variables
//! [`TRACEPARENT`] and [`TRACESTATE`] carry it. The engine hands an attempt's to every process that it starts, and a
//! [worker](crate::worker) goes on with the one that it finds.
//!
#![cfg_attr(
    feature = "otel",
    doc = "
With `otel`, [`Otlp`] makes a layer, which the program composes with others, and a guard that sends what is left when it
is dropped. Workers are processes of their own and need a subscriber too, which
[`Workers::setup`](crate::worker::Workers::setup) is for:

```no_run
use std::process::ExitCode;
use kf_core::telemetry::{Otlp, OtlpGuard};
use kf_core::worker::{Workers, WorkerError, run_if_asked};
use tracing_subscriber::prelude::*;

/// Exports spans to where OTEL_EXPORTER_OTLP_ENDPOINT says, or to a collector on this machine.
fn traced() -> Result<OtlpGuard, WorkerError> {
    let (layer, guard) = Otlp::new().service(\"digits\").layer().map_err(WorkerError::failed)?;
    tracing_subscriber::registry().with(layer).init();
    Ok(guard)
}

fn main() -> ExitCode {
    if let Some(code) = run_if_asked(&Workers::new().setup(traced)) {
        return code;
    }
    let _guard = traced().expect(\"the endpoint is an address\");
    // … the program proper …
    ExitCode::SUCCESS
}
```
"
)]

mod context;
#[cfg(feature = "otel")]
mod link;
#[cfg(not(feature = "otel"))]
#[path = "no_link.rs"]
mod link;
#[cfg(feature = "otel")]
mod otlp;

pub use context::{TRACEPARENT, TRACESTATE, TraceContext};
#[cfg(feature = "otel")]
pub use otlp::{Otlp, OtlpGuard};

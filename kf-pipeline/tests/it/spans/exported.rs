//! Spans over OTLP: engine, workers and steps in one trace.

use std::time::{Duration, Instant};

use kf_core::telemetry::{Otlp, OtlpGuard};
use kf_core::worker::WorkerError;
use libtest_mimic::Trial;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::receiver::Receiver;
use super::recorded::traced;
use super::traced::Order;
use crate::{Done, test};

/// Set in processes that are to export their spans.
const EXPORT: &str = "KF_TEST_EXPORT";
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test("engine_workers_and_steps_are_in_one_trace", one_trace),
        test("a_receiver_that_is_down_is_not_waited_for", down),
        test("a_receiver_that_never_answers_is_not_waited_for", silent),
    ]
}

pub(super) fn set_up() -> Result<Option<OtlpGuard>, WorkerError> {
    let Some(service) = std::env::var_os(EXPORT) else { return Ok(None) };
    let otlp = Otlp::new().service(service.to_string_lossy());
    let (layer, guard) = otlp.layer().map_err(WorkerError::failed)?;
    tracing_subscriber::registry().with(layer).init();
    Ok(Some(guard))
}

fn order(home: &std::path::Path, containers: bool) -> Order {
    let parent = Some(format!("00-{TRACE}-{PARENT}-01"));
    Order { home: home.join("home"), parent, print: false, containers }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text<'a>(span: &'a Span, key: &str) -> Option<&'a str> {
    let value = &span.attributes.iter().find(|attribute| attribute.key == key)?.value;
    match value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

async fn one_trace() -> Done {
    let receiver = Receiver::begin().await?;
    let home = tempfile::tempdir()?;
    let env = [(ENDPOINT, receiver.address.as_str()), (EXPORT, "tested")];
    let lines = traced(&order(home.path(), true), &env).await?;
    let received = receiver.received();
    assert!(received.iter().all(|received| received.service == "tested"));
    // The span of the engine's own process is in a trace of its own.
    let spans: Vec<_> = received.iter().map(|received| &received.span).collect();
    let (own, spans): (Vec<_>, Vec<_>) =
        spans.into_iter().partition(|span| span.name == "worker" && text(span, "entry") == Some("traced"));
    assert_eq!(own.len(), 1);
    for span in &spans {
        assert_eq!(hex(&span.trace_id), TRACE, "{span:?}");
    }
    let named = |name: &str| spans.iter().filter(|span| span.name == name).copied().collect::<Vec<_>>();
    let parent_of = |span: &Span| {
        let parent = spans.iter().find(|parent| parent.span_id == span.parent_span_id);
        parent.copied().unwrap_or_else(|| panic!("no parent of {span:?}"))
    };
    let runs = named("run");
    assert_eq!(runs.len(), 2, "{lines:?}");
    for run in &runs {
        assert_eq!(hex(&run.parent_span_id), PARENT);
    }
    let states: Vec<_> = runs.iter().map(|run| (text(run, "run"), text(run, "state"))).collect();
    assert!(states.contains(&(Some("typed"), Some("FAILED"))), "{states:?}");
    assert!(states.contains(&(Some("steps"), Some("SUCCEEDED"))), "{states:?}");
    assert!(named("task").iter().all(|task| parent_of(task).name == "run"));
    assert_eq!(named("task").len(), 7);
    let attempts = named("attempt");
    assert_eq!(attempts.len(), 8, "one task has two");
    let attempt_of = |task: &str| {
        let of = |attempt: &&&Span| text(parent_of(attempt), "task") == Some(task);
        *attempts.iter().find(of).unwrap_or_else(|| panic!("no attempt of {task}"))
    };
    let failed = attempt_of("panics").status.as_ref().map(|status| status.code);
    assert_eq!(failed, Some(2), "an error by OTLP's numbers");
    // In process the body's spans are children of the attempt's, and in a subprocess of the worker's, which is one.
    for (task, in_body) in [("emits", "in_body"), ("panics-here", "before_the_panic")] {
        let attempt = attempt_of(task);
        let children = spans.iter().filter(|span| span.parent_span_id == attempt.span_id);
        assert_eq!(children.map(|span| span.name.as_str()).collect::<Vec<_>>(), [in_body]);
    }
    for (task, in_body) in [("apart", "in_body"), ("panics", "before_the_panic")] {
        let worker = spans.iter().find(|span| span.parent_span_id == attempt_of(task).span_id);
        let worker = worker.ok_or(format!("no worker of {task}"))?;
        assert_eq!((worker.name.as_str(), text(worker, "entry")), ("worker", Some("kf-task")));
        let child = spans.iter().find(|span| span.parent_span_id == worker.span_id);
        let child = child.ok_or("nothing in the worker")?;
        assert_eq!(child.name, in_body);
        assert_eq!(child.events.len(), usize::from(in_body == "in_body"));
    }
    // Steps that are no Rust see their attempt.
    for step in ["step-0", "step-1"] {
        let wanted = format!("{step} saw 00-{TRACE}-{}-01,kf=1", hex(&attempt_of(step).span_id));
        assert!(lines.contains(&wanted), "no `{wanted}` in:\n{}", lines.join("\n"));
    }
    Ok(())
}

/// How long the runs took, in milliseconds.
fn took(lines: &[String]) -> Option<u64> {
    lines.iter().find_map(|line| line.strip_prefix("runs took ")?.strip_suffix(" ms")?.parse().ok())
}

async fn down() -> Done {
    let home = tempfile::tempdir()?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = format!("http://{}", listener.local_addr()?);
    drop(listener);
    let began = Instant::now();
    let lines = traced(&order(home.path(), false), &[(ENDPOINT, &address), (EXPORT, "down")]).await?;
    let (all, runs) = (began.elapsed(), took(&lines).ok_or("no time")?);
    println!("nobody listens: runs took {runs} ms, the process {all:?}");
    assert!(lines.iter().any(|line| line.contains("succeeded: 3")), "{lines:?}");
    assert!(runs < 10_000 && all < Duration::from_secs(15), "{runs} ms, {all:?}");
    Ok(())
}

async fn silent() -> Done {
    let home = tempfile::tempdir()?;
    // It takes connections, and reads nothing.
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = format!("http://{}", listener.local_addr()?);
    let began = Instant::now();
    let lines = traced(&order(home.path(), false), &[(ENDPOINT, &address), (EXPORT, "silent")]).await?;
    let (all, runs) = (began.elapsed(), took(&lines).ok_or("no time")?);
    println!("nobody answers: runs took {runs} ms, the process {all:?}");
    assert!(lines.iter().any(|line| line.contains("succeeded: 3")), "{lines:?}");
    // Workers wait a second for their last spans, and so does the engine's process.
    assert!(runs < 10_000 && all < Duration::from_secs(15), "{runs} ms, {all:?}");
    Ok(())
}

//! Spans as any subscriber sees them.

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};

use kf_core::process::{Command, Exit, Spawner};
use libtest_mimic::Trial;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use super::traced::{ENTRY, Order};
use crate::{Done, test};

pub(super) fn tests() -> Vec<Trial> {
    vec![
        test("runs_tasks_and_attempts_are_spans", spans),
        test("a_given_trace_parent_goes_on_to_steps", handed_on),
    ]
}

/// Keeps every span and event as a line, with the spans around it.
#[derive(Clone, Default)]
pub(super) struct Recorder(Arc<Mutex<Vec<String>>>);

impl Recorder {
    pub(super) fn install(&self) {
        tracing_subscriber::registry().with(self.clone()).init();
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// A span's fields as text.
struct Fields(String);

impl tracing::field::Visit for Fields {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(
        &self,
        attributes: &tracing::span::Attributes<'_>,
        id: &tracing::Id,
        context: Context<'_, S>,
    ) {
        let mut fields = Fields(String::new());
        attributes.record(&mut fields);
        context.span(id).unwrap().extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &tracing::Id, values: &tracing::span::Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        values.record(span.extensions_mut().get_mut::<Fields>().unwrap());
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        let around = context.event_span(event).map(|span| path(&span)).unwrap_or_default();
        self.0.lock().unwrap().push(format!("{around}:{}", fields.0));
    }

    fn on_close(&self, id: tracing::Id, context: Context<'_, S>) {
        self.0.lock().unwrap().push(path(&context.span(&id).unwrap()));
    }
}

fn path<'a, S: LookupSpan<'a>>(span: &tracing_subscriber::registry::SpanRef<'a, S>) -> String {
    let names = span.scope().from_root().map(|span| {
        let fields = span.extensions().get::<Fields>().map(|fields| fields.0.clone());
        format!("{}{{{}}}", span.name(), fields.unwrap_or_default().trim())
    });
    names.collect::<Vec<_>>().join("/")
}

/// What the engine's process prints.
pub(super) async fn traced(
    order: &Order,
    env: &[(&str, &str)],
) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let mut command = Command::entry(ENTRY, order)?.env_remove("TRACEPARENT").env_remove("TRACESTATE");
    for (name, value) in env {
        command = command.env(*name, *value);
    }
    let spawner = Spawner::new()?;
    let child = spawner.spawn(command).await?;
    let exit = child.wait().await;
    let lines = child.tail(1000);
    match exit {
        Exit::Code(0) => Ok(lines),
        exit => Err(format!("the engine's process ended with {exit}:\n{}", lines.join("\n")).into()),
    }
}

async fn spans() -> Done {
    let home = tempfile::tempdir()?;
    let order = Order { home: home.path().join("home"), parent: None, print: true, containers: false };
    let lines = traced(&order, &[]).await?;
    let has = |wanted: &str| match lines.iter().any(|line| line == wanted) {
        true => Ok(()),
        false => Err(format!("no `{wanted}` in:\n{}", lines.join("\n"))),
    };
    let run = "run{run=typed pipeline=\"typed\"}";
    let ends = |state: &str| format!("state=\"{state}\"");
    let ok = ends("SUCCEEDED");
    has(&format!("{run}/task{{task=\"emits\"}}/attempt{{number=1 executor=\"in-process\" {ok}}}"))?;
    has(&format!("{run}/task{{task=\"emits\" {ok}}}"))?;
    has(&format!(
        "{run}/task{{task=\"emits\"}}/attempt{{number=1 executor=\"in-process\"}}/in_body{{}}: message=from the body"
    ))?;
    has(&format!("{run}/task{{task=\"apart\"}}/attempt{{number=1 executor=\"subprocess\" {ok}}}"))?;
    let failed = |error: &str| format!("{} error=\"{error}\" otel.status_code=\"ERROR\"", ends("FAILED"));
    let task = format!("{run}/task{{task=\"says-its-number\"}}/attempt");
    has(&format!("{task}{{number=1 executor=\"in-process\" {}}}", failed("the first")))?;
    has(&format!("{task}{{number=2 executor=\"in-process\" {ok}}}"))?;
    has(&format!(
        "{run}/task{{task=\"panics-here\"}}/attempt{{number=1 executor=\"in-process\"}}/before_the_panic{{}}"
    ))?;
    let ended = lines.iter().filter(|line| line.starts_with("run{") && !line.contains('/'));
    let ended: Vec<_> = ended.collect();
    assert!(ended.len() == 1 && ended[0].contains(&ends("FAILED")), "{ended:?}");
    Ok(())
}

/// Without the feature, or without its layer, what was given goes on as it is.
async fn handed_on() -> Done {
    let home = tempfile::tempdir()?;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let order = Order {
        home: home.path().join("home"),
        parent: Some(parent.to_owned()),
        print: false,
        containers: true,
    };
    let lines = traced(&order, &[]).await?;
    for step in ["step-0", "step-1"] {
        let wanted = format!("{step} saw {parent},kf=1");
        assert!(lines.contains(&wanted), "no `{wanted}` in:\n{}", lines.join("\n"));
    }
    let none = Order { parent: None, home: home.path().join("other"), ..order };
    let lines = traced(&none, &[]).await?;
    assert!(lines.contains(&"step-0 saw ,".to_owned()), "{}", lines.join("\n"));
    Ok(())
}

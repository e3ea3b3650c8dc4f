//! Each word that a field may have, of those whose definition on a cluster lists them: the variants of our enums.

use kf_k8s::objects::jobset::{DependencyStatus, FailureAction, Operator, RestartStrategy};
use kf_k8s::objects::volcano::TopologyMode;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

use super::server::Server;
use super::version::Version;
use super::{Given, declared, filled};

/// Words that JobSet 0.8, which Trainer 2.0 comes with, does not know yet.
const NEWER: [&str; 3] = ["InPlaceRestart", "RestartJob", "RestartJobAndIgnoreMaxRestarts"];

pub(super) async fn all(given: Given) {
    let server = Server::new(&given.namespace).await;
    let version = Version::of(&server).await;
    let mut problems = Vec::new();
    for (name, objects) in rows() {
        assert!(!objects.is_empty(), "{name}");
        for (word, object) in objects {
            if !server.has(&object).await {
                continue;
            }
            let (object, _) = version.fit(&object);
            let taken = server.check(&object).await;
            let newer = NEWER.contains(&word.as_str());
            match (version == Version::Older && newer, taken) {
                (false, Err(problem)) => problems.push(format!("{name} {word}: {problem}")),
                (true, Ok(())) => problems.push(format!("{name} {word}: an older JobSet takes it")),
                _ => {}
            }
            let refused = server.check(&with(&object, &word, "Other")).await.unwrap_err();
            assert!(refused.contains("Other"), "{name}: {refused}");
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

fn rows() -> Vec<(&'static str, Vec<(String, Json)>)> {
    let strategy = |word| {
        let mut set = filled::job_set();
        set.spec.failure_policy.as_mut().unwrap().restart_strategy = Some(word);
        json!(set)
    };
    let action = |word| {
        let mut set = filled::job_set();
        set.spec.failure_policy.as_mut().unwrap().rules[0].action = word;
        json!(set)
    };
    let operator = |word| {
        let mut set = filled::job_set();
        set.spec.success_policy.as_mut().unwrap().operator = word;
        json!(set)
    };
    let dependency = |word| {
        let mut set = filled::job_set();
        set.spec.replicated_jobs[1].depends_on[0].status = word;
        json!(set)
    };
    let mode = |word| {
        let mut group = filled::volcano_pod_group();
        group.spec.network_topology.as_mut().unwrap().mode = Some(word);
        json!(group)
    };
    let of = |file: &str| format!("src/objects/{file}.rs");
    vec![
        row::<RestartStrategy>(&of("jobset"), "RestartStrategy", str::to_owned, strategy),
        row::<FailureAction>(&of("jobset"), "FailureAction", str::to_owned, action),
        row::<Operator>(&of("jobset"), "Operator", str::to_owned, operator),
        row::<DependencyStatus>(&of("jobset"), "DependencyStatus", str::to_owned, dependency),
        row::<TopologyMode>(&of("volcano"), "TopologyMode", str::to_lowercase, mode),
    ]
}

/// The words of an enum's variants, each in an object.
fn row<T: DeserializeOwned>(
    file: &str,
    name: &'static str,
    word: impl Fn(&str) -> String,
    object: impl Fn(T) -> Json,
) -> (&'static str, Vec<(String, Json)>) {
    let variants = declared::variants(file, name);
    let words = variants.iter().map(|variant| word(variant));
    let objects = words.map(|word| (word.clone(), object(serde_json::from_value(json!(word)).unwrap())));
    (name, objects.collect())
}

/// The same object with another word.
fn with(object: &Json, word: &str, other: &str) -> Json {
    let text = object.to_string().replace(&format!(":{word:?}"), &format!(":{other:?}"));
    serde_json::from_str(&text).unwrap()
}

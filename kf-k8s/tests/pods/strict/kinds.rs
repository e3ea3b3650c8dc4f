//! An object of each kind, with all that its type has.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use super::super::judge;
use super::server::Server;
use super::version::Version;
use super::{Given, declared, filled, trainer};

/// Every object is taken as it is; the same with one field more, which nobody knows, is not.
pub(super) async fn all(given: Given) {
    let server = Server::new(&given.namespace).await;
    let mut objects = vec![
        json!(filled::job_set()),
        json!(filled::pytorch_job()),
        json!(filled::tf_job()),
        json!(filled::xgboost_job()),
        json!(filled::mpi_job()),
        json!(filled::paddle_job()),
        json!(filled::jax_job()),
        json!(filled::volcano_pod_group()),
        json!(filled::pod_group()),
        json!(filled::workflow()),
    ];
    objects.extend(trainer::all(&given, &server).await);
    let kinds: BTreeSet<_> = objects.iter().map(kind).collect();
    assert_eq!(kinds, declared::kinds());

    let version = Version::of(&server).await;
    let (mut problems, mut unknown) = (Vec::new(), BTreeSet::new());
    for object in &objects {
        if !server.has(object).await {
            unknown.insert(kind(object));
            continue;
        }
        let (fitting, lacking) = version.fit(object);
        if !lacking.is_empty() {
            let refused = server.check(object).await.unwrap_err();
            assert!(lacking.iter().any(|field| refused.contains(field)), "{}: {refused}", kind(object));
        }
        if let Err(problem) = server.check(&fitting).await {
            problems.push(format!("{}: {problem}", kind(object)));
        }
        for place in ["", "/spec"] {
            let mut misspelt = fitting.clone();
            misspelt.pointer_mut(place).unwrap()["notAField"] = true.into();
            let refused = server.check(&misspelt).await.unwrap_err();
            assert!(refused.contains("notAField"), "{}: {refused}", kind(object));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(unknown.len() < kinds.len());
    match unknown.is_empty() {
        true => judge("strict-objects", "passed"),
        false => judge("strict-objects", &format!("skipped: the cluster has no {unknown:?}")),
    }
}

/// As the sources have it: `group/Kind`.
fn kind(object: &Json) -> String {
    let (group, _) = object["apiVersion"].as_str().unwrap().split_once('/').unwrap();
    format!("{group}/{}", object["kind"].as_str().unwrap())
}

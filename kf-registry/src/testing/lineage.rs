use kf_core::Digest;

use super::content;
use crate::{DigestRole, PageRequest, Registry};

/// From a run to its versions, from data to what was made of it, from content to its versions.
pub async fn lineage_is_followed_both_ways(registry: &dyn Registry) {
    let data = Digest::of("data");
    let of = |model: &str, text: &str, run: &str| {
        content(model, text).made_by(run, "fit").made_from("train", data)
    };
    registry.register(of("m", "x", "run-1")).await.expect("a version");
    registry.register(of("m", "y", "run-2")).await.expect("a version");
    registry.register(of("n", "x", "run-1")).await.expect("a version");
    registry.register(content("n", "derived").made_from("base", Digest::of("x"))).await.expect("a version");

    let run = registry.versions_of_run("run-1", PageRequest::default()).await.expect("a page");
    let found: Vec<_> = run.items.iter().map(|v| (v.model.as_str(), v.number)).collect();
    assert_eq!(found, [("m", 1), ("n", 1)]);
    assert_eq!(run.items[0].lineage.task.as_deref(), Some("fit"));

    let uses = registry.versions_of_digest(&data, PageRequest::default()).await.expect("a page");
    assert_eq!(uses.items.len(), 3);
    assert!(uses.items.iter().all(|found| found.role == DigestRole::Data));

    let uses = registry.versions_of_digest(&Digest::of("x"), PageRequest::default()).await.expect("a page");
    let found: Vec<_> = uses
        .items
        .iter()
        .map(|found| (found.role, found.version.model.as_str(), found.version.number))
        .collect();
    assert_eq!(
        found,
        [(DigestRole::Content, "m", 1), (DigestRole::Content, "n", 1), (DigestRole::Data, "n", 2)]
    );
}

/// Content that a second run makes again is found from both runs; the version itself stays as it was.
pub async fn each_registration_adds_its_lineage(registry: &dyn Registry) {
    let first = content("m", "x").made_by("run-1", "fit").made_from("train", Digest::of("old"));
    let second = content("m", "x").made_by("run-2", "fit").made_from("train", Digest::of("new"));
    let version = registry.register(first.clone()).await.expect("a version").version;
    for new in [second.clone(), second, first] {
        assert_eq!(registry.register(new).await.expect("the version").version, version);
    }
    for run in ["run-1", "run-2"] {
        let found = registry.versions_of_run(run, PageRequest::default()).await.expect("a page");
        assert_eq!(found.items, std::slice::from_ref(&version), "{run}");
    }
    for data in ["old", "new"] {
        let found =
            registry.versions_of_digest(&Digest::of(data), PageRequest::default()).await.expect("a page");
        assert_eq!(found.items.len(), 1, "{data}");
    }
    assert_eq!(version.lineage.run_id.as_deref(), Some("run-1"));
}

/// Pages follow one another, none twice, none left out.
pub async fn lineage_is_listed_in_pages(registry: &dyn Registry) {
    let data = Digest::of("data");
    for i in 0..5 {
        let text = i.to_string();
        let new = content("m", &text).made_by("run", "a").made_from("train", data).made_from("test", data);
        registry.register(new).await.expect("a version");
    }
    let (mut by_run, mut by_digest) = (Vec::new(), Vec::new());
    let mut request = PageRequest::first(2);
    for _ in 0..4 {
        let page = registry.versions_of_run("run", request.clone()).await.expect("a page");
        by_run.extend(page.items.iter().map(|version| version.number));
        let Some(token) = page.next else { break };
        request = request.after(token);
    }
    let mut request = PageRequest::first(2);
    for _ in 0..4 {
        let page = registry.versions_of_digest(&data, request.clone()).await.expect("a page");
        by_digest.extend(page.items.iter().map(|found| found.version.number));
        let Some(token) = page.next else { break };
        request = request.after(token);
    }
    assert_eq!(by_run, [1, 2, 3, 4, 5]);
    assert_eq!(by_digest, [1, 2, 3, 4, 5], "data in two roles is one use");
}

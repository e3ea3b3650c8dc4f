use futures::future::join_all;
use kf_core::Digest;
use serde_json::json;

use super::{alias, content, model};
use crate::{
    AliasChange, Error, ModelPatch, NewVersion, PageRequest, Property, Registered, Registry, VersionPatch,
    VersionState,
};

/// Numbers are 1, 2, 3 in each model; registering creates the model.
pub async fn versions_are_numbered_without_gaps(registry: &dyn Registry) {
    for (name, text, number) in [("a", "x", 1), ("a", "y", 2), ("b", "x", 1), ("a", "z", 3), ("b", "y", 2)] {
        let made = registry.register(content(name, text)).await.expect("a version");
        assert_eq!((made.version.number, made.created), (number, true), "{name} {text}");
    }
    assert_eq!(registry.model(&model("a")).await.expect("the model").versions, 3);
}

/// The same content in the same model gives back what is there, whatever else differs.
pub async fn the_same_content_is_one_version(registry: &dyn Registry) {
    let first = registry.register(content("m", "x").metric("accuracy", 0.9)).await.expect("a version");
    let again = registry.register(content("m", "x").metric("accuracy", 0.1)).await.expect("the version");
    assert_eq!(again, Registered::new(first.version.clone(), false));
    assert_eq!(registry.version(&model("m"), 1).await.expect("the version"), first.version);
    assert_eq!(registry.model(&model("m")).await.expect("the model").versions, 1);
}

/// Any number of callers at once make one version, and one of them is told that it made it.
pub async fn concurrent_registration_of_the_same_content_is_one_version(registry: &dyn Registry) {
    let answers = join_all((0..32).map(|_| registry.register(content("m", "x")))).await;
    let made: Vec<_> = answers.into_iter().map(|answer| answer.expect("a version")).collect();
    assert!(made.iter().all(|m| m.version.number == 1));
    assert_eq!(made.iter().filter(|m| m.created).count(), 1);
    assert_eq!(registry.model(&model("m")).await.expect("the model").versions, 1);
}

/// Different content at once gets different numbers without gaps.
pub async fn concurrent_registration_leaves_no_gaps(registry: &dyn Registry) {
    let answers = join_all((0..32).map(|i| registry.register(content("m", &i.to_string())))).await;
    let mut numbers: Vec<_> = answers.into_iter().map(|a| a.expect("a version").version.number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=32).collect::<Vec<_>>());
}

/// Every field comes back as it was given, floating-point numbers to the last bit.
pub async fn everything_registered_comes_back(registry: &dyn Registry) {
    let awkward = 0.1 + 0.2;
    let data = Digest::of("data");
    let new = content("m", "x")
        .author("ann")
        .description("Ünïcode \u{1F980} \"quoted\"; DROP TABLE versions; --")
        .metadata("format", "safetensors")
        .metadata("layers", 3)
        .metadata("dropout", awkward)
        .metadata("shape", json!({ "in": [8, 8], "none": null }))
        .parameter("rates", json!([0.03, awkward]))
        .parameter("seed", u64::MAX)
        .metric("accuracy", awkward)
        .metric("tiny", 5e-324)
        .metric("huge", f64::MAX)
        .made_by("run-1", "fit[2]")
        .made_from("train", data)
        .idempotency_key("k");
    let made = registry.register(new.clone()).await.expect("a version").version;
    let read = registry.version(&model("m"), 1).await.expect("the version");
    assert_eq!(read, made);
    assert_eq!((&read.digest, &read.uri, read.size), (&new.digest, &new.uri, new.size));
    assert_eq!(
        (&read.metadata, &read.parameters, &read.metrics),
        (&new.metadata, &new.parameters, &new.metrics)
    );
    assert_eq!(read.metrics["accuracy"].to_bits(), awkward.to_bits());
    assert_eq!((&read.lineage, &read.author), (&new.lineage, &new.author));
    assert_eq!((&read.description, read.state, read.revision), (&new.description, VersionState::Live, 1));
    assert!(read.custom_properties.is_empty());
}

/// A key repeated with its content gives the version; with other content it is refused, and nothing is made.
pub async fn an_idempotency_key_stays_with_its_content(registry: &dyn Registry) {
    let first = registry.register(content("m", "x").idempotency_key("k")).await.expect("a version");
    let again = registry.register(content("m", "x").idempotency_key("k")).await.expect("the version");
    assert_eq!((again.version, again.created), (first.version, false));
    let other = registry.register(content("m", "y").idempotency_key("k")).await;
    assert!(matches!(other, Err(Error::KeyConflict { version: 1, .. })), "{other:?}");
    assert_eq!(registry.model(&model("m")).await.expect("the model").versions, 1);
    let elsewhere = registry.register(content("n", "y").idempotency_key("k")).await.expect("a version");
    assert!(elsewhere.created, "keys of models are apart");
    let second_key = registry.register(content("m", "x").idempotency_key("k2")).await.expect("the version");
    assert_eq!((second_key.version.number, second_key.created), (1, false));
    let other = registry.register(content("m", "y").idempotency_key("k2")).await;
    assert!(matches!(other, Err(Error::KeyConflict { .. })), "{other:?}");
}

/// A patch changes description, state and custom properties, and nothing else.
pub async fn only_the_mutable_part_changes(registry: &dyn Registry) {
    let before = registry.register(content("m", "x").metric("a", 1.0)).await.expect("a version").version;
    let patch =
        VersionPatch::new().description("checked").state(VersionState::Archived).set("by", "ann").set("n", 1);
    let after = registry.update_version(&model("m"), 1, patch).await.expect("an update");
    assert_eq!(registry.version(&model("m"), 1).await.expect("the version"), after);
    assert_eq!(
        (after.description.as_str(), after.state, after.revision),
        ("checked", VersionState::Archived, 2)
    );
    let patch = VersionPatch::new().set("n", 2).remove("by").remove("never was");
    let after = registry.update_version(&model("m"), 1, patch).await.expect("an update");
    assert_eq!(after.custom_properties, [("n".to_owned(), Property::Int(2))].into());
    assert_eq!((after.description.as_str(), after.revision), ("checked", 3));
    let mut immutable = after.clone();
    immutable.description.clone_from(&before.description);
    immutable.custom_properties.clone_from(&before.custom_properties);
    (immutable.state, immutable.revision, immutable.updated) =
        (before.state, before.revision, before.updated);
    assert_eq!(immutable, before);
}

/// Of changes made for the same revision, one goes through.
pub async fn a_stale_revision_is_refused(registry: &dyn Registry) {
    registry.register(content("m", "x")).await.expect("a version");
    let name = model("m");
    let patches = (0..8).map(|i| VersionPatch::new().set("who", i).expecting(1));
    let answers = join_all(patches.map(|patch| registry.update_version(&name, 1, patch))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    for answer in answers.into_iter().filter(Result::is_err) {
        assert!(matches!(answer, Err(Error::RevisionConflict { found: 2, expected: 1, .. })), "{answer:?}");
    }
}

/// Pages of versions go from the newest to the oldest; what is added meanwhile disturbs nothing.
pub async fn versions_are_listed_in_pages(registry: &dyn Registry) {
    for i in 0..5 {
        registry.register(content("m", &i.to_string())).await.expect("a version");
        registry.register(content("other", &i.to_string())).await.expect("a version");
    }
    let first = registry.versions(&model("m"), PageRequest::first(2)).await.expect("a page");
    registry.register(content("m", "later")).await.expect("a version");
    let mut numbers: Vec<_> = first.items.iter().map(|v| v.number).collect();
    let mut next = first.next;
    for _ in 0..4 {
        let Some(token) = next else { break };
        let page = registry.versions(&model("m"), PageRequest::first(2).after(token)).await.expect("a page");
        numbers.extend(page.items.iter().map(|v| v.number));
        next = page.next;
    }
    assert_eq!(numbers, [5, 4, 3, 2, 1]);
    let bad = registry.versions(&model("m"), PageRequest::first(1).after("x")).await;
    assert!(matches!(bad, Err(Error::Invalid { .. })), "{bad:?}");
}

/// Every question about what is not there says so, by name.
pub async fn what_is_not_there_is_not_found(registry: &dyn Registry) {
    registry.register(content("m", "x")).await.expect("a version");
    let (there, missing, champion) = (model("m"), model("missing"), alias("champion"));
    let page = PageRequest::default;
    let errors = [
        registry.model(&missing).await.map(drop),
        registry.update_model(&missing, ModelPatch::new()).await.map(drop),
        registry.version(&missing, 1).await.map(drop),
        registry.version(&there, 2).await.map(drop),
        registry.version(&there, 0).await.map(drop),
        registry.update_version(&there, 2, VersionPatch::new()).await.map(drop),
        registry.version_by_alias(&there, &champion).await.map(drop),
        registry.version_by_alias(&missing, &champion).await.map(drop),
        registry.versions(&missing, page()).await.map(drop),
        registry.aliases(&missing).await.map(drop),
        registry.alias_history(&missing, &champion, page()).await.map(drop),
        registry.change_alias(AliasChange::set(missing.clone(), champion.clone(), 1, "ann")).await.map(drop),
        registry.change_alias(AliasChange::set(there.clone(), champion.clone(), 2, "ann")).await.map(drop),
        registry.change_alias(AliasChange::delete(there.clone(), champion.clone(), "ann")).await.map(drop),
    ];
    for (index, answer) in errors.into_iter().enumerate() {
        assert!(matches!(&answer, Err(Error::NotFound { .. })), "question {index}: {answer:?}");
        assert!(answer.is_err_and(|error| !error.is_retryable()));
    }
    assert!(registry.versions_of_run("never", page()).await.expect("a page").items.is_empty());
    assert!(
        registry.versions_of_digest(&Digest::of("never"), page()).await.expect("a page").items.is_empty()
    );
    assert!(registry.alias_history(&there, &champion, page()).await.expect("a page").items.is_empty());
}

/// What can't be stored is refused before anything is written, the model included.
pub async fn bad_requests_are_refused_and_leave_nothing(registry: &dyn Registry) {
    let with = |change: fn(&mut NewVersion)| {
        let mut new = content("m", "x");
        change(&mut new);
        new
    };
    let bad = [
        with(|new| new.uri = String::new()),
        with(|new| new.uri = "u".repeat(5000)),
        with(|new| new.size = u64::MAX),
        with(|new| new.author = "a".repeat(300)),
        with(|new| new.idempotency_key = Some(String::new())),
        with(|new| new.lineage.run_id = Some("a\0b".to_owned())),
        with(|new| new.lineage.task = Some("a task without a run".to_owned())),
        content("m", "x").metric("loss", f64::NAN),
        content("m", "x").metric("loss", f64::INFINITY),
        content("m", "x").metric("", 1.0),
        content("m", "x").metadata("ratio", f64::NEG_INFINITY),
        content("m", "x").parameter("lr", json!(f64::NAN)),
        content("m", "x").parameter("big", "x".repeat(2_000_000)),
    ];
    for (index, new) in bad.into_iter().enumerate() {
        let answer = registry.register(new).await;
        assert!(matches!(&answer, Err(Error::Invalid { .. })), "request {index}: {answer:?}");
    }
    assert!(registry.models(PageRequest::default()).await.expect("a page").items.is_empty());

    registry.register(content("m", "x")).await.expect("a version");
    let patch = VersionPatch::new().description("half").set("ratio", f64::NAN);
    let answer = registry.update_version(&model("m"), 1, patch).await;
    assert!(matches!(&answer, Err(Error::Invalid { .. })), "{answer:?}");
    assert_eq!(registry.version(&model("m"), 1).await.expect("the version").description, "");
    let set = |actor: &str| AliasChange::set(model("m"), alias("champion"), 1, actor);
    for change in [set(""), set(&"a".repeat(300)), set("ann").because("r".repeat(5000))] {
        let answer = registry.change_alias(change).await;
        assert!(matches!(&answer, Err(Error::Invalid { .. })), "{answer:?}");
    }
    assert!(registry.aliases(&model("m")).await.expect("aliases").is_empty());
}

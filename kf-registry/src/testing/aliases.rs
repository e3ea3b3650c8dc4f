use futures::future::join_all;

use super::{alias, content, model};
use crate::{AliasChange, Error, Expected, PageRequest, Registry};

async fn three_versions(registry: &dyn Registry) {
    for text in ["one", "two", "three"] {
        registry.register(content("m", text)).await.expect("a version");
    }
}

fn champion(version: u32) -> AliasChange {
    AliasChange::set(model("m"), alias("champion"), version, "ann")
}

/// Each move is an event with actor, reason and what was held before; the last is what holds.
pub async fn an_alias_moves_and_keeps_its_history(registry: &dyn Registry) {
    three_versions(registry).await;
    for (version, reason) in [(1, "first"), (3, "better"), (2, "")] {
        let answer = registry.change_alias(champion(version).because(reason)).await.expect("a change");
        assert!(answer.changed);
        let held = registry.version_by_alias(&model("m"), &alias("champion")).await.expect("the champion");
        assert_eq!(held.number, version);
    }
    let again = registry.change_alias(champion(2).because("no news")).await.expect("no change");
    assert!(!again.changed && again.event.reason.is_empty(), "{again:?}");
    let first =
        registry.alias_history(&model("m"), &alias("champion"), PageRequest::first(2)).await.expect("a page");
    let token = first.next.clone().expect("a second page");
    let second = registry
        .alias_history(&model("m"), &alias("champion"), PageRequest::first(2).after(token))
        .await
        .expect("a page");
    assert!(second.next.is_none());
    let events: Vec<_> = first.items.into_iter().chain(second.items).collect();
    let told: Vec<_> = events.iter().map(|e| (e.from, e.to, e.actor.as_str(), e.reason.as_str())).collect();
    let expected =
        [(Some(3), Some(2), "ann", ""), (Some(1), Some(3), "ann", "better"), (None, Some(1), "ann", "first")];
    assert_eq!(told, expected);
    assert!(events.is_sorted_by(|newer, older| newer.sequence > older.sequence && newer.at >= older.at));
    assert_eq!(registry.aliases(&model("m")).await.expect("aliases"), [events[0].clone()]);
}

/// A change whose expectation does not fit is refused with the holder named, and leaves no event.
pub async fn an_alias_is_compared_before_it_is_set(registry: &dyn Registry) {
    three_versions(registry).await;
    let refused = registry.change_alias(champion(2).expecting(Expected::Version(1))).await;
    assert!(matches!(&refused, Err(Error::AliasConflict(c)) if c.found.is_none()), "{refused:?}");
    registry.change_alias(champion(1).expecting(Expected::Unset)).await.expect("a change");
    let refused = registry.change_alias(champion(2).expecting(Expected::Unset)).await;
    match &refused {
        Err(Error::AliasConflict(conflict)) => {
            assert_eq!((conflict.found, conflict.expected), (Some(1), Expected::Unset));
            assert!(conflict.last_change.as_ref().is_some_and(|change| change.contains("ann")), "{conflict}");
        }
        other => assert!(matches!(other, Err(Error::AliasConflict(_))), "{other:?}"),
    }
    registry.change_alias(champion(2).expecting(Expected::Version(1))).await.expect("a change");
    let retried =
        registry.change_alias(champion(2).expecting(Expected::Version(1))).await.expect("no change");
    assert!(!retried.changed, "a wish that is fulfilled is left alone");
    let page = PageRequest::default();
    let history = registry.alias_history(&model("m"), &alias("champion"), page).await.expect("a page");
    assert_eq!(history.items.len(), 2);
}

/// Of many that expect the same, one wins; the others are told.
pub async fn of_concurrent_changes_one_wins(registry: &dyn Registry) {
    for i in 0..16 {
        registry.register(content("m", &i.to_string())).await.expect("a version");
    }
    let wishes = (1..=16).map(|i| registry.change_alias(champion(i).expecting(Expected::Unset)));
    let answers = join_all(wishes).await;
    let winners: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
    assert_eq!(winners.len(), 1, "{winners:?}");
    for answer in answers.iter().filter(|answer| answer.is_err()) {
        assert!(
            matches!(answer, Err(Error::AliasConflict(c)) if c.found == winners[0].event.to),
            "{answer:?}"
        );
    }
    assert_eq!(registry.aliases(&model("m")).await.expect("aliases"), [winners[0].event.clone()]);
}

/// A deleted alias is gone, its history stays, and it can be set again.
pub async fn an_alias_is_deleted_and_set_again(registry: &dyn Registry) {
    three_versions(registry).await;
    let delete = || AliasChange::delete(model("m"), alias("champion"), "bob").because("wrong");
    registry.change_alias(champion(1)).await.expect("a change");
    let stale = registry.change_alias(delete().expecting(Expected::Version(2))).await;
    assert!(matches!(stale, Err(Error::AliasConflict(_))), "{stale:?}");
    let gone = registry.change_alias(delete().expecting(Expected::Version(1))).await.expect("a change");
    assert_eq!((gone.event.from, gone.event.to, gone.changed), (Some(1), None, true));
    assert!(!registry.change_alias(delete()).await.expect("no change").changed);
    assert!(registry.aliases(&model("m")).await.expect("aliases").is_empty());
    let held = registry.version_by_alias(&model("m"), &alias("champion")).await;
    assert!(matches!(held, Err(Error::NotFound { .. })), "{held:?}");
    registry.change_alias(champion(2).expecting(Expected::Unset)).await.expect("a change");
    let page = PageRequest::default();
    let history = registry.alias_history(&model("m"), &alias("champion"), page).await.expect("a page");
    let moves: Vec<_> = history.items.iter().map(|event| (event.from, event.to)).collect();
    assert_eq!(moves, [(None, Some(2)), (Some(1), None), (None, Some(1))]);
}

/// An alias can't hold a version that is not there; nothing is written.
pub async fn an_alias_holds_versions_that_exist(registry: &dyn Registry) {
    three_versions(registry).await;
    let missing = registry.change_alias(champion(4)).await;
    assert!(matches!(&missing, Err(Error::NotFound { .. })), "{missing:?}");
    assert!(missing.is_err_and(|error| error.to_string().contains("1 to 3")));
    let zero = registry.change_alias(champion(0)).await;
    assert!(matches!(zero, Err(Error::Invalid { .. })), "{zero:?}");
    assert!(registry.aliases(&model("m")).await.expect("aliases").is_empty());
}

/// The same alias of two models is two aliases, and several aliases may hold one version.
pub async fn aliases_of_models_are_apart(registry: &dyn Registry) {
    three_versions(registry).await;
    registry.register(content("n", "one")).await.expect("a version");
    registry.change_alias(champion(3)).await.expect("a change");
    let set = |name: &str, other: &str| AliasChange::set(model(name), alias(other), 1, "ann");
    registry.change_alias(set("n", "champion").expecting(Expected::Unset)).await.expect("a change");
    registry.change_alias(set("m", "baseline")).await.expect("a change");
    registry.change_alias(set("m", "archive")).await.expect("a change");
    let of_m = registry.aliases(&model("m")).await.expect("aliases");
    let names: Vec<_> = of_m.iter().map(|event| (event.alias.as_str(), event.to)).collect();
    assert_eq!(names, [("archive", Some(1)), ("baseline", Some(1)), ("champion", Some(3))]);
    let of_n = registry.version_by_alias(&model("n"), &alias("champion")).await.expect("the champion");
    assert_eq!((of_n.model, of_n.number), (model("n"), 1));
}

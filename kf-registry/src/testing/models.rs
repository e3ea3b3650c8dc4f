use super::{content, model};
use crate::{Error, ModelPatch, NewModel, PageRequest, Property, Registry};

/// A model is created once, and reads back as it was given.
pub async fn a_model_is_created_once(registry: &dyn Registry) {
    let new = NewModel::new(model("digits")).description("reads digits").custom_property("team", "vision");
    let made = registry.create_model(new.clone()).await.expect("a new model");
    assert_eq!((made.description.as_str(), made.versions, made.revision), ("reads digits", 0, 1));
    assert_eq!(made.custom_properties["team"], Property::from("vision"));
    assert_eq!(registry.model(&model("digits")).await.expect("the model"), made);
    let again = registry.create_model(new).await;
    assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
    let other_case = registry.create_model(NewModel::new(model("Digits"))).await;
    assert!(other_case.is_ok(), "upper and lower case are told apart: {other_case:?}");
}

/// Pages follow one another in the order of names, none twice, none left out.
pub async fn models_are_listed_in_pages(registry: &dyn Registry) {
    for name in ["d", "b", "a", "e", "c"] {
        registry.create_model(NewModel::new(model(name))).await.expect("a new model");
    }
    let mut request = PageRequest::first(2);
    let mut names = Vec::new();
    for _ in 0..4 {
        let page = registry.models(request.clone()).await.expect("a page");
        assert!(page.items.len() <= 2);
        names.extend(page.items.into_iter().map(|m| m.name.to_string()));
        let Some(token) = page.next else { break };
        request = request.after(token);
    }
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    for bad in [PageRequest::first(0), PageRequest::first(1001), PageRequest::first(1).after("a/b")] {
        let answer = registry.models(bad).await;
        assert!(matches!(answer, Err(Error::Invalid { .. })), "{answer:?}");
    }
}

/// A patch changes what it names; the count of versions is the registry's own.
pub async fn a_model_is_updated(registry: &dyn Registry) {
    let name = model("digits");
    let new = NewModel::new(name.clone()).custom_property("a", 1).custom_property("b", 2);
    let before = registry.create_model(new).await.expect("a new model");
    registry.register(content("digits", "one")).await.expect("a version");
    let patch = ModelPatch::new().description("new").remove("a").set("c", true).expecting(1);
    let after = registry.update_model(&name, patch.clone()).await.expect("an update");
    assert_eq!((after.description.as_str(), after.versions, after.revision), ("new", 1, 2));
    assert_eq!(after.custom_properties.keys().collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(after.created, before.created);
    assert_eq!(registry.model(&name).await.expect("the model"), after);
    let stale = registry.update_model(&name, patch).await;
    assert!(matches!(stale, Err(Error::RevisionConflict { found: 2, expected: 1, .. })), "{stale:?}");
}

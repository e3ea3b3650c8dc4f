//! Components' bodies are functions, which a unit test calls without an engine.

use kf_pipeline::prelude::*;
use libtest_mimic::Trial;

use crate::components::{double, flaky, join, make, measure};
use crate::{Done, test};

pub(crate) fn tests() -> Vec<Trial> {
    vec![test("bodies_are_plain_functions", bodies), test("bodies_take_state_made_by_hand", state)]
}

async fn bodies() -> Done {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    let made = Output::to_path(path("made"));
    // What a test looks at afterwards is what is on disk, and what was said about it.
    make::call(21, made).await?;
    assert_eq!(std::fs::read_to_string(path("made"))?, "21");
    assert_eq!(double::call(Input::from_path(path("made")), Output::to_path(path("doubled"))).await?, 42);
    let models = vec![Input::from_path(path("doubled")), Input::from_path(path("made"))];
    assert_eq!(join::call(models, vec![1, 2])?, "42,21 [1, 2]");
    let measured = measure::call(0.5).await;
    assert_eq!((measured.score, measured.label.as_str()), (0.5, "s0.5"));
    let context = Context::detached(path("attempt"));
    assert_eq!(context.attempt(), 1);
    assert_eq!(flaky::call(context).await.unwrap_err().to_string(), "attempt 1");
    let missing = double::call(Input::from_path(path("missing")), Output::to_path(path("none"))).await;
    assert!(missing.unwrap_err().to_string().contains("No such file"));
    Ok(())
}

#[component]
async fn add_all(more: i64, numbers: State<Vec<i64>>) -> i64 {
    numbers.iter().sum::<i64>() + more
}

async fn state() -> Done {
    assert_eq!(add_all::call(1, State::new(vec![2, 3])).await, 6);
    Ok(())
}

//! What a closure adds with the builder of what is around it.

use super::{load, problem_at, problems};
use crate::builder::Question;
use crate::prelude::*;

#[test]
fn a_task_that_would_not_belong_to_its_closure_is_refused() {
    let opened = line!() + 3;
    let built = Pipeline::build("outer", |outer| {
        let seed = outer.param::<i64>("seed", 1);
        let _ = outer.when(seed.eq(1), |_| {
            outer.add(load(seed));
        });
    });
    let message = problem_at(opened + 1, built);
    let words = [
        "task `load` is added in the closure of the branch",
        &format!("{}:{opened}", file!()),
        "whether its condition holds or not",
        "the closure's own `p`",
    ];
    assert!(words.iter().all(|word| message.contains(word)), "{message}");

    let built = Pipeline::build("outer", |outer| {
        let _ = outer.parallel_for(vec![1_i64], |p, item| {
            p.add(load(item));
            outer.add(load(2)).output
        });
    });
    let message = problem_at(line!() - 3, built);
    assert!(message.contains("once, and not for each item"), "{message}");
}

#[test]
fn whatever_is_added_belongs_to_its_closure() {
    let built = Pipeline::build("outer", |outer| {
        let seed = outer.param::<i64>("seed", 1);
        outer.nest("group", |_| {
            let _ = outer.when(seed.eq(1), |_| ()).or_when(seed.eq(2), |_| ());
            let _ = outer.parallel_for(vec![1_i64], |p, item| p.add(load(item)));
            outer.nest("inner", |_| ());
            outer.import::<Dataset>("file:///data");
            outer.approval(Question::new("Go on?"));
            outer.exit_group(|_| load(1), |_| ());
            outer.on_exit(load(1));
            outer.recurse("again", 2, seed, |again, seed, recursion| {
                let _ = again.when(seed.gt(1), |p| {
                    let _ = p.when(seed.eq(2), |_| {
                        let _: crate::builder::Value<'_, i64> = recursion.call(p, seed);
                    });
                });
                again.add(load(1)).output
            });
        });
    });
    let found: Vec<String> = problems(built).into_iter().map(|problem| problem.message).collect();
    let expected = [
        "a branch is",
        "a branch is",
        "a loop is",
        "group `inner` is",
        "an import is",
        "question `approval` is",
        "a group is",
        "task `load-2` is",
        "an exit handler is the whole pipeline's",
        "recursion `again` is",
        "a call of recursion `again` is",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{expected}: {found}");
    }
}

//! A small pipeline.

use std::time::Duration;

use kf_core::backoff::Backoff;
use kf_pipeline::prelude::*;
use kf_pipeline::{Result, Scope};

use crate::kill::components::{add_up, check, first, make, stubborn, tell};

/// A loop, a condition that holds and one that doesn't, retries, and an exit handler.
pub(crate) fn small() -> Result<Pipeline> {
    Pipeline::build("small", |p| {
        let at = p.required_param::<String>("witness");
        let items = p.param::<Vec<i64>>("items", (1..9).collect::<Vec<_>>());
        let first = p.add(first(at));
        let each = p.parallel_for_limited(items, 2, |p, item| {
            let made = p.add(make(at, item, 0, first.out));
            p.add(check(at, made.out, made.output))
        });
        let sum = p.add(add_up(at, each.collect().output));
        p.when(sum.output.gt(0), |p| {
            let waits = Backoff { initial: Duration::from_millis(60), ..Backoff::default() };
            p.add(stubborn(at, 3).retries(2).backoff(waits).after(sum));
        });
        p.when(sum.output.lt(0), |p: &Scope<'_>| p.add(add_up(at, Vec::new()).named("never")));
        p.on_exit(tell(at, None, p.run_status()).named("bye"));
    })
}

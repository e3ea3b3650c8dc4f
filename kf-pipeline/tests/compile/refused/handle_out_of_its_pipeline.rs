#![allow(dead_code, unused_variables)]

use kf_pipeline::prelude::*;

#[component]
fn count(start: i64) -> i64 {
    start + 1
}

fn main() {
    let mut kept = None;
    let _ = Pipeline::build("first", |p| {
        kept = Some(p.add(count(1)).output);
    });
    let _ = Pipeline::build("second", |p| {
        p.add(count(kept.unwrap()));
    });
}

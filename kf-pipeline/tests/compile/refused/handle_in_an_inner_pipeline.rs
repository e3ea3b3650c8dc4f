#![allow(dead_code, unused_variables)]

use kf_pipeline::prelude::*;

#[component]
fn count(start: i64) -> i64 {
    start + 1
}

fn main() {
    let _ = Pipeline::build("outer", |p| {
        let counted = p.add(count(1));
        let _ = Pipeline::build("inner", |q| {
            q.add(count(counted.output));
        });
    });
}

#![allow(dead_code, unused_variables)]

use kf_pipeline::prelude::*;

struct Tree;

#[component]
fn fit(rate: f64) -> TaskResult<Tree> {
    Ok(Tree)
}

fn main() {}

#![allow(dead_code, unused_variables)]

use kf_pipeline::prelude::*;

struct Tree;

#[derive(Outputs)]
struct Fitted {
    accuracy: f64,
    tree: Tree,
}

fn main() {}

#![allow(dead_code, unused_variables)]

use kf_pipeline::prelude::*;

struct Tree;

#[component]
fn fit(tree: Tree) {}

fn main() {}

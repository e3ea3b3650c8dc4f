#![allow(dead_code, unused_variables)]

use kf_pipeline::prelude::*;

#[derive(Param)]
struct Options {
    depth: u32,
}

fn main() {}

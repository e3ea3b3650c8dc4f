#![allow(dead_code, unused_variables)]

use kf_pipeline::prelude::*;

#[component]
fn greet(name: &str) {}

fn main() {}

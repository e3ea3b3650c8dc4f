#![allow(dead_code, unused_variables)]

use kf_pipeline::prelude::*;

#[component]
fn remove(status: FinalStatus) {}

fn main() {
    let _ = Pipeline::build("wrong", |p| {
        p.exit_group(|status| p.add(remove(status)), |_| ());
    });
}

#![allow(dead_code, unused_variables)]

use kf_pipeline::prelude::*;

fn main() {
    let _ = Pipeline::build("wrong", |p| {
        let count = p.param::<i64>("count", 3);
        let _ = p.parallel_for(count, |_, _| ());
    });
}

#![allow(dead_code, unused_variables)]

use kf_pipeline::prelude::*;

struct Mine;

fn main() {
    let _ = Pipeline::build("wrong", |p| {
        let on = p.param("on", true);
        p.when(on, |_| Mine).otherwise(|_| Mine);
    });
}

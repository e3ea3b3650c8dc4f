use kf_pipeline::Handles;

#[derive(Clone, Copy, Handles)]
struct Prepared {
    rows: u64,
}

fn main() {}

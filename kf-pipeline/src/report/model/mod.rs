//! What a report shows, found from what the stores hold: nothing here reads, writes or draws.

mod after;
mod critical;
mod facts;
mod rows;
mod tolerated;
mod tree;

pub(super) use after::after;
pub(super) use critical::{Step, critical_path};
pub(super) use facts::{Counts, Facts, STATES};
pub(super) use rows::{Kind, Row, Rows};
pub(super) use tree::{Dag, Edge, EdgeKind, Item};

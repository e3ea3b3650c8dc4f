//! The report as HTML: one file that needs nothing else, and nothing from the network.

mod detail;
mod facts;
mod icons;
mod layout;
mod page;
mod results;
mod rows;
mod svg;
#[cfg(test)]
mod tests;
mod text;
mod timeline;
mod tree;

pub(super) use page::render;

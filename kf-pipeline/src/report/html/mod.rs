//! The report as HTML: one file that needs nothing else, and nothing from the network.

mod artifacts;
mod data;
mod icons;
mod layout;
mod markdown;
mod matrix;
mod page;
mod path;
mod results;
mod roc;
mod svg;
#[cfg(test)]
mod tests;
mod visuals;

pub(super) use page::render;

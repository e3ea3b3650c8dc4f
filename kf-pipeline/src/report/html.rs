//! The report as HTML.

use super::Report;

pub(super) fn render(report: &Report) -> String {
    format!("<!doctype html><title>{}</title>", report.run.id)
}

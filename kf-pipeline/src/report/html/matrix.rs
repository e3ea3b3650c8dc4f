//! Confusion matrices, from the `confusionMatrix` of classification metrics.

use serde_json::Value as Json;

use crate::report::text::{Safe, clipped, put, value};

/// How many classes are shown.
const CLASSES: usize = 30;

#[derive(Debug)]
pub(super) struct Matrix {
    classes: Vec<String>,
    rows: Vec<Vec<f64>>,
}

impl Matrix {
    /// Reads what the SDK writes, or what the backend makes of it, an object around that. None where rows and classes
    /// do not fit, or there are too many.
    pub(super) fn read(json: &Json) -> Option<Self> {
        let json = json.get("struct").unwrap_or(json);
        let json = json.get("confusionMatrix").unwrap_or(json);
        let classes: Option<Vec<String>> = json
            .get("annotationSpecs")?
            .as_array()?
            .iter()
            .map(|class| Some(class.get("displayName")?.as_str()?.to_owned()))
            .collect();
        let rows: Option<Vec<Vec<f64>>> = json
            .get("rows")?
            .as_array()?
            .iter()
            .map(|row| row.get("row").unwrap_or(row).as_array()?.iter().map(Json::as_f64).collect())
            .collect();
        let (classes, rows) = (classes?, rows?);
        let fits = rows.len() == classes.len() && rows.iter().all(|row| row.len() == classes.len());
        (fits && (1..=CLASSES).contains(&classes.len())).then_some(Self { classes, rows })
    }

    pub(super) fn draw(&self, out: &mut String) {
        out.push_str(
            "<table class=matrix><caption>Rows are true classes, columns predicted ones</caption><tr><th>",
        );
        for class in &self.classes {
            put!(out, "<th>{}", Safe(&clipped(class, 12)));
        }
        for (row, class) in self.classes.iter().enumerate() {
            put!(out, "<tr><th>{}", Safe(&clipped(class, 24)));
            let total: f64 = self.rows[row].iter().sum();
            for (column, cell) in self.rows[row].iter().enumerate() {
                let share = if total > 0.0 { (cell / total * 10.0).clamp(0.0, 10.0) } else { 0.0 };
                let kind = if row == column { "hit" } else { "miss" };
                let title = format!("{class} taken for {}: {cell}", self.classes[column]);
                put!(
                    out,
                    "<td class=\"{kind} h{:.0}\" title=\"{}\">{}",
                    // Rare mistakes are seen too.
                    if *cell > 0.0 { share.max(0.6) } else { 0.0 },
                    Safe(&clipped(&title, 120)),
                    Safe(&clipped(&value(&Json::from(*cell)).replace(".0", ""), 12)),
                );
            }
        }
        out.push_str("</table>");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_confusion_matrix_is_drawn_only_where_it_is_one() {
        let class = |name: &str| json!({ "displayName": name });
        let whole = json!({ "annotationSpecs": [class("cat"), class("<b>")], "rows": [{ "row": [9, 1] }, { "row": [0, 0] }] });
        let mut out = String::new();
        Matrix::read(&whole).unwrap().draw(&mut out);
        assert!(out.contains("h9\"") && out.contains("cat: 9\">9") && out.contains("&lt;b&gt;"), "{out}");
        assert!(Matrix::read(&json!({ "struct": whole })).is_some());
        for broken in [
            json!({ "annotationSpecs": [class("cat")], "rows": [] }),
            json!({ "annotationSpecs": [class("cat")], "rows": [{ "row": [1, 2] }] }),
            json!({ "annotationSpecs": [{}], "rows": [{ "row": [1] }] }),
            json!({ "annotationSpecs": [class("cat")], "rows": [{ "row": ["x"] }] }),
            json!([]),
        ] {
            assert!(Matrix::read(&broken).is_none(), "{broken}");
        }
    }
}

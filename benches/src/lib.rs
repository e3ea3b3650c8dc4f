//! What the benches share: figures, and how they are printed.

pub mod fleet;
#[cfg(feature = "kubernetes")]
pub mod pods;
pub mod torchrun;

use serde::Serialize;

/// One thing that was measured, several times.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// What was measured.
    pub name: String,
    /// Of what each figure is.
    pub unit: &'static str,
    /// Every run's figure.
    pub runs: Vec<f64>,
}

impl Measured {
    /// A thing with every run's figure.
    pub fn new(name: impl Into<String>, unit: &'static str, runs: Vec<f64>) -> Self {
        Self { name: name.into(), unit, runs }
    }

    /// The figure in the middle.
    pub fn median(&self) -> f64 {
        let mut runs = self.runs.clone();
        runs.sort_by(f64::total_cmp);
        runs.get(runs.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// A bench's figures: ours, each beside the peer's where there is one.
#[derive(Debug, Default, Serialize)]
pub struct Table {
    rows: Vec<Row>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Row {
    ours: Measured,
    peer: Option<Measured>,
    ratio: Option<f64>,
    target: &'static str,
}

impl Table {
    /// Adds a figure with what is asked of it, and its peer's.
    pub fn add(&mut self, ours: Measured, peer: Option<Measured>, target: &'static str) {
        let ratio = peer.as_ref().map(|peer| ours.median() / peer.median());
        self.rows.push(Row { ours, peer, ratio, target });
    }

    /// Adds a line below the table, such as a version.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Prints the table, or with `--json` among the program's arguments one JSON object.
    pub fn print(&self) {
        if std::env::args().any(|argument| argument == "--json") {
            println!("{}", serde_json::json!(self));
            return;
        }
        println!("{:<52} {:>10} {:>8}  {:<18} runs", "measured", "median", "ratio", "target");
        for row in &self.rows {
            line(&row.ours, row.ratio, row.target);
            if let Some(peer) = &row.peer {
                line(peer, None, "");
            }
        }
        for note in &self.notes {
            println!("{note}");
        }
    }
}

fn line(measured: &Measured, ratio: Option<f64>, target: &str) {
    let runs: Vec<_> = measured.runs.iter().map(|run| format!("{run:.2}")).collect();
    let name = format!("{} ({})", measured.name, measured.unit);
    let ratio = ratio.map(|ratio| format!("{ratio:.3}")).unwrap_or_default();
    println!("{name:<52} {:>10.2} {ratio:>8}  {target:<18} {}", measured.median(), runs.join(" "));
}

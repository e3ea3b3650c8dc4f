//! The command line.

use clap::Parser;
use kf_k8s::train::Kind;

const KINDS: [Kind; 4] = [Kind::TrainJob, Kind::JobSet, Kind::PyTorchJob, Kind::Job];

/// What the quickstart on a cluster may be told.
#[derive(Clone, Debug, PartialEq, Parser)]
pub struct Options {
    /// Learning rates to try.
    #[arg(long, value_delimiter = ',', default_values_t = [0.03, 0.1, 0.3])]
    pub rates: Vec<f64>,
    /// Seed of the split and of the parameters.
    #[arg(long, default_value_t = 0)]
    pub seed: i64,
    /// Print one JSON object as the last line.
    #[arg(long)]
    pub json: bool,
    /// Namespace for everything, which is made where it is not there.
    #[arg(long, default_value = "kf-quickstart")]
    pub namespace: String,
    /// The image of this program: the name that `cargo xtask image` has printed.
    #[arg(long, default_value = "kf.local/k8s_quickstart:dev")]
    pub image: String,
    /// What carries a fit's ranks: trainjob, jobset, pytorchjob or job; the best that the cluster knows where not given.
    #[arg(long, value_parser = kind)]
    pub kind: Option<Kind>,
    /// How much the volume holds, as Kubernetes writes it.
    #[arg(long, default_value = "1Gi")]
    pub volume: String,
    /// The volume's class; the cluster's default where not given.
    #[arg(long)]
    pub storage_class: Option<String>,
    /// Who may mount the volume: ReadWriteMany where pods go to several nodes.
    #[arg(long, default_value = "ReadWriteOnce")]
    pub access_mode: String,
    /// Be the engine; so its pod is started.
    #[arg(long, hide = true)]
    pub inside: bool,
}

impl Options {
    /// The arguments with which the engine's pod is told the same.
    pub(super) fn for_inside(&self) -> Vec<String> {
        let rates: Vec<_> = self.rates.iter().map(f64::to_string).collect();
        let mut args = vec![
            "--inside".to_owned(),
            format!("--rates={}", rates.join(",")),
            format!("--seed={}", self.seed),
            format!("--namespace={}", self.namespace),
            format!("--image={}", self.image),
        ];
        args.extend(self.kind.map(|kind| format!("--kind={}", name(kind))));
        args
    }
}

fn name(kind: Kind) -> String {
    format!("{kind:?}").to_lowercase()
}

fn kind(text: &str) -> Result<Kind, String> {
    let named = KINDS.into_iter().find(|kind| name(*kind) == text);
    named.ok_or_else(|| format!("expected one of {}", KINDS.map(name).join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_is_told_the_same() {
        for args in [
            &[][..],
            &["--rates", "0.1,0.0001,1e-9", "--seed=-3"],
            &["--namespace", "n", "--image", "registry:5000/i:1", "--kind", "pytorchjob"],
        ] {
            let told = Options::parse_from([&["k8s_quickstart"], args].concat());
            let inside = std::iter::once("k8s_quickstart".to_owned()).chain(told.for_inside());
            assert_eq!(Options::parse_from(inside), Options { inside: true, ..told }, "{args:?}");
        }
    }

    #[test]
    fn kinds_have_the_names_of_their_objects() {
        for (name, expected) in [("trainjob", Kind::TrainJob), ("jobset", Kind::JobSet), ("job", Kind::Job)] {
            assert_eq!(kind(name), Ok(expected));
        }
        assert!(kind("mpijob").unwrap_err().contains("trainjob, jobset, pytorchjob, job"));
    }
}

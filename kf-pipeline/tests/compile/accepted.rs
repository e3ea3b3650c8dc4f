//! What must compile, and what it is then.

use kf_pipeline::prelude::*;
use kf_pipeline::{Artifact, Scope, Value};

/// A struct of one's own as a parameter.
#[derive(Clone, serde::Serialize, serde::Deserialize, Param)]
struct Options {
    depth: u32,
}

#[derive(serde::Serialize, serde::Deserialize, Param)]
enum Mode {
    Fast,
    Exact,
}

#[derive(Outputs)]
struct Fitted {
    accuracy: f64,
    r#type: String,
}

/// Doc comments
/// have several lines.
#[component(retries = 2, timeout = "30s", cpu = 0.5, memory = "1Gi", version = "1", cache = false)]
async fn fit(
    state: State<String>,
    context: Context,
    train: Input<Dataset>,
    rate: f64,
    options: Option<Options>,
    model: Output<Model>,
) -> Result<Fitted, std::io::Error> {
    let _ = (state, context, train, options, model);
    Ok(Fitted { accuracy: rate, r#type: "mlp".to_owned() })
}

#[component]
fn load(data: Output<Dataset>) {
    let _ = data;
}

#[component]
pub(crate) async fn pick(models: Vec<Input<Model>>, scores: Vec<f64>, _names: Vec<String>) -> f64 {
    scores.iter().copied().fold(models.len() as f64, f64::max)
}

#[component]
fn r#match(r#type: String, mode: Mode) -> bool {
    matches!(mode, Mode::Fast) == r#type.is_empty()
}

#[component]
fn nothing() {}

mod inner {
    use kf_pipeline::prelude::*;

    #[component]
    pub(super) fn private_to_a_module(count: u32) -> Vec<u32> {
        vec![count]
    }

    #[component]
    pub fn public(map: std::collections::BTreeMap<String, i64>) -> serde_json::Value {
        serde_json::json!(map)
    }
}

/// Parts of a pipeline are functions.
fn fit_one<'p>(p: &Scope<'p>, train: Artifact<'p, Dataset>, rate: Value<'p, f64>) -> fit_outputs<'p> {
    p.add(fit(train, rate, None))
}

#[test]
fn what_a_user_writes_compiles() -> Result<(), kf_pipeline::Error> {
    let pipeline = Pipeline::build("all-of-it", |p| {
        let rates = p.param("rates", vec![0.1, 0.3]);
        let mode = p.required_param::<Mode>("mode");
        let loaded = p.add(load());
        let grid = p.parallel_for(rates, |p, rate| {
            let one = fit_one(p, loaded.data, rate);
            let depths = p.parallel_for_limited(vec![1_u32, 2], 1, |p, depth| {
                let list = p.add(inner::private_to_a_module(depth));
                (list.output, p.add(fit(loaded.data, rate, Some(Options { depth: 1 }))))
            });
            let (lists, fits) = depths.collect();
            let _: Value<'_, Vec<Vec<u32>>> = lists;
            (one, p.add(pick(fits.model, fits.accuracy, fits.r#type)).output, ())
        });
        let (fits, _, ()) = grid.collect();
        let best = p.add(pick(fits.model, fits.accuracy, Vec::new()).named("best").retries(1));
        let matched = p.add(r#match("mlp", mode).after(best));
        p.when(matched.output & best.output.ge(0.5), |p| p.add(nothing()));
        p.when(!matched.output | !best.output.lt(0.5) & matched.output | matched.output.eq(true), |p| {
            p.add(inner::public(std::collections::BTreeMap::new()));
        });
        p.on_exit(nothing());
    })?;
    let names: Vec<_> = pipeline.components().names().collect();
    assert_eq!(names, ["fit", "load", "match", "nothing", "pick", "private_to_a_module", "public"]);
    let fit = pipeline.components().get("fit").expect("it is used above");
    assert_eq!(fit.description, "Doc comments\nhave several lines.");
    let inputs: Vec<_> = fit.parameters.iter().map(|(name, _, optional)| (*name, *optional)).collect();
    assert_eq!(inputs, [("rate", false), ("options", true)]);
    let pick = pipeline.components().get("pick").expect("it is used above");
    assert_eq!(pick.parameters[1].0, "names");
    Ok(())
}

#[test]
fn a_body_is_called_as_the_function_it_is() {
    assert!(r#match::call("mlp".to_owned(), Mode::Exact));
    assert_eq!(inner::private_to_a_module::call(3), [3]);
}

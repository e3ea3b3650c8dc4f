//! One environment for all pods of a job, which differ by their number alone.

use std::collections::BTreeMap;

/// A value of an environment variable: what is the same in all pods, around what is the pod's number in some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// The same in all.
    Same(String),
    /// With the pod's number between the two.
    Numbered(String, String),
}

impl Value {
    /// As Kubernetes has it, which expands `$(NAME)`, where `$$` stands for `$`.
    pub(super) fn with(&self, number: &str) -> String {
        match self {
            Self::Same(value) => escaped(value),
            Self::Numbered(before, after) => format!("{}$({number}){}", escaped(before), escaped(after)),
        }
    }

    fn of(&self, pod: usize) -> String {
        match self {
            Self::Same(value) => value.clone(),
            Self::Numbered(before, after) => format!("{before}{pod}{after}"),
        }
    }
}

/// What Kubernetes is to take as it is.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('$', "$$")
}

/// The variables of a pod by its number, for each of so many, as one.
///
/// # Errors
/// The name of a variable whose value is no text around the pod's number, or what `of` says.
pub(super) fn indexed(
    pods: usize,
    of: impl Fn(usize) -> Result<BTreeMap<String, String>, String>,
) -> Result<Vec<(String, Value)>, String> {
    let first = of(0)?;
    if pods < 2 {
        return Ok(first.into_iter().map(|(name, value)| (name, Value::Same(value))).collect());
    }
    let second = of(1)?;
    // The last ones have numbers of other lengths.
    let others: Vec<_> = [2, 9, 10, 99, 100, pods - 1]
        .into_iter()
        .filter(|pod| (2..pods).contains(pod))
        .map(|pod| Ok((pod, of(pod)?)))
        .collect::<Result<_, String>>()?;
    let mut all = Vec::with_capacity(first.len());
    for (name, value) in first {
        let found = match second.get(&name) {
            Some(same) if *same == value => Some(Value::Same(value)),
            Some(other) => numbered(&value, other),
            None => None,
        };
        let fits = |found: &Value| others.iter().all(|(pod, env)| env.get(&name) == Some(&found.of(*pod)));
        all.push((name.clone(), found.filter(fits).ok_or(name)?));
    }
    Ok(all)
}

/// The text around the number 0 in the one, and around 1 in the other.
fn numbered(zero: &str, one: &str) -> Option<Value> {
    let before = zero.bytes().zip(one.bytes()).take_while(|(a, b)| a == b).count();
    let (head, zero, one) = (zero.get(..before)?, zero.get(before..)?, one.get(before..)?);
    let (after, same) = (zero.strip_prefix('0')?, one.strip_prefix('1')?);
    (after == same).then(|| Value::Numbered(head.to_owned(), after.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, String)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    #[test]
    fn what_differs_by_the_number_alone_is_one() {
        let of = |pod: usize| {
            Ok(env(&[
                ("HOST", format!("x-{pod}.x")),
                ("RANK", pod.to_string()),
                ("SAME", "10 $HOME".into()),
                ("TASK", format!(r#"{{"index":{pod}}}"#)),
            ]))
        };
        let all = indexed(101, of).unwrap();
        let written: Vec<_> = all.iter().map(|(name, value)| format!("{name}={}", value.with("N"))).collect();
        assert_eq!(written, ["HOST=x-$(N).x", "RANK=$(N)", "SAME=10 $$HOME", r#"TASK={"index":$(N)}"#]);
        assert_eq!(indexed(1, of).unwrap()[1], ("RANK".to_owned(), Value::Same("0".into())));
    }

    #[test]
    fn what_differs_otherwise_is_named() {
        let twice = |pod: usize| Ok(env(&[("A", "1".into()), ("RANK", (pod * 2).to_string())]));
        assert_eq!(indexed(2, twice).unwrap_err(), "RANK");
        // Right for the first two alone.
        let wrong = |pod: usize| Ok(env(&[("RANK", pod.min(5).to_string())]));
        assert_eq!(indexed(6, wrong).unwrap().len(), 1);
        assert_eq!(indexed(11, wrong).unwrap_err(), "RANK");
        let sometimes = |pod: usize| Ok(if pod == 0 { env(&[("A", "x".into())]) } else { env(&[]) });
        assert_eq!(indexed(2, sometimes).unwrap_err(), "A");
        assert_eq!(indexed(2, |_| Err("no".into())).unwrap_err(), "no");
    }
}

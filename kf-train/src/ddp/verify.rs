//! Whether all ranks have the same parameters.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::{Error, ProcessGroup, Result};

/// One parameter or buffer, as ranks compare them.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Described {
    shape: Vec<i64>,
    kind: String,
    trainable: bool,
}

/// Compares every rank's parameters with rank 0's; all ranks come to the same verdict.
pub(super) fn verify(group: &ProcessGroup, variables: &HashMap<String, Tensor>) -> Result<()> {
    let own: BTreeMap<String, Described> = variables
        .iter()
        .map(|(name, tensor)| {
            let described = Described {
                shape: tensor.size(),
                kind: format!("{:?}", tensor.kind()),
                trainable: tensor.requires_grad(),
            };
            (name.clone(), described)
        })
        .collect();
    let json = serde_json::to_vec(&own).map_err(|error| Error::Torch {
        what: "describing the parameters".into(),
        message: error.to_string(),
    })?;
    let all = group.exchange("parameters", &json)?;
    let read =
        |bytes: &[u8]| serde_json::from_slice::<BTreeMap<String, Described>>(bytes).unwrap_or_default();
    let first = all.first().map(|bytes| read(bytes)).unwrap_or_default();
    for (rank, theirs) in all.iter().enumerate().skip(1) {
        if let Some(difference) = difference(&first, &read(theirs)) {
            return Err(Error::Mismatch { rank, difference });
        }
    }
    Ok(())
}

/// The first difference, in the order of names.
fn difference(zero: &BTreeMap<String, Described>, other: &BTreeMap<String, Described>) -> Option<String> {
    let told = |described: &Described| {
        let frozen = if described.trainable { "" } else { ", not trainable" };
        format!("{} {:?}{frozen}", described.kind, described.shape)
    };
    for (name, described) in zero {
        match other.get(name) {
            None => return Some(format!("it has no `{name}` ({} on rank 0)", told(described))),
            Some(theirs) if theirs != described => {
                return Some(format!("`{name}` is {}, and {} on rank 0", told(theirs), told(described)));
            }
            Some(_) => {}
        }
    }
    let more = other.iter().find(|(name, _)| !zero.contains_key(*name))?;
    Some(format!("it has `{}` ({}), which rank 0 has not", more.0, told(more.1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_told() {
        let map = |list: &[(&str, i64, bool)]| -> BTreeMap<String, Described> {
            let described = |&(name, size, trainable): &(&str, i64, bool)| {
                (name.to_owned(), Described { shape: vec![size], kind: "Float".into(), trainable })
            };
            list.iter().map(described).collect()
        };
        let zero = map(&[("a", 1, true), ("b", 2, true)]);
        let told = |other: &[(&str, i64, bool)]| difference(&zero, &map(other));
        assert_eq!(told(&[("a", 1, true), ("b", 2, true)]), None);
        assert_eq!(told(&[("a", 1, true)]).unwrap(), "it has no `b` (Float [2] on rank 0)");
        assert_eq!(
            told(&[("a", 1, true), ("b", 3, false)]).unwrap(),
            "`b` is Float [3], not trainable, and Float [2] on rank 0"
        );
        assert_eq!(
            told(&[("a", 1, true), ("b", 2, true), ("c", 4, true)]).unwrap(),
            "it has `c` (Float [4]), which rank 0 has not"
        );
    }
}

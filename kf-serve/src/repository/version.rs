use std::{cmp::Ordering, fmt};

/// A model's version, ordered as people count: numbers by their value and after all words, words by their letters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Version(pub(crate) String);

impl Version {
    /// The digits without leading zeros, where the version is a number.
    fn number(&self) -> Option<&str> {
        let digits = !self.0.is_empty() && self.0.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| self.0.trim_start_matches('0'))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_kind = match (self.number(), other.number()) {
            (Some(one), Some(two)) => (one.len(), one).cmp(&(two.len(), two)),
            (Some(_), None) => Ordering::Greater,
            (None, Some(_)) => Ordering::Less,
            (None, None) => Ordering::Equal,
        };
        by_kind.then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn versions_sort_as_people_count() {
        let sorted = ["canary", "v1", "v10", "0", "1", "02", "2", "9", "10", "99999999999999999999999"];
        let mut versions: Vec<Version> =
            sorted.iter().rev().map(|text| Version((*text).to_owned())).collect();
        versions.sort();
        assert_eq!(versions.iter().map(|version| version.0.as_str()).collect::<Vec<_>>(), sorted);
    }
}

//! The ids of partitions' runs: the same for the same pipeline, partition, arguments and attempt.

use kf_core::{Digest, RunId};

/// How many letters of an id are for people.
const READABLE: usize = 34;

/// The ids of one backfill's runs.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pipeline: String,
    common: String,
}

impl Identity {
    pub(super) fn new(pipeline: &str, common: String) -> Self {
        Self { pipeline: pipeline.to_owned(), common }
    }

    /// The id of this attempt, from 1, at a partition: `sales-2026-11-26-1f0c3b6a9d2e4857-1`.
    pub(super) fn run(&self, key: &str, attempt: u32) -> RunId {
        let digest = Digest::of(format!("{}\n{key}", self.common)).to_hex();
        let mut id: String = format!("{}-{key}", self.pipeline)
            .chars()
            .map(|c| c.to_ascii_lowercase())
            .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
            .skip_while(|c| *c == '-')
            .take(READABLE)
            .collect();
        id.push_str(if id.is_empty() { "" } else { "-" });
        id.push_str(&format!("{}-{attempt}", &digest[..16]));
        id.parse().expect("it has fewer than 63 of a-z, 0-9 and -, a letter or digit at both ends")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_are_readable_and_differ() {
        let sales = Identity::new("sales", "args".to_owned());
        let id = sales.run("2026-11-26T05", 1);
        assert!(id.as_str().starts_with("sales-2026-11-26t05-") && id.as_str().ends_with("-1"), "{id}");
        assert_ne!(sales.run("a b", 1).as_str(), sales.run("a-b", 1).as_str());
        assert_ne!(id, Identity::new("sales", "other".to_owned()).run("2026-11-26T05", 1));
        assert_eq!(id, sales.clone().run("2026-11-26T05", 1));
    }

    proptest! {
        #[test]
        fn any_key_makes_an_id(pipeline in "\\PC{0,80}", key in "\\PC{1,256}", attempt in 1..=u32::MAX) {
            let id = Identity::new(&pipeline, String::new()).run(&key, attempt);
            prop_assert!(id.as_str().len() <= 63);
        }
    }
}

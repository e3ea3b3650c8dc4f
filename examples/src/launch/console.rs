//! What of the ranks' lines is printed.

use std::collections::BTreeMap;
use std::str::FromStr;

use clap::Args;

/// Which lines are printed: torchrun's options for that.
#[derive(Debug, Clone, Args)]
pub(super) struct Console {
    /// Print nothing of what the ranks print; it is in the logs.
    #[arg(long)]
    pub quiet: bool,
    /// Have what ranks print in the logs alone: 1 for standard output, 2 for standard error, 3 for both, or LOCAL_RANK:1, …
    /// with commas between them.
    #[arg(short, long, value_name = "STREAMS", env = "PET_REDIRECTS", hide_env = true)]
    pub redirects: Option<Streams>,
    /// Print it and have it in the logs, which is so without it; undoes --redirects.
    #[arg(short, long, value_name = "STREAMS", env = "PET_TEE", hide_env = true)]
    pub tee: Option<Streams>,
    /// Print only what these ranks of the node print, counted from 0, with commas between them.
    #[arg(
        long,
        alias = "local_ranks_filter",
        value_name = "RANKS",
        value_delimiter = ',',
        env = "PET_LOCAL_RANKS_FILTER",
        hide_env = true
    )]
    pub local_ranks_filter: Vec<usize>,
}

impl Console {
    /// Whether a line of a rank of this node is printed.
    pub(super) fn prints(&self, local_rank: usize, stderr: bool) -> bool {
        let has = |streams: &Option<Streams>| streams.as_ref().is_some_and(|it| it.has(local_rank, stderr));
        let filtered = !self.local_ranks_filter.is_empty() && !self.local_ranks_filter.contains(&local_rank);
        !self.quiet && !filtered && (!has(&self.redirects) || has(&self.tee))
    }

    /// What has no effect here.
    pub(super) fn note(&self) -> Option<String> {
        let alone = self.tee.is_some() && self.redirects.is_none();
        alone.then(|| "--tee has no effect here: all is printed, and is in the logs as well".to_owned())
    }
}

/// Streams of ranks, as torchrun writes them: `3`, or `0:1,1:2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Streams {
    /// The same of all ranks.
    All(u8),
    /// By the rank's number on its node.
    Of(BTreeMap<usize, u8>),
}

impl Streams {
    fn has(&self, local_rank: usize, stderr: bool) -> bool {
        let bits = match self {
            Self::All(bits) => *bits,
            Self::Of(ranks) => ranks.get(&local_rank).copied().unwrap_or(0),
        };
        bits & if stderr { 2 } else { 1 } != 0
    }
}

impl FromStr for Streams {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bits = |text: &str| text.parse().ok().filter(|bits| *bits <= 3);
        let of = |part: &str| {
            let (rank, streams) = part.split_once(':')?;
            Some((rank.parse().ok()?, bits(streams)?))
        };
        let parsed = match bits(text) {
            Some(bits) => Some(Self::All(bits)),
            None => text.split(',').map(of).collect::<Option<_>>().map(Self::Of),
        };
        parsed.ok_or_else(|| {
            "expected 0 for none, 1 for standard output, 2 for standard error or 3 for both, or LOCAL_RANK:STREAMS with \
             commas between them, as in 0:1,1:3"
                .into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_read_as_torchrun_writes_them() {
        assert_eq!("3".parse(), Ok(Streams::All(3)));
        assert_eq!("0:1,11:2".parse(), Ok(Streams::Of([(0, 1), (11, 2)].into())));
        for wrong in ["4", "", "0:4", "0:1,", "a", "-1", "1,2", "0:1:2"] {
            assert!(wrong.parse::<Streams>().unwrap_err().contains("0:1,1:3"), "{wrong}");
        }
    }

    #[test]
    fn lines_are_printed_where_nothing_forbids_it() {
        let console = |redirects: &str, tee: &str, filter: &[usize]| Console {
            quiet: false,
            redirects: Some(redirects.parse().unwrap()),
            tee: Some(tee.parse().unwrap()),
            local_ranks_filter: filter.to_vec(),
        };
        let printed = |console: &Console| -> Vec<(usize, bool)> {
            let all = [(0, false), (0, true), (1, false), (1, true)];
            all.into_iter().filter(|(rank, stderr)| console.prints(*rank, *stderr)).collect()
        };
        assert_eq!(printed(&console("1", "0", &[])), [(0, true), (1, true)]);
        assert_eq!(printed(&console("3", "0:1", &[])), [(0, false)]);
        assert_eq!(printed(&console("0:3", "0", &[])), [(1, false), (1, true)]);
        assert_eq!(printed(&console("0", "3", &[1])), [(1, false), (1, true)]);
        assert!(printed(&Console { quiet: true, ..console("0", "0", &[]) }).is_empty());
    }
}

//! Who was missing in a call, by what each rank was last seen at.

use super::calls::Seen;
use crate::error::name_ranks;

/// The ranks that were not seen to make call `number` as this `operation`, and a sentence about them; none where all
/// made it.
pub(super) fn of_call(
    number: u64,
    operation: &str,
    own: usize,
    seen: &[Option<Seen>],
) -> (Vec<usize>, Option<String>) {
    let mut missing = Vec::new();
    let mut told: Vec<(String, Vec<usize>)> = Vec::new();
    for (rank, seen) in seen.iter().enumerate() {
        if rank == own {
            continue;
        }
        let what = match seen {
            Some(seen) if seen.call > number || (seen.call == number && seen.operation == operation) => {
                continue;
            }
            Some(seen) if seen.call == number => format!("made another call {number} ({})", seen.operation),
            other => at(other.as_ref()),
        };
        missing.push(rank);
        match told.iter_mut().find(|(other, _)| *other == what) {
            Some((_, ranks)) => ranks.push(rank),
            None => told.push((what, vec![rank])),
        }
    }
    let sentences: Vec<_> = told.iter().map(|(what, ranks)| sentence(what, ranks)).collect();
    let told = (!sentences.is_empty()).then(|| sentences.join(", "));
    (missing, told)
}

/// Where the other rank of a message was seen.
pub(super) fn of_message(other: usize, seen: &[Option<Seen>]) -> (Vec<usize>, Option<String>) {
    let what = at(seen.get(other).and_then(Option::as_ref));
    (vec![other], Some(sentence(&what, &[other])))
}

fn at(seen: Option<&Seen>) -> String {
    match seen {
        None => "was not heard of".into(),
        Some(seen) if seen.call == 0 => "was not seen to make any call".into(),
        Some(Seen { call, operation, within: true }) => format!("was last seen at call {call} ({operation})"),
        Some(Seen { call, operation, within: false }) => {
            format!("was last seen after call {call} ({operation})")
        }
    }
}

fn sentence(what: &str, ranks: &[usize]) -> String {
    match (what.strip_prefix("was "), ranks.len()) {
        (Some(rest), 2..) => format!("{} were {rest}", name_ranks(ranks)),
        _ => format!("{} {what}", name_ranks(ranks)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(call: u64, operation: &str, within: bool) -> Option<Seen> {
        Some(Seen { call, operation: operation.into(), within })
    }

    #[test]
    fn who_is_behind_is_told() {
        let all = [
            seen(17, "all_reduce", true),
            seen(15, "broadcast", true),
            seen(16, "barrier", false),
            seen(16, "barrier", false),
            seen(17, "reduce", true),
            seen(18, "all_reduce", true),
            Some(Seen::default()),
            None,
        ];
        let (missing, told) = of_call(17, "all_reduce", 0, &all);
        assert_eq!(missing, [1, 2, 3, 4, 6, 7]);
        assert_eq!(
            told.unwrap(),
            "rank 1 was last seen at call 15 (broadcast), ranks 2 and 3 were last seen after call 16 (barrier), rank 4 \
             made another call 17 (reduce), rank 6 was not seen to make any call, rank 7 was not heard of"
        );
        assert_eq!(of_call(17, "all_reduce", 1, &all[..2]), (vec![], None));
    }

    #[test]
    fn the_other_end_of_a_message_is_told() {
        let (missing, told) = of_message(1, &[None, seen(3, "barrier", false)]);
        assert_eq!((missing, told.unwrap()), (vec![1], "rank 1 was last seen after call 3 (barrier)".into()));
    }
}

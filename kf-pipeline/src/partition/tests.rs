use proptest::prelude::*;

use super::*;

const ALL: [Every; 4] = [Every::Hour, Every::Day, Every::Week, Every::Month];

fn keys(partitions: &Partitions) -> Vec<&str> {
    partitions.iter().map(Partition::key).collect()
}

fn problem<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn the_calendar() {
    let days = Partitions::daily("2027-02-27", "2027-03-02").unwrap();
    assert_eq!(keys(&days), ["2027-02-27", "2027-02-28", "2027-03-01"]);
    let days = Partitions::daily("2028-02-28T00:00:00.001Z", "2028-03-01T23:59:59Z").unwrap();
    assert_eq!(keys(&days), ["2028-02-29"], "only whole ones, and 2028 has a 29th of February");
    assert!(Partitions::daily("2100-02-28", "2100-03-01").unwrap().get("2100-02-29").is_err());
    assert_eq!(Partitions::daily("2000-02-28", "2000-03-01").unwrap().len(), 2);
    let weeks = Partitions::weekly("2026-12-21", "2027-01-18").unwrap();
    assert_eq!(keys(&weeks), ["2026-W52", "2026-W53", "2027-W01", "2027-W02"]);
    let first = weeks.get("2027-W01").unwrap();
    assert_eq!(first.start().unwrap().to_string(), "2027-01-04T00:00:00.000Z");
    let months = Partitions::monthly("2026-11-02", "2027-03-01").unwrap();
    assert_eq!(keys(&months), ["2026-12", "2027-01", "2027-02"]);
    let hours = Partitions::hourly("2026-12-31T22:00:00Z", "2027-01-01T01:00:00Z").unwrap();
    assert_eq!(keys(&hours), ["2026-12-31T22", "2026-12-31T23", "2027-01-01T00"]);
    assert!(Partitions::daily("2026-11-26", "2026-11-26T23:00:00Z").unwrap().is_empty());
}

#[test]
fn offsets_move_partitions_and_keep_their_keys() {
    let days = Partitions::daily("2026-11-26", "2026-11-28").unwrap();
    let late = days.clone().offset_minutes(150).unwrap();
    assert_eq!(keys(&late), ["2026-11-26"], "the 27th ends after the range");
    assert_eq!(late.get("2026-11-26").unwrap().start().unwrap().to_string(), "2026-11-26T02:30:00.000Z");
    let east = days.clone().offset_minutes(-120).unwrap();
    assert_eq!(keys(&east), ["2026-11-27"], "the 26th begins before the range");
    assert_eq!(east.get("2026-11-27").unwrap().end().unwrap().to_string(), "2026-11-27T22:00:00.000Z");
    assert_eq!(late.offset_minutes(0).unwrap(), days);
    for minutes in [1440, -1440, i32::MIN, i32::MAX] {
        assert!(problem(days.clone().offset_minutes(minutes)).contains("less than 1440 minutes"));
    }
    assert!(problem(Partitions::of_keys(["eu"]).unwrap().offset_minutes(1)).contains("keys"));
}

#[test]
fn what_is_no_partition_is_refused() {
    let days = Partitions::daily("2026-11-01", "2026-12-01").unwrap();
    for (key, says) in [
        ("2026-11-31", "a day such as"),
        ("2026-11-1", "a day such as"),
        ("+2026-11-01", "a day such as"),
        ("2026-11", "a day such as"),
        ("", "a day such as"),
        ("2026-12-01", "there are 30, from `2026-11-01` to `2026-11-30`"),
    ] {
        let found = problem(days.get(key));
        assert!(found.contains(says), "{key}: {found}");
    }
    let weeks = Partitions::weekly("2026-01-01", "2028-01-01").unwrap();
    assert!(weeks.get("2026-W53").is_ok());
    for key in ["2027-W53", "2026-W00", "2026-W5", "2026-48"] {
        assert!(weeks.get(key).is_err(), "{key}");
    }
    assert!(problem(Partitions::daily("2026-11-02", "2026-11-02")).contains("before the second"));
    assert!(problem(Partitions::daily("soon", "2026-11-02")).contains("soon"));
    assert!(problem(Partitions::hourly("2000-01-01", "2026-01-01")).contains("shorter range"));
    let ends = Timestamp::from_millis(i64::MAX);
    assert!(problem(Partitions::monthly(Timestamp::now(), ends)).contains("years 1 to 9999"));
    assert_eq!(
        Partitions::weekly("0001-01-01", "0001-02-01").unwrap().iter().next().unwrap().key(),
        "0001-W01"
    );
    assert!(Partitions::monthly("0001-01-01", "0001-12-31").unwrap().offset_minutes(-1).is_ok());
}

#[test]
fn keys_as_given() {
    let regions = Partitions::of_keys(["us", "eu", "日本"]).unwrap();
    assert_eq!(keys(&regions), ["us", "eu", "日本"]);
    assert_eq!(keys(&regions.clone().only(["eu", "us", "eu"]).unwrap()), ["us", "eu"]);
    assert!(problem(regions.only(["asia"])).contains("asia"));
    assert!(problem(Partitions::of_keys(["a", "b", "a"])).contains("twice"));
    assert!(problem(Partitions::of_keys(["a\n"])).contains("control"));
    assert!(problem(Partitions::of_keys([""])).contains("0 bytes"));
    assert!(problem(Partitions::of_keys(["x".repeat(257)])).contains("257 bytes"));
    assert!(problem(Partitions::of_keys((0..=MOST).map(|n| n.to_string()))).contains("more than"));
}

proptest! {
    #[test]
    fn partitions_cover_their_range(
        which in 0..4_usize,
        from in -62_135_596_800_000_i64..253_000_000_000_000,
        length in 1..200_000_000_000_i64,
        offset in -1.0..1.0_f64,
    ) {
        let every = ALL[which];
        let shortest = every.shortest();
        let length = length.min(shortest * 3000);
        let offset = (offset * (shortest / MINUTE) as f64) as i64 * MINUTE;
        let until = from + length;
        let rule = Rule {
            every,
            from: Timestamp::from_millis(from),
            until: Timestamp::from_millis(until),
            offset,
        };
        let list = rule.list().unwrap();
        let partitions = Partitions { rule: Some(rule), list };
        for pair in partitions.list.windows(2) {
            prop_assert_eq!(pair[0].end, pair[1].start);
            prop_assert!(pair[0].key < pair[1].key, "{:?}", pair);
        }
        for partition in &partitions {
            let (start, end) = (partition.start.unwrap().as_millis(), partition.end.unwrap().as_millis());
            prop_assert!(from <= start && start < end && end <= until, "{:?}", partition);
            prop_assert!(end - start >= shortest && end - start <= shortest + 3 * 24 * 60 * MINUTE);
            prop_assert_eq!(partitions.get(&partition.key).unwrap(), partition);
            prop_assert_eq!(every.parse(&partition.key), Some(start - offset));
            prop_assert_eq!(every.floor(start - offset), Some(start - offset));
            prop_assert_eq!(every.floor(end - offset - 1), Some(start - offset));
        }
        // Nothing whole is left out at the ends.
        let (first, last) = match (partitions.list.first(), partitions.list.last()) {
            (Some(first), Some(last)) => (first.start.unwrap().as_millis(), last.end.unwrap().as_millis()),
            _ => (from, from),
        };
        let longest = shortest + 3 * 24 * 60 * MINUTE;
        prop_assert!(partitions.is_empty() || first - from < longest);
        prop_assert!(until - last < 2 * longest);
    }

    #[test]
    fn any_text_is_a_key_or_refused(key in "\\PC{0,20}|[0-9]{4}-[0-9]{2}(-[0-9]{2}(T[0-9]{2})?)?|[0-9]{4}-W[0-9]{2}") {
        for every in ALL {
            if let Some(start) = every.parse(&key) {
                prop_assert_eq!(every.key(start), key.clone());
            }
        }
    }
}

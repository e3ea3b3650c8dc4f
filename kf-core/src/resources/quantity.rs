//! Quantities as Kubernetes writes them: `500m`, `2`, `1.5`, `2Gi`, `512M`, `1e3`.

use crate::{Error, Result};

const NANO: u128 = 1_000_000_000;

/// A non-negative amount in billionths, rounded up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quantity(u128);

impl Quantity {
    /// Reads a quantity by Kubernetes' grammar (`k8s.io/apimachinery/pkg/api/resource`), without a sign for less
    /// than nothing.
    pub(super) fn parse(text: &str) -> Result<Self> {
        read(text).ok_or_else(|| Error::Invalid {
            what: "quantity",
            found: text.to_owned(),
            expected: "a number of at least 0 with an optional suffix out of n u m k M G T P E, Ki Mi Gi Ti Pi Ei, \
                       or an exponent such as e3, and no more than 64 bits hold",
        })
    }

    /// In thousandths, rounded up.
    pub(super) fn milli(self) -> Option<u64> {
        u64::try_from(self.0.div_ceil(NANO / 1000)).ok()
    }

    /// In whole units, rounded up.
    pub(super) fn whole(self) -> Option<u64> {
        u64::try_from(self.0.div_ceil(NANO)).ok()
    }
}

fn read(text: &str) -> Option<Quantity> {
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || number.len() > 64 {
        return None;
    }
    let (up, down) = scale(suffix)?;
    // digits × 10^-places × up ÷ down, in billionths, rounded up. Trailing zeros say nothing and may overflow.
    let fraction = fraction.trim_end_matches('0');
    let digits: u128 = match format!("{whole}{fraction}").trim_start_matches('0') {
        "" => 0,
        digits => digits.parse().ok()?,
    };
    let places = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let nano = digits.checked_mul(up)?.checked_mul(NANO)?.div_ceil(places.checked_mul(down)?);
    let quantity = Quantity(nano);
    quantity.whole().map(|_| quantity)
}

/// What a suffix multiplies and divides by.
fn scale(suffix: &str) -> Option<(u128, u128)> {
    let decimal = |power: u32| Some((10_u128.checked_pow(power)?, 1));
    let binary = |power: u32| Some((1 << (10 * power), 1));
    match suffix {
        "" => Some((1, 1)),
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1000)),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let size = 10_u128.checked_pow(power.unsigned_abs()).filter(|_| power.unsigned_abs() <= 24)?;
            Some(if power < 0 { (1, size) } else { (size, 1) })
        }
    }
}

/// Thousandths as a quantity: `2`, `500m`.
pub(super) fn show_milli(milli: u64) -> String {
    if milli.is_multiple_of(1000) { (milli / 1000).to_string() } else { format!("{milli}m") }
}

/// Bytes as a quantity, exact: `2Gi`, `1000`.
pub(super) fn show_bytes(bytes: u64) -> String {
    for (power, suffix) in [(60, "Ei"), (50, "Pi"), (40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")] {
        if bytes > 0 && bytes.is_multiple_of(1 << power) {
            return format!("{}{suffix}", bytes >> power);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_kubernetes_reads_them() {
        for (text, milli) in [
            ("0", 0),
            ("500m", 500),
            ("2", 2000),
            ("1.5", 1500),
            (".5", 500),
            ("5.", 5000),
            ("+1", 1000),
            ("1e3", 1_000_000),
            ("1E3", 1_000_000),
            ("1E", 1_000_000_000_000_000_000_000),
            ("1e-3", 1),
            ("100u", 1),
            ("1n", 1),
            ("1k", 1_000_000),
            ("1Ki", 1_024_000),
            ("1.5Gi", 1_610_612_736_000),
            ("000.0010000000000000000000000000000000", 1),
        ] {
            let found = Quantity::parse(text).unwrap();
            assert_eq!(found.0.div_ceil(1_000_000), milli, "{text}");
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "", ".", "-1", "1.2.3", "2GiB", "Gi", "1 Gi", "NaN", "inf", "1e", "1e99", "1e-99", "0x10",
            "16Ei", "1e30", "٣",
        ] {
            assert!(Quantity::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn shown_and_read_again(n in any::<u64>()) {
            prop_assert_eq!(Quantity::parse(&show_bytes(n)).unwrap().whole(), Some(n));
            prop_assert_eq!(Quantity::parse(&show_milli(n)).unwrap().milli(), Some(n));
        }

        #[test]
        fn no_text_panics(text in "[0-9.eEmkKMGi+-]{0,12}") {
            let _ = Quantity::parse(&text);
        }
    }
}

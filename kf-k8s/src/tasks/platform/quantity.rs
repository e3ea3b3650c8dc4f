//! Amounts as Kubernetes writes them.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::PlatformError;

/// What such an amount looks like.
pub(super) const EXPECTED: &str = "an amount such as `5Gi` or `500m`";

/// An amount, where the text is one.
pub(super) fn quantity(text: &str) -> Option<Quantity> {
    is_quantity(text).then(|| Quantity(text.to_owned()))
}

/// An amount that stands at a place.
///
/// # Errors
/// The text, where it is none.
pub(super) fn quantity_at(pointer: &str, text: &str) -> Result<Quantity, PlatformError> {
    quantity(text).ok_or_else(|| PlatformError::unfit(pointer, format!("`{text}`"), EXPECTED))
}

/// Whether the text is a signed decimal number with a suffix: a binary or a decimal one, or a power of ten.
/// (<https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>)
fn is_quantity(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let digits = number.bytes().filter(u8::is_ascii_digit).count();
    if digits == 0 || number.len() - digits > 1 {
        return false;
    }
    match suffix {
        "" | "n" | "u" | "m" | "k" | "M" | "G" | "T" | "P" | "E" => true,
        "Ki" | "Mi" | "Gi" | "Ti" | "Pi" | "Ei" => true,
        _ => suffix.strip_prefix(['e', 'E']).is_some_and(|power| power.parse::<i32>().is_ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_told_from_texts() {
        for good in ["0", "5Gi", "500m", "1.5", ".5k", "5.", "-1", "+1E", "1e3", "12E-2", "1Ei"] {
            assert_eq!(quantity(good), Some(Quantity(good.to_owned())), "{good}");
        }
        for bad in ["", "Gi", "5gb", "5 Gi", "1.2.3", "five", ".", "-", "1e", "1e1.5", "--1"] {
            assert_eq!(quantity(bad), None, "{bad}");
        }
    }
}

//! Digests in a text.

use std::collections::BTreeSet;

use kf_core::Digest;
use kf_core::artifact::ArtifactStore;
use serde_json::Value as Json;

/// The digits of a digest.
const DIGITS: usize = 64;
/// Longer rows of digits hold other things than a digest and an escape before it.
const LONGEST: usize = 80;

/// Every digest that a text has the digits of, as in `sha256:…` or in the URI of an artifact.
pub(in crate::engine) fn mentions(text: &str) -> impl Iterator<Item = Digest> {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.as_bytes()
        .split(move |byte| !is_digit(byte))
        .filter(|digits| (DIGITS..LONGEST).contains(&digits.len()))
        .flat_map(|digits| digits.windows(DIGITS))
        .filter_map(|digits| format!("sha256:{}", std::str::from_utf8(digits).ok()?).parse().ok())
}

/// Makes content young that values name. One may name what is no content, or gone: the value is what it was.
pub(in crate::engine) async fn renew_mentioned<'v>(
    store: &ArtifactStore,
    values: impl IntoIterator<Item = &'v Json>,
) {
    let texts: Vec<String> = values.into_iter().map(Json::to_string).collect();
    for digest in texts.iter().flat_map(|text| mentions(text)).collect::<BTreeSet<_>>() {
        let _ = store.renew(&digest).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_found_in_any_form() {
        let (a, b) = (Digest::of("a"), Digest::of("b"));
        let text = format!(r#"{{"digest":"{a}","uri":"s3://x/sha256/{}/{}"}}"#, &b.to_hex()[..2], b.to_hex());
        assert_eq!(mentions(&text).collect::<Vec<_>>(), [a, b]);
        assert_eq!(mentions(&a.to_hex()).collect::<Vec<_>>(), [a]);
        let escaped = format!("x%2f{} ", a.to_hex());
        assert!(mentions(&escaped).any(|digest| digest == a));
        assert_eq!(mentions(&format!("{} {} é", &b.to_hex()[1..], "0".repeat(500))).count(), 0);
        assert_eq!(mentions("").count(), 0);
    }
}

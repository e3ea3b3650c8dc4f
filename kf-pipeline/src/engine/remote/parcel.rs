//! Data that goes as it is, or by reference into the artifact store where it is large.

use kf_core::Digest;
use kf_core::artifact::ArtifactStore;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Parcel<T> {
    Here(T),
    Stored(Digest),
}

/// A value as text of at most so many bytes, which is never less than a reference takes.
///
/// # Errors
/// Where the value has no JSON form, or the store can't be written.
pub(super) async fn pack<T: Serialize>(
    value: &T,
    most: usize,
    store: &ArtifactStore,
) -> Result<String, String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let text = serde_json::to_string(&Parcel::Here(value)).map_err(|error| told(&error))?;
    if text.len() <= most {
        return Ok(text);
    }
    let whole = serde_json::to_vec(value).map_err(|error| told(&error))?;
    let stored = store.put_bytes(whole.into()).await.map_err(|error| told(&error))?;
    serde_json::to_string(&Parcel::<()>::Stored(stored.digest)).map_err(|error| told(&error))
}

/// A value as text, however long.
///
/// # Errors
/// Where the value has no JSON form.
pub(super) fn whole<T: Serialize>(value: &T) -> Result<String, String> {
    serde_json::to_string(&Parcel::Here(value)).map_err(|error| error.to_string())
}

/// The value again.
///
/// # Errors
/// Where the text is none of [`pack`]'s, or what it refers to can't be had.
pub(super) async fn unpack<T: DeserializeOwned>(text: &str, store: &ArtifactStore) -> Result<T, String> {
    match serde_json::from_str(text).map_err(|error| error.to_string())? {
        Parcel::Here(value) => Ok(value),
        Parcel::Stored(digest) => {
            let whole = store.read(&digest).await.map_err(|error| error.to_string())?;
            serde_json::from_slice(&whole).map_err(|error| format!("`{digest}`: {error}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_large_goes_by_reference() {
        let folder = tempfile::tempdir().unwrap();
        let store = ArtifactStore::in_memory(folder.path()).unwrap();
        for length in [1, 100, 10_000] {
            let value = "ä".repeat(length);
            let text = pack(&value, 200, &store).await.unwrap();
            assert!(text.len() <= 200, "{text}");
            assert_eq!(text.contains("stored"), length >= 100);
            assert_eq!(unpack::<String>(&text, &store).await.unwrap(), value);
        }
        assert!(unpack::<String>("{\"here\": 1}", &store).await.is_err());
        assert!(unpack::<String>("", &store).await.is_err());
        let missing = serde_json::to_string(&Parcel::<()>::Stored(Digest::of("missing"))).unwrap();
        assert!(unpack::<String>(&missing, &store).await.is_err());
    }
}

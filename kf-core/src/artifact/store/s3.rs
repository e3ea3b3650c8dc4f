//! An artifact store in a bucket of S3 or of what speaks its protocol.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::prefix::PrefixStore;
use object_store::{ClientConfigKey, ClientOptions, RetryConfig};

use super::ArtifactStore;
use crate::{Error, Result};

/// How long one request may take; it carries a part of an object at most.
const REQUEST: Duration = Duration::from_secs(300);
/// How long a request that fails for a reason that may pass is tried again.
const RETRYING: Duration = Duration::from_secs(60);

/// Where a bucket is and who asks.
///
/// Where no keys are given, they are asked of what the machine has: a service account of Kubernetes (IRSA), a container's
/// or an instance's role.
#[derive(Clone)]
pub struct S3Options(AmazonS3Builder);

impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |key| self.0.get_config_value(&key);
        f.debug_struct("S3Options")
            .field("endpoint", &self.endpoint_given())
            .field("region", &shown(AmazonS3ConfigKey::Region))
            .field("access_key_id", &shown(AmazonS3ConfigKey::AccessKeyId))
            .finish_non_exhaustive()
    }
}

impl Default for S3Options {
    fn default() -> Self {
        Self::new()
    }
}

impl S3Options {
    /// Nothing given.
    pub fn new() -> Self {
        Self(AmazonS3Builder::new())
    }

    /// What the variables `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`,
    /// `AWS_ENDPOINT_URL`, `AWS_ALLOW_HTTP` and the others of
    /// [object_store](https://docs.rs/object_store/latest/object_store/aws/struct.AmazonS3Builder.html#method.from_env)
    /// say.
    pub fn from_env() -> Self {
        Self(AmazonS3Builder::from_env())
    }

    /// The region; `us-east-1` where not given.
    #[must_use]
    pub fn region(self, region: &str) -> Self {
        Self(self.0.with_region(region))
    }

    /// Another server than Amazon's, such as `https://minio.example:9000`.
    #[must_use]
    pub fn endpoint(self, url: &str) -> Self {
        Self(self.0.with_endpoint(url))
    }

    /// The keys.
    #[must_use]
    pub fn keys(self, access_key_id: &str, secret_access_key: &str) -> Self {
        Self(self.0.with_access_key_id(access_key_id).with_secret_access_key(secret_access_key))
    }

    /// The token that belongs to keys given out for a time.
    #[must_use]
    pub fn session_token(self, token: &str) -> Self {
        Self(self.0.with_token(token))
    }

    /// Lets the endpoint be one of `http://`, where everybody on the way can read and change what is sent.
    #[must_use]
    pub fn allow_http(self) -> Self {
        Self(self.0.with_config(AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp), "true"))
    }

    fn endpoint_given(&self) -> Option<String> {
        let given = |key| self.0.get_config_value(&key);
        given(AmazonS3ConfigKey::S3Endpoint).or_else(|| given(AmazonS3ConfigKey::Endpoint))
    }

    fn http_allowed(&self) -> bool {
        let allowed = self.0.get_config_value(&AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp));
        allowed
            .is_some_and(|text| ["true", "1", "t", "y", "yes", "on"].contains(&text.to_lowercase().as_str()))
    }
}

impl ArtifactStore {
    /// A store in the bucket and below the prefix of a URL `s3://bucket/prefix`, which is not asked for yet. The folder
    /// `scratch` keeps a copy of what was put and fetched here, as in [`new`](Self::new).
    ///
    /// Content is hashed on its way into `scratch`, then goes straight to its digest's key, large objects in parts; so
    /// there is no limit but S3's own 5 TiB an object. A bucket should have a rule that ends unfinished multipart
    /// uploads after some days: who is killed in the middle of one leaves it behind.
    ///
    /// ```no_run
    /// use kf_core::artifact::{ArtifactStore, S3Options};
    ///
    /// # fn main() -> kf_core::Result<()> {
    /// let store = ArtifactStore::s3("s3://models/kf", "/var/cache/kf", S3Options::from_env())?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] where the URL or the endpoint is not right, or the endpoint is one of `http://` and that was
    /// not allowed; [`Error::Io`] where the folder can't be made or written.
    pub fn s3(url: &str, scratch: impl AsRef<Path>, options: S3Options) -> Result<Self> {
        let (bucket, prefix) = split(url)?;
        if let Some(endpoint) = options.endpoint_given() {
            let secure = endpoint.starts_with("https://");
            let plain = endpoint.starts_with("http://") && options.http_allowed();
            if !secure && !plain {
                return Err(Error::Invalid {
                    what: "endpoint of S3",
                    found: without_user(&endpoint),
                    expected: "a URL with https://, or one with http:// and `allow_http` (AWS_ALLOW_HTTP=true)",
                });
            }
        }
        let timeout = AmazonS3ConfigKey::Client(ClientConfigKey::Timeout);
        let own = ClientOptions::default().get_config_value(&ClientConfigKey::Timeout);
        let mut builder = options.0;
        if builder.get_config_value(&timeout) == own {
            builder = builder.with_config(timeout, format!("{} seconds", REQUEST.as_secs()));
        }
        let retry = RetryConfig { retry_timeout: RETRYING, ..RetryConfig::default() };
        let builder = builder.with_bucket_name(bucket).with_retry(retry);
        let objects = Arc::new(PrefixStore::new(builder.build()?, prefix.clone()));
        let base = format!("s3://{bucket}/{prefix}");
        Self::with_base(objects, &base, scratch)
    }
}

/// A URL as it may be shown: what is before an `@` may be a secret.
fn without_user(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, rest)) => format!("…@{rest}"),
        None => url.to_owned(),
    }
}

/// The bucket and the prefix of a URL.
fn split(url: &str) -> Result<(&str, object_store::path::Path)> {
    let wrong = || Error::Invalid {
        what: "URL of a bucket",
        found: without_user(url),
        expected: "s3://bucket or s3://bucket/prefix, the bucket of a-z, 0-9, - and .",
    };
    let rest = url.strip_prefix("s3://").ok_or_else(wrong)?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(letters) || prefix.contains(['?', '#']) {
        return Err(wrong());
    }
    let prefix = object_store::path::Path::parse(prefix).map_err(|_| wrong())?;
    Ok((bucket, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_or_refused() {
        for (url, bucket, prefix) in [
            ("s3://models", "models", ""),
            ("s3://models/", "models", ""),
            ("s3://team.models-2/kf/a", "team.models-2", "kf/a"),
            ("s3://models/kf/", "models", "kf"),
        ] {
            let (b, p) = split(url).unwrap();
            assert_eq!((b, p.as_ref()), (bucket, prefix));
        }
        for url in [
            "",
            "models",
            "s3:/models",
            "s3://",
            "s3:///kf",
            "https://models/kf",
            "s3://Models",
            "s3://m/kf",
            "s3://models/../x",
            "s3://models/a//b",
            "s3://models/kf?x=1",
            "s3://user:secret@models",
        ] {
            assert!(matches!(split(url), Err(Error::Invalid { .. })), "{url}");
        }
    }

    #[test]
    fn plain_http_and_other_endpoints_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let open = |options: S3Options| ArtifactStore::s3("s3://models/kf", folder.path(), options);
        let options = || S3Options::new().keys("id", "secret");
        for endpoint in ["http://127.0.0.1:9000", "127.0.0.1:9000", "ftp://host"] {
            let error = open(options().endpoint(endpoint)).unwrap_err();
            assert!(
                matches!(&error, Error::Invalid { .. }) && error.to_string().contains("allow_http"),
                "{error}"
            );
        }
        assert!(open(options().endpoint("ftp://host").allow_http()).is_err());
        open(options().endpoint("http://127.0.0.1:9000").allow_http()).unwrap();
        let store = open(options().endpoint("https://minio.example")).unwrap();
        let digest = crate::Digest::of("");
        assert!(store.uri(&digest).starts_with("s3://models/kf/sha256/e3/e3b0"), "{}", store.uri(&digest));
        assert!(!format!("{:?}", options()).contains("secret"));
    }
}

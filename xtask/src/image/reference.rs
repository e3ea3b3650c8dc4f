//! Names of images, as registries and container runtimes write them.

use std::fmt;
use std::str::FromStr;

/// The host of names that have none, which no registry answers for: such an image is imported, never pulled.
const LOCAL: &str = "kf.local";

/// The tag of names that have none. Not `latest`, since Kubernetes tries to pull that again and again.
const TAG: &str = "dev";

/// `[HOST[:PORT]/]NAME[:TAG]`, by the grammar of the OCI distribution specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// The registry's host, with its port where one is named.
    pub(crate) host: Option<String>,
    /// The repository in it.
    pub(crate) name: String,
    /// The tag.
    pub(crate) tag: String,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.host.as_deref().unwrap_or(LOCAL), self.name, self.tag)
    }
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, rest) = match text.split_once('/') {
            Some((host, rest)) if host == "localhost" || host.contains(['.', ':']) => (Some(host), rest),
            _ => (None, text),
        };
        let (name, tag) = rest.split_once(':').unwrap_or((rest, TAG));
        if let Some(host) = host.filter(|host| !is_host(host)) {
            return Err(format!("`{host}` in `{text}` is no HOST or HOST:PORT"));
        }
        if !name.split('/').all(is_component) {
            return Err(format!(
                "`{name}` in `{text}` is no image's name: words of a-z and 0-9, joined by `.`, `_`, `-` or `/`"
            ));
        }
        if !is_tag(tag) {
            return Err(format!(
                "`{tag}` in `{text}` is no tag: up to 128 of a-z, A-Z, 0-9, `.`, `_`, `-`, not begun with `.` or `-`"
            ));
        }
        Ok(Self { host: host.map(str::to_owned), name: name.to_owned(), tag: tag.to_owned() })
    }
}

/// A name in a registry, for pushing: a [`Reference`] that names its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The registry, `HOST` or `HOST:PORT`.
    pub(crate) host: String,
    /// The repository in it.
    pub(crate) name: String,
    /// The tag.
    pub(crate) tag: String,
}

impl From<Target> for Reference {
    fn from(Target { host, name, tag }: Target) -> Self {
        Self { host: Some(host), name, tag }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.host, self.name, self.tag)
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(scheme) = ["https://", "http://"].into_iter().find(|scheme| text.starts_with(scheme)) {
            return Err(format!("`{text}`: leave out `{scheme}`"));
        }
        let Reference { host, name, tag } = text.parse()?;
        let host = host.ok_or_else(|| {
            format!(
                "`{text}` names no registry: write HOST:PORT/NAME:TAG, such as localhost:5000/{name}:{tag}"
            )
        })?;
        Ok(Self { host, name, tag })
    }
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let number = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    !name.is_empty() && name.chars().all(plain) && port.is_none_or(number)
}

/// Words of letters and digits; between two of them one `.`, one or two `_`, or any number of `-`.
fn is_component(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !(text.starts_with(plain) && text.ends_with(plain)) {
        return false;
    }
    let mut between = text.split(plain).filter(|part| !part.is_empty());
    between.all(|part| matches!(part, "." | "_" | "__") || part.chars().all(|c| c == '-'))
}

fn is_tag(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= 128 && text.starts_with(word) && text.chars().all(|c| word(c) || c == '.' || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_host_or_tag_get_one() {
        let cases = [
            ("trainer", "kf.local/trainer:dev"),
            ("team/trainer:1", "kf.local/team/trainer:1"),
            ("localhost/trainer", "localhost/trainer:dev"),
            ("127.0.0.1:5000/a/b-c.d__e:v1.0", "127.0.0.1:5000/a/b-c.d__e:v1.0"),
        ];
        for (text, full) in cases {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), full);
        }
    }

    #[test]
    fn what_is_no_name_is_refused_with_the_part_named() {
        let cases = [
            ("Trainer", "`Trainer`"),
            ("a..b", "`a..b`"),
            ("a//b", "`a//b`"),
            ("a:", "no tag"),
            ("a:.x", "no tag"),
            ("a:b:c", "no tag"),
            ("h.x:port/a", "no HOST"),
            ("h.x:0/a", "no HOST"),
            ("", "no image's name"),
        ];
        for (text, why) in cases {
            let message = text.parse::<Reference>().unwrap_err();
            assert!(message.contains(why), "{text}: {message}");
        }
        assert!(format!("a:{}", "x".repeat(129)).parse::<Reference>().is_err());
    }

    #[test]
    fn a_push_needs_a_registry() {
        let target: Target = "localhost:5000/a/b:1".parse().unwrap();
        assert_eq!(
            (target.host.as_str(), target.name.as_str(), target.tag.as_str()),
            ("localhost:5000", "a/b", "1")
        );
        assert!("trainer:1".parse::<Target>().unwrap_err().contains("localhost:5000/trainer:1"));
        assert!("http://localhost:5000/a".parse::<Target>().unwrap_err().contains("leave out `http://`"));
    }
}

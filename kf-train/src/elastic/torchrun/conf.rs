//! torchrun's `--rdzv-conf`.

use std::str::FromStr;

/// What of `--rdzv-conf KEY=VALUE,…` means something here.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Conf {
    /// `join_timeout`, or `timeout`, in seconds.
    pub join_timeout: Option<f64>,
    /// `last_call_timeout`, in seconds.
    pub last_call: Option<f64>,
    /// The keys that mean nothing.
    pub others: Vec<String>,
}

impl FromStr for Conf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut conf = Self::default();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (key, value) =
                pair.split_once('=').ok_or_else(|| format!("`{pair}`: expected KEY=VALUE,KEY=VALUE…"))?;
            let seconds = || {
                let value = value.trim().parse::<f64>();
                value.map(Some).map_err(|_| format!("`{pair}`: expected a number of seconds"))
            };
            match key.trim() {
                "join_timeout" | "timeout" => conf.join_timeout = seconds()?,
                "last_call_timeout" => conf.last_call = seconds()?,
                other => conf.others.push(other.to_owned()),
            }
        }
        Ok(conf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_taken_and_the_rest_is_named() {
        let conf: Conf = "timeout=9, last_call_timeout=1.5,is_host=1,".parse().unwrap();
        let expected = Conf { join_timeout: Some(9.0), last_call: Some(1.5), others: vec!["is_host".into()] };
        assert_eq!(conf, expected);
        assert_eq!("".parse(), Ok(Conf::default()));
        for (wrong, expected) in
            [("x", "expected KEY=VALUE"), ("timeout=soon", "expected a number of seconds")]
        {
            let error = wrong.parse::<Conf>().unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}

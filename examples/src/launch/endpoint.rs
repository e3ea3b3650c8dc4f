//! Where agents meet.

use std::net::Ipv6Addr;

/// Where torchrun's agents meet when an endpoint names no port.
const PORT: u16 = 29400;

/// An endpoint as `host:port`, with torchrun's port where it names none.
///
/// # Errors
/// What is wrong with it, and what is expected.
pub(super) fn endpoint(text: &str) -> Result<String, String> {
    let expected = "expected HOST or HOST:PORT, of which an IPv6 address is in brackets: [::1]:29400";
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Ok(format!("[{address}]:{PORT}"));
    }
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, "")) if address.parse::<Ipv6Addr>().is_ok() => (text, None),
        Some((address, rest)) if address.parse::<Ipv6Addr>().is_ok() && rest.starts_with(':') => {
            (&text[..address.len() + 2], Some(&rest[1..]))
        }
        _ => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() || host.contains(char::is_whitespace) {
        return Err(format!("the endpoint `{text}` names no host; {expected}"));
    }
    match port {
        None => Ok(format!("{host}:{PORT}")),
        Some(port) if port.bytes().all(|digit| digit.is_ascii_digit()) && port.parse::<u16>().is_ok() => {
            Ok(format!("{host}:{port}"))
        }
        Some(port) => Err(format!(
            "the endpoint `{text}`: `{port}` is no port, which is a number up to {}; {expected}",
            u16::MAX
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_have_a_host_and_a_port() {
        for (text, expected) in [
            ("a", "a:29400"),
            ("a:1", "a:1"),
            ("localhost:0", "localhost:0"),
            ("::1", "[::1]:29400"),
            ("[::1]", "[::1]:29400"),
            ("[::1]:5", "[::1]:5"),
        ] {
            assert_eq!(endpoint(text).unwrap(), expected);
        }
        for (text, expected) in [
            ("127.0.0.1:99999", "`99999` is no port"),
            ("a:", "`` is no port"),
            ("a:+1", "`+1` is no port"),
            ("a:b", "`b` is no port"),
            ("a:1:2", "`1:2` is no port"),
            ("[::1]5", "`:1]5` is no port"),
            ("[::1]:5x", "`5x` is no port"),
            ("", "names no host"),
            (":1", "names no host"),
            ("a b:1", "names no host"),
        ] {
            let error = endpoint(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}

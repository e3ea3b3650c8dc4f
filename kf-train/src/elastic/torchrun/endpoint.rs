//! Where agents meet.

use std::net::Ipv6Addr;

/// Where torchrun's agents meet when an endpoint names no port.
const PORT: u16 = 29400;
/// Where they meet at a master's host when no port of it is named.
const MASTER_PORT: u16 = 29500;

/// An endpoint as `host:port`, with torchrun's port, 29400, where it names none.
///
/// # Errors
/// What is wrong with it, and what is expected.
pub fn endpoint(text: &str) -> Result<String, String> {
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

/// The endpoints of a job of so many nodes at most: those that are listed, or the one of a master's host and port, 29500
/// where that is not given. An empty text in a list of one is none, as scripts have it whose variable is not set.
///
/// # Errors
/// Which endpoint is wrong, and what is expected.
pub fn endpoints(
    listed: &[String],
    master: Option<(&str, Option<u16>)>,
    max_nodes: usize,
) -> Result<Vec<String>, String> {
    let mut endpoints = match listed {
        [none] if none.is_empty() => Vec::new(),
        listed => listed.to_vec(),
    };
    if let (Some((host, port)), true) = (master, endpoints.is_empty()) {
        let host =
            host.parse::<Ipv6Addr>().map_or_else(|_| host.to_owned(), |address| format!("[{address}]"));
        endpoints.push(format!("{host}:{}", port.unwrap_or(MASTER_PORT)));
    }
    let endpoints = endpoints.iter().map(|text| endpoint(text)).collect::<Result<Vec<_>, _>>()?;
    match endpoints.iter().find(|endpoint| max_nodes > 1 && endpoint.ends_with(":0")) {
        Some(endpoint) => Err(format!(
            "the endpoint `{endpoint}`: port 0 is any free one, which other nodes can't know; give a port"
        )),
        None => Ok(endpoints),
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

    #[test]
    fn a_master_is_an_endpoint_where_none_is_listed() {
        let listed = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        for (texts, master, expected) in [
            (&["a:1", "b"][..], Some(("m", None)), &["a:1", "b:29400"][..]),
            (&[], Some(("m", None)), &["m:29500"]),
            (&[""], Some(("::1", Some(7))), &["[::1]:7"]),
            (&[""], None, &[]),
        ] {
            assert_eq!(endpoints(&listed(texts), master, 2).unwrap(), expected);
        }
        assert!(endpoints(&listed(&["a:0"]), None, 1).is_ok());
        assert!(endpoints(&listed(&["a:0"]), None, 2).unwrap_err().contains("port 0 is any free one"));
    }
}

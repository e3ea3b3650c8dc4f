//! Networks in CIDR notation (RFC 4632, RFC 4291), as Kubernetes takes them without a warning.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network: no bit of its address is beyond its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl FromStr for Cidr {
    /// What was expected.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || "a network such as `10.20.0.0/16`, or an address such as `10.20.0.7/32`".to_owned();
        let (address, length) = text.split_once('/').ok_or_else(form)?;
        let address: IpAddr = address.parse().map_err(|_| form())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        // Also no sign, and no zeros before it.
        let prefix =
            length.parse().ok().filter(|prefix: &u8| *prefix <= most && prefix.to_string() == length);
        let prefix = prefix.ok_or_else(|| format!("a prefix of 0 to {most} bits after the `/`"))?;
        let network = match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
            }
            IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => {
                return Err("an address of IPv4 to be written as one".to_owned());
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
            }
        };
        match network == address {
            true => Ok(Self { address, prefix }),
            false => Err(format!("`{network}/{prefix}`, or a longer prefix: bits beyond the prefix are set")),
        }
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_taken() {
        for (text, written) in [
            ("10.20.0.0/16", "10.20.0.0/16"),
            ("10.20.0.7/32", "10.20.0.7/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("FD00:0:0::1/128", "fd00::1/128"),
        ] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), written);
        }
    }

    #[test]
    fn what_is_none_is_told() {
        for (text, expected) in [
            ("", "a network such as"),
            ("/", "a network such as"),
            ("10.0.0.1", "a network such as"),
            ("s3.example/24", "a network such as"),
            ("010.0.0.0/8", "a network such as"),
            (" 10.0.0.0/8", "a network such as"),
            ("10.0.0.0/33", "0 to 32 bits"),
            ("10.0.0.0/+8", "0 to 32 bits"),
            ("10.0.0.0/08", "0 to 32 bits"),
            ("10.0.0.0/", "0 to 32 bits"),
            ("10.0.0.0/8/8", "0 to 32 bits"),
            ("fd00::/129", "0 to 128 bits"),
            ("10.0.0.1/8", "`10.0.0.0/8`, or a longer prefix"),
            ("fd00::1/64", "`fd00::/64`, or a longer prefix"),
            ("::ffff:10.0.0.0/104", "IPv4"),
        ] {
            let told = text.parse::<Cidr>().unwrap_err();
            assert!(told.contains(expected), "{text}: {told}");
        }
    }
}

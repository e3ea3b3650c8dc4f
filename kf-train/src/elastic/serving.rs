//! Where an agent serves its store: at the endpoint that is its own, or beside.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use tracing::info;

use super::options::AgentOptions;
use crate::store::StoreServer;
use crate::{Error, Result};

/// The addresses of an endpoint.
///
/// # Errors
/// [`Error::Endpoint`] where its name is not known.
pub(super) async fn resolve(endpoint: &str) -> Result<Vec<SocketAddr>> {
    let wrong = |reason: String| Error::Endpoint { endpoint: endpoint.to_owned(), reason };
    let addresses: Vec<_> =
        tokio::net::lookup_host(endpoint).await.map_err(|error| wrong(error.to_string()))?.collect();
    match addresses.is_empty() {
        true => Err(wrong("it has no address".into())),
        false => Ok(addresses),
    }
}

/// Serves at an endpoint that is this node's, be it by its name or by the machine's addresses. A name that is not known may
/// be that of a node that is yet to come, where there are others, or nodes have names.
pub(super) async fn serve_own(endpoint: &str, options: &AgentOptions) -> Result<Option<StoreServer>> {
    if let Some(port) = options.name.as_deref().and_then(|name| port_at(endpoint, name)) {
        let host = options.host.as_deref().and_then(|host| host.parse().ok());
        let server =
            StoreServer::bind((host.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), port).into()).await;
        let wrong = |error: Error| Error::Endpoint { endpoint: endpoint.into(), reason: error.to_string() };
        return server.map(Some).map_err(wrong);
    }
    match resolve(endpoint).await {
        Ok(addresses) => serve_at(&addresses, endpoint).await,
        Err(error) if options.name.is_some() || options.endpoints.len() > 1 => {
            info!(%error, "not known yet");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The node's name, where that is how the others reach it: one of the endpoints is its own by it.
pub(super) fn own_name(options: &AgentOptions) -> Option<String> {
    let name = options.name.as_ref()?;
    options.endpoints.iter().any(|endpoint| port_at(endpoint, name).is_some()).then(|| name.clone())
}

/// The port of an endpoint at this host.
fn port_at(endpoint: &str, host: &str) -> Option<u16> {
    let (of, port) = endpoint.rsplit_once(':')?;
    port.parse().ok().filter(|_| of == host)
}

/// The address from which this machine reaches the first endpoint that is known; the host that was given where none is.
pub(super) async fn local(seeds: &[String], options: &AgentOptions) -> Result<IpAddr> {
    let mut unknown = None;
    for seed in seeds {
        match resolve(seed).await {
            Ok(addresses) => return local_address(seed, &addresses),
            Err(error) => unknown = unknown.or(Some(error)),
        }
    }
    let given = options.host.as_deref().and_then(|host| host.parse().ok());
    match (given, unknown) {
        (Some(address), _) => Ok(address),
        (None, Some(error)) => Err(error),
        (None, None) => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    }
}

/// Serves at an endpoint, where it is this machine's and nobody does already.
async fn serve_at(addresses: &[SocketAddr], endpoint: &str) -> Result<Option<StoreServer>> {
    use std::io::ErrorKind::{AddrInUse, AddrNotAvailable};
    for address in addresses {
        match StoreServer::bind(*address).await {
            Ok(server) => return Ok(Some(server)),
            Err(Error::Store { source, .. }) if matches!(source.kind(), AddrInUse | AddrNotAvailable) => {}
            Err(error) => {
                return Err(Error::Endpoint { endpoint: endpoint.to_owned(), reason: error.to_string() });
            }
        }
    }
    Ok(None)
}

/// The address from which this machine reaches another.
fn local_address(endpoint: &str, addresses: &[SocketAddr]) -> Result<IpAddr> {
    let found = addresses.first().map(|address| {
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        // Nothing is sent: the system picks the address by its routes.
        let socket = UdpSocket::bind(any)?;
        socket.connect(address)?;
        Ok(socket.local_addr()?.ip())
    });
    found.unwrap_or_else(|| Err(std::io::Error::other("it has no address"))).map_err(
        |error: std::io::Error| Error::Endpoint {
            endpoint: endpoint.to_owned(),
            reason: format!("no way there: {error}"),
        },
    )
}

//! A server of Amazon's S3 interface.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::{Supervised, free_port, tail, until};

/// An S3 server with everything in memory: `moto` of the Python that `KF_TEST_PYTHON` names. Any keys fit. Ends when
/// dropped.
#[derive(Debug)]
pub struct S3Server {
    _server: Supervised,
    host: IpAddr,
    port: u16,
    _folder: TempDir,
}

impl S3Server {
    /// Starts one; some seconds.
    ///
    /// # Errors
    /// Why there is none here, such as that no Python is named.
    pub fn start() -> Result<Self, String> {
        Self::start_on(Ipv4Addr::LOCALHOST.into())
    }

    /// Starts one at another address of this machine, such as that which the pods of a test's cluster see it by.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_on(host: IpAddr) -> Result<Self, String> {
        let python =
            std::env::var_os("KF_TEST_PYTHON").ok_or("KF_TEST_PYTHON names no Python with moto[server]")?;
        let folder =
            tempfile::Builder::new().prefix("kf-s3-").tempdir().map_err(|error| error.to_string())?;
        let port = free_port().map_err(|error| error.to_string())?;
        let arguments =
            ["-m", "moto.server", "-H", &host.to_string(), "-p", &port.to_string()].map(str::to_owned);
        let mut server = Supervised::start("KILL", folder.path(), None, &PathBuf::from(python), &arguments)
            .map_err(|error| format!("moto: {error}"))?;
        until(&mut server, || TcpStream::connect((host, port)).is_ok())
            .map_err(|why| format!("moto: {why}: {}", tail(folder.path())))?;
        Ok(Self { _server: server, host, port, _folder: folder })
    }

    /// Where it listens, such as `http://127.0.0.1:5000`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", SocketAddr::new(self.host, self.port))
    }

    /// Makes a bucket.
    ///
    /// # Errors
    /// What the server said instead.
    pub fn make_bucket(&self, name: &str) -> Result<(), String> {
        let answer = self.request("PUT", &format!("/{name}")).map_err(|error| format!("moto: {error}"))?;
        if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(format!("moto: {answer}")) }
    }

    /// What a request without a body is answered, head and body.
    ///
    /// # Errors
    /// Where the server does not answer.
    pub fn request(&self, method: &str, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect((self.host, self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let host = SocketAddr::new(self.host, self.port);
        // The key's first word tells moto which of Amazon's services is meant.
        let key = "AWS4-HMAC-SHA256 Credential=kf/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {key}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

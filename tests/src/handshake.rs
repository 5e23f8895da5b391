//! A client that handshakes with a server, verifies what it serves as a browser would, and notes the serial.
//!
//! It refuses to be lenient: any failed connection, unverified chain or mismatched pair is an error.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};

/// A TLS client that trusts one root.
pub struct Client {
    config: Arc<rustls::ClientConfig>,
}

impl Client {
    /// Trusts the root in this PEM file and nothing else.
    pub fn trusting(root: &Path) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(root).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        Self { config: Arc::new(config) }
    }

    /// One full handshake and one request; answers the serial served, in upper-case hex.
    pub fn serial(&self, port: u16, server_name: &str) -> Result<String, String> {
        let name = ServerName::try_from(server_name.to_string()).map_err(|error| error.to_string())?;
        let mut connection =
            rustls::ClientConnection::new(self.config.clone(), name).map_err(|error| error.to_string())?;
        let mut socket = TcpStream::connect(("127.0.0.1", port)).map_err(|error| format!("connect: {error}"))?;
        let limit = Some(Duration::from_secs(5));
        socket
            .set_read_timeout(limit)
            .and_then(|()| socket.set_write_timeout(limit))
            .map_err(|error| error.to_string())?;
        let mut stream = rustls::Stream::new(&mut connection, &mut socket);
        let request = format!("GET / HTTP/1.0\r\nHost: {server_name}\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(|error| format!("handshake: {error}"))?;
        let mut first = [0; 12];
        stream.read_exact(&mut first).map_err(|error| format!("answer: {error}"))?;
        if &first[9..] != b"200" {
            return Err(format!("answer: {}", String::from_utf8_lossy(&first)));
        }
        let leaf = connection.peer_certificates().and_then(|chain| chain.first()).ok_or("no certificate")?;
        let (_, certificate) = x509_parser::parse_x509_certificate(leaf).map_err(|error| error.to_string())?;
        Ok(hex::encode_upper(certificate.raw_serial()))
    }
}

//! Encryption of a connection: what is asked of the server, and what we show of ourselves.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use setpiece_core::{Error, ErrorKind, Result};

use super::info::{ConnectInfo, SslMode};
use super::secret_file::read_private;
use super::socket::Socket;
use super::verify::{Roots, Verifier};
use super::x509;

/// The name of the protocol inside of TLS, registered for PostgreSQL.
const PROTOCOL: &[u8] = b"postgresql";

/// An encrypted socket.
pub(super) type TlsStream = StreamOwned<ClientConnection, Socket>;

/// How connections are encrypted.
#[derive(Clone)]
pub(super) struct TlsSetup {
    config: Arc<ClientConfig>,
    named: bool,
}

impl fmt::Debug for TlsSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSetup").field("named", &self.named).finish_non_exhaustive()
    }
}

impl TlsSetup {
    /// Reads the certificates that `info` names.
    pub(super) fn new(info: &ConnectInfo) -> Result<Self> {
        let mode = info.ssl_mode();
        let named = mode == SslMode::VerifyFull;
        let roots = match (info.ssl_root_cert(), mode) {
            (Some(path), _) => Some(roots(path)?),
            (None, SslMode::VerifyCa | SslMode::VerifyFull) => {
                return Err(usage("sslmode asks for a verified certificate, and sslrootcert names none to trust")
                    .remedy("set sslrootcert to the file with the certificates that may sign the server's"));
            }
            (None, _) => None,
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let verifier = Arc::new(Verifier { roots, named, algorithms });
        let config = config(provider, verifier, own_certificate(info)?)?;
        Ok(TlsSetup { config: Arc::new(config), named })
    }

    /// Agrees on encryption with the server on the other side of `socket`, which is `host` at `address`.
    pub(super) fn secure(&self, mut socket: Socket, host: &str, address: IpAddr) -> io::Result<TlsStream> {
        let name = match ServerName::try_from(host.to_owned()) {
            Ok(name) => name,
            Err(error) if self.named => return Err(io::Error::new(io::ErrorKind::InvalidInput, error)),
            Err(_) => ServerName::from(address),
        };
        let mut connection = ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(StreamOwned::new(connection, socket))
    }
}

/// What binds a login to the certificate that the server has shown, if its kind of certificate can.
pub(super) fn channel_binding(stream: &TlsStream) -> Option<Vec<u8>> {
    x509::end_point(stream.conn.peer_certificates()?.first()?)
}

fn config(provider: Arc<CryptoProvider>, verifier: Arc<Verifier>, own: Option<OwnCertificate>) -> Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| usage("TLS cannot be set up").because(error))?;
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => builder.with_client_auth_cert(own.chain, own.key).map_err(|error| {
            usage(format!("sslcert and sslkey do not go together: {error}")).remedy("give the key of the certificate")
        })?,
    };
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(config)
}

struct OwnCertificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

fn own_certificate(info: &ConnectInfo) -> Result<Option<OwnCertificate>> {
    let (certificate, key) = match (info.ssl_cert(), info.ssl_key()) {
        (None, None) => return Ok(None),
        (Some(certificate), Some(key)) => (certificate, key),
        _ => return Err(usage("sslcert and sslkey are needed both, or neither")),
    };
    let parsed = PrivateKeyDer::from_pem_slice(&read_private(key)?).map_err(|error| {
        usage(format!("holds no private key: {error}"))
            .on(key.display().to_string())
            .remedy("give a key in PEM format that is not protected by a password")
    })?;
    Ok(Some(OwnCertificate { chain: certificates(certificate)?, key: parsed }))
}

fn roots(path: &Path) -> Result<Roots> {
    let listed = certificates(path)?;
    let mut store = RootCertStore::empty();
    for certificate in &listed {
        store.add(certificate.clone()).map_err(|error| {
            usage(format!("holds a certificate that cannot be used: {error}")).on(path.display().to_string())
        })?;
    }
    Ok(Roots { store, listed })
}

/// The certificates of a file in PEM format, at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let name = || path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| Error::io(name(), error))?;
    let listed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let listed = listed.map_err(|error| usage(format!("cannot be read as PEM: {error}")).on(name()))?;
    if listed.is_empty() {
        return Err(usage("holds no certificate in PEM format").on(name()));
    }
    Ok(listed)
}

fn usage(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, what)
}

/// Why the encryption of the connection to `server` failed.
pub(super) fn refused(server: &str, error: io::Error) -> Error {
    let fault = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let remedy = match fault {
        Some(rustls::Error::InvalidCertificate(fault)) => certificate_remedy(fault),
        _ => "see the log of the server; sslmode=disable connects without encryption",
    };
    let retryable = fault.is_none();
    let error = match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => io::Error::new(error.kind(), "no answer"),
        _ => error,
    };
    Error::new(ErrorKind::Source, format!("TLS failed: {error}"))
        .on(server)
        .remedy(remedy)
        .retryable(retryable)
        .because(error)
}

fn certificate_remedy(fault: &CertificateError) -> &'static str {
    match fault {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "connect by a name among the certificate's subjectAltName, which alone counts, or use sslmode=verify-ca"
        }
        CertificateError::UnknownIssuer => "sslrootcert must hold the certificate that signed the server's",
        CertificateError::Other(_) => "use a certificate of X.509 version 3",
        _ => "renew the server's certificate",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(parameters: &str) -> Result<TlsSetup> {
        TlsSetup::new(&format!("postgres://h?{parameters}").parse().unwrap())
    }

    #[test]
    fn what_is_missing_or_makes_no_sense_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty");
        std::fs::write(&empty, "").unwrap();
        let empty = empty.display();
        let cases = [
            ("sslmode=verify-ca".to_owned(), "sslrootcert"),
            ("sslmode=verify-full".to_owned(), "sslrootcert"),
            ("sslrootcert=/nowhere".to_owned(), "/nowhere"),
            (format!("sslrootcert={empty}"), "no certificate"),
            ("sslcert=/c".to_owned(), "both"),
            ("sslkey=/k".to_owned(), "both"),
            ("sslcert=/c&sslkey=/nowhere".to_owned(), "/nowhere"),
        ];
        for (parameters, part) in cases {
            let error = setup(&parameters).unwrap_err().to_string();
            assert!(error.contains(part), "{parameters}: {error}");
        }
        setup("sslmode=require").unwrap();
    }
}

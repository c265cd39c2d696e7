//! What the certificate of a server has to prove.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use setpiece_core::model::Timestamp;

use super::x509::{Validity, validity};

/// The certificates that are trusted.
#[derive(Debug)]
pub(super) struct Roots {
    pub(super) store: RootCertStore,
    pub(super) listed: Vec<CertificateDer<'static>>,
}

/// Demands of a certificate what the mode asks for. In every mode the server must own the certificate's key.
#[derive(Debug)]
pub(super) struct Verifier {
    /// Who must have signed it; `None` for anybody.
    pub(super) roots: Option<Roots>,
    /// Whether it must be for the host.
    pub(super) named: bool,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl Roots {
    fn accept(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Result<(), Error> {
        // One that has signed itself, the usual one in manuals, says that it is no server's. Where that very
        // certificate is trusted, nobody else needs to speak for it.
        if self.listed.contains(certificate) {
            return in_time(certificate, now);
        }
        let parsed = ParsedCertificate::try_from(certificate)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.store, between, now, algorithms.all)
    }
}

fn in_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let micros = i64::try_from(now.as_secs()).ok().and_then(|seconds| seconds.checked_mul(1_000_000));
    let fault = match micros.and_then(|micros| validity(certificate, Timestamp(micros))) {
        Some(Validity::Valid) => return Ok(()),
        Some(Validity::TooEarly) => CertificateError::NotValidYet,
        Some(Validity::TooLate) => CertificateError::Expired,
        None => CertificateError::BadEncoding,
    };
    Err(fault.into())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            roots.accept(certificate, between, now, self.algorithms)?;
        }
        if self.named {
            verify_server_name(&ParsedCertificate::try_from(certificate)?, host)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::crypto::aws_lc_rs::default_provider;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    /// Signed by itself, for `db.example`, valid for ten years.
    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\n\
        MIIBjzCCATagAwIBAgIUcABwyV2BmU/27JTBoyrbDDA+I+AwCgYIKoZIzj0EAwIw\n\
        EjEQMA4GA1UEAwwHZXhhbXBsZTAeFw0yNjExMjIwNzUwMDdaFw0zNjExMTkwNzUw\n\
        MDdaMBIxEDAOBgNVBAMMB2V4YW1wbGUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC\n\
        AAQh7LODvcQUFiyX64w8IUiVvt/RhHxoQRrLHDSh+wMkh7gwfC7tDIx3C/cAV1EX\n\
        clp0Vn/KRGtNNW6r2ymoJ2pYo2owaDAdBgNVHQ4EFgQUllAvcFIIsw6LUsvn1KCa\n\
        DV1lk6YwHwYDVR0jBBgwFoAUllAvcFIIsw6LUsvn1KCaDV1lk6YwDwYDVR0TAQH/\n\
        BAUwAwEB/zAVBgNVHREEDjAMggpkYi5leGFtcGxlMAoGCCqGSM49BAMCA0cAMEQC\n\
        IHF6PgQIp26WOMHrkQXO8a0HqVGu2DySpuLiX3x38XhJAiBbKXRH6+TQAQScm48j\n\
        a00ileZYrLZsYaglTFUmR+lZOg==\n\
        -----END CERTIFICATE-----";
    const FROM: u64 = 1_795_333_807;
    const UPTO: u64 = 2_110_693_807;

    fn verify(host: &str, named: bool, trusted: bool, now: u64) -> Result<ServerCertVerified, Error> {
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
        let listed = if trusted { vec![certificate.clone()] } else { Vec::new() };
        let roots = Some(Roots { store: RootCertStore::empty(), listed });
        let algorithms = default_provider().signature_verification_algorithms;
        let host = ServerName::try_from(host.to_owned()).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
        Verifier { roots, named, algorithms }.verify_server_cert(&certificate, &[], &host, &[], now)
    }

    #[test]
    fn a_certificate_that_is_trusted_itself_has_a_name_and_a_time() {
        for now in [FROM, UPTO] {
            verify("db.example", true, true, now).unwrap();
        }
        verify("other.example", false, true, FROM).unwrap();
        let fault = |host, trusted, now| match verify(host, true, trusted, now) {
            Err(Error::InvalidCertificate(fault)) => fault,
            other => panic!("{other:?}"),
        };
        assert_eq!(fault("db.example", true, FROM - 1), CertificateError::NotValidYet);
        assert_eq!(fault("db.example", true, UPTO + 1), CertificateError::Expired);
        assert!(matches!(fault("other.example", true, FROM), CertificateError::NotValidForNameContext { .. }));
        fault("db.example", false, FROM);
    }
}

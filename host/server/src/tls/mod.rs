//! TLS in front of connections: rustls, with certificates that are chosen by name and read again when their files change.

mod certificates;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use covet_net::Stream;
use hyper_util::rt::TokioIo;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
    server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use x509_parser::prelude::{FromDer, X509Certificate};

use self::certificates::Certificates;
pub use self::certificates::{CertificateError, Pair, Problem};

/// What an operator can say about TLS.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// Certificates with their keys; a client that names no host, or one that none of them has, gets the first.
    pub pairs: Vec<Pair>,
    /// The certificates that sign those of clients, in PEM; none if clients are not asked for one.
    pub client_ca: Option<PathBuf>,
    /// Whether a client may do without one.
    pub client_optional: bool,
    /// Whether TLS 1.2 is refused.
    pub only_tls13: bool,
}

/// The certificates of a server, and what it agrees to with clients. Shared by all threads.
#[derive(Debug)]
pub struct Tls {
    config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
}

impl Tls {
    /// Reads all files.
    ///
    /// # Errors
    /// The file that cannot be used, and why.
    pub fn new(options: &TlsOptions) -> Result<Self, CertificateError> {
        let provider = Arc::new(ring::default_provider());
        let certificates = Arc::new(Certificates::read(options.pairs.clone(), provider.clone())?);
        let versions: &[_] = if options.only_tls13 { &[&rustls::version::TLS13] } else { rustls::DEFAULT_VERSIONS };
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .expect("ring has suites for both versions")
            .with_client_cert_verifier(client_verifier(options, provider)?);
        let mut config = config.with_cert_resolver(certificates.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), certificates })
    }

    /// Reads the certificates again whose files have changed. If one of them cannot be used, all stay as they are.
    ///
    /// Returns whether there were changes.
    ///
    /// # Errors
    /// The file that cannot be used, and why.
    pub fn reload(&self) -> Result<bool, CertificateError> {
        self.certificates.reload()
    }

    pub(crate) fn acceptor(&self) -> Acceptor {
        Acceptor(tokio_rustls::TlsAcceptor::from(self.config.clone()))
    }
}

fn client_verifier(
    options: &TlsOptions,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, CertificateError> {
    let Some(path) = &options.client_ca else { return Ok(Arc::new(NoClientAuth)) };
    let failed = |problem| CertificateError { path: path.clone(), problem };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| failed(error.into()))? {
        let certificate = certificate.map_err(|error| failed(error.into()))?;
        roots.add(certificate).map_err(|error| failed(Problem::Rejected(error)))?;
    }
    if roots.is_empty() {
        return Err(failed(Problem::NoCertificate));
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if options.client_optional {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| failed(Problem::Verifier(error)))
}

/// Does the handshakes.
pub(crate) struct Acceptor(tokio_rustls::TlsAcceptor);

/// A connection whose handshake is over.
pub(crate) struct Secure {
    pub(crate) stream: TokioIo<tokio_rustls::server::TlsStream<TokioIo<Stream>>>,
    /// Whether HTTP/2 was agreed on; else it is HTTP/1.1.
    pub(crate) is_http2: bool,
    pub(crate) client_subject: Option<String>,
}

impl Acceptor {
    /// # Errors
    /// What went wrong between the two, or that it took too long.
    pub(crate) async fn accept(self, stream: Stream, patience: Duration) -> io::Result<Secure> {
        let stream = tokio::time::timeout(patience, self.0.accept(TokioIo::new(stream))).await;
        let stream = stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let (_, session) = stream.get_ref();
        let is_http2 = session.alpn_protocol() == Some(b"h2");
        let client_subject = session.peer_certificates().and_then(|chain| chain.first()).map(subject_of).transpose()?;
        Ok(Secure { stream: TokioIo::new(stream), is_http2, client_subject })
    }
}

/// The subject as RFC 4514 writes it, `CN=name,O=organisation` for example.
fn subject_of(certificate: &CertificateDer<'_>) -> io::Result<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(io::Error::other)?;
    let subject = parsed.subject().to_string();
    // It becomes a field of the request.
    if subject.chars().any(char::is_control) {
        return Err(io::Error::other("control characters in the subject of the client's certificate"));
    }
    Ok(subject)
}

//! Certificates and their keys: read from PEM files, chosen by the name that a client asks for, read again when a file has
//! changed.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::SystemTime,
};

use rustls::{
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::{ClientHello, ResolvesServerCert, VerifierBuilderError},
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The files of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The certificate and those that sign it, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}", path.display())]
pub struct CertificateError {
    /// Which one.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub problem: Problem,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It is not there, for example.
    #[error("cannot be read: {0}")]
    Read(std::io::Error),
    /// It is not PEM.
    #[error("is not PEM: {0}")]
    Pem(pem::Error),
    /// Nothing in it is a certificate.
    #[error("has no certificate (a block that begins with -----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    /// Nothing in it is a private key.
    #[error("has no private key (a block that begins with -----BEGIN PRIVATE KEY-----)")]
    NoKey,
    /// It is neither for the algorithms that TLS uses, nor well-formed.
    #[error("cannot be used: {0}")]
    Rejected(rustls::Error),
    /// The key is that of another certificate.
    #[error("is not the key of the certificate {}", .0.display())]
    OtherKey(PathBuf),
    /// Certificates of clients cannot be checked with it.
    #[error("cannot be used to check certificates of clients: {0}")]
    Verifier(VerifierBuilderError),
}

impl From<pem::Error> for Problem {
    fn from(error: pem::Error) -> Self {
        match error {
            pem::Error::Io(error) => Self::Read(error),
            pem::Error::NoItemsFound => Self::NoCertificate,
            error => Self::Pem(error),
        }
    }
}

/// All certificates of a server.
#[derive(Debug)]
pub(super) struct Certificates {
    pairs: Vec<Pair>,
    provider: Arc<CryptoProvider>,
    known: RwLock<Arc<ByName>>,
    /// What the files looked like when they were read.
    stamps: Mutex<Vec<Stamp>>,
}

/// When a file was changed, and its length. None for one that is not there.
type Stamp = Option<(SystemTime, u64)>;

impl Certificates {
    pub(super) fn read(pairs: Vec<Pair>, provider: Arc<CryptoProvider>) -> Result<Self, CertificateError> {
        // Before the files are read, so that a change in between is seen the next time.
        let stamps = Mutex::new(stamps(&pairs));
        let known = RwLock::new(Arc::new(ByName::read(&pairs, &provider)?));
        Ok(Self { pairs, provider, known, stamps })
    }

    pub(super) fn reload(&self) -> Result<bool, CertificateError> {
        let mut seen = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamps(&self.pairs);
        if *seen == now {
            return Ok(false);
        }
        // One that cannot be used is told once, and looked at again when it changes again.
        *seen = now;
        let known = Arc::new(ByName::read(&self.pairs, &self.provider)?);
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(true)
    }
}

fn stamps(pairs: &[Pair]) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    pairs.iter().flat_map(|pair| [stamp(&pair.certificate), stamp(&pair.key)]).collect()
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).clone();
        known.find(hello.server_name())
    }
}

/// Certificates by the names that they are for.
#[derive(Debug)]
struct ByName {
    first: Option<Arc<CertifiedKey>>,
    /// In lower case; `*.example.com` for all names with one label in the place of `*`.
    names: HashMap<String, Arc<CertifiedKey>>,
}

impl ByName {
    fn read(pairs: &[Pair], provider: &CryptoProvider) -> Result<Self, CertificateError> {
        let mut all = Self { first: None, names: HashMap::new() };
        for pair in pairs {
            let key = Arc::new(read_pair(pair, provider)?);
            for name in names_of(&key.cert[0]) {
                // The first one wins, as it does where no name fits.
                all.names.entry(name).or_insert_with(|| key.clone());
            }
            all.first.get_or_insert(key);
        }
        Ok(all)
    }

    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let named = name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            let wildcard = || name.split_once('.').and_then(|(_, parent)| self.names.get(&format!("*.{parent}")));
            self.names.get(&name).or_else(wildcard)
        });
        named.or(self.first.as_ref()).cloned()
    }
}

fn read_pair(pair: &Pair, provider: &CryptoProvider) -> Result<CertifiedKey, CertificateError> {
    let failed = |path: &Path, problem| CertificateError { path: path.to_owned(), problem };
    let of_certificate = |problem| failed(&pair.certificate, problem);
    let of_key = |problem| failed(&pair.key, problem);
    let chain = CertificateDer::pem_file_iter(&pair.certificate).map_err(|error| of_certificate(error.into()))?;
    let chain: Vec<_> = chain.collect::<Result<_, _>>().map_err(|error| of_certificate(error.into()))?;
    if chain.is_empty() {
        return Err(of_certificate(Problem::NoCertificate));
    }
    let key = PrivateKeyDer::from_pem_file(&pair.key).map_err(|error| {
        of_key(match error {
            pem::Error::NoItemsFound => Problem::NoKey,
            error => error.into(),
        })
    })?;
    let key = provider.key_provider.load_private_key(key).map_err(|error| of_key(Problem::Rejected(error)))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => Err(of_key(Problem::OtherKey(pair.certificate.clone()))),
        Err(error) => Err(of_certificate(Problem::Rejected(error))),
    }
}

/// What a certificate says that it is for.
fn names_of(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(alternatives)) = parsed.subject_alternative_name() else { return Vec::new() };
    let names = alternatives.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertifiedKey as Generated, generate_simple_self_signed};
    use rustls::crypto::ring;

    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn write(&self, name: &str, content: &str) -> PathBuf {
            let path = self.0.path().join(name);
            fs::write(&path, content).unwrap();
            path
        }

        fn pair(&self, file: &str, names: &[&str]) -> Pair {
            let names = names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
            let Generated { cert, signing_key } = generate_simple_self_signed(names).unwrap();
            Pair {
                certificate: self.write(&format!("{file}.pem"), &cert.pem()),
                key: self.write(&format!("{file}.key"), &signing_key.serialize_pem()),
            }
        }
    }

    fn read(pairs: &[Pair]) -> Result<Certificates, CertificateError> {
        Certificates::read(pairs.to_vec(), Arc::new(ring::default_provider()))
    }

    fn found(certificates: &Certificates, name: Option<&str>) -> Vec<String> {
        names_of(&certificates.known.read().unwrap().find(name).unwrap().cert[0])
    }

    #[test]
    fn a_certificate_is_found_by_its_names_and_the_first_is_for_the_rest() {
        let folder = Folder::new();
        let pairs =
            [folder.pair("a", &["a.test", "A2.test"]), folder.pair("b", &["*.b.test"]), folder.pair("c", &["a.test"])];
        let certificates = read(&pairs).unwrap();
        for (name, expected) in [
            (Some("a2.TEST"), "a.test"),
            (Some("a.test"), "a.test"),
            (Some("x.b.test"), "*.b.test"),
            (Some("b.test"), "a.test"),
            (Some("x.y.b.test"), "a.test"),
            (None, "a.test"),
        ] {
            assert_eq!(found(&certificates, name)[0], expected, "{name:?}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_the_reason() {
        let folder = Folder::new();
        let (good, other) = (folder.pair("good", &["a.test"]), folder.pair("other", &["a.test"]));
        let missing = folder.0.path().join("missing");
        let text = folder.write("text", "not a certificate");
        for (certificate, key, path, reason) in [
            (&missing, &good.key, &missing, "cannot be read"),
            (&good.certificate, &missing, &missing, "cannot be read"),
            (&text, &good.key, &text, "no certificate"),
            (&good.certificate, &text, &text, "no private key"),
            (&good.key, &good.key, &good.key, "no certificate"),
            (&good.certificate, &other.key, &other.key, "not the key of the certificate"),
        ] {
            let error = read(&[Pair { certificate: certificate.clone(), key: key.clone() }]).unwrap_err();
            assert_eq!(&error.path, path, "{error:?}");
            assert!(error.problem.to_string().contains(reason), "{error:?}: {reason}");
        }
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_broken_one_leaves_what_was_there() {
        let folder = Folder::new();
        let pair = folder.pair("a", &["old.test"]);
        let certificates = read(std::slice::from_ref(&pair)).unwrap();
        assert!(!certificates.reload().unwrap());
        std::thread::sleep(Duration::from_millis(20));
        folder.write("a.pem", "half a file");
        certificates.reload().unwrap_err();
        assert!(!certificates.reload().unwrap(), "told once");
        assert_eq!(found(&certificates, None), ["old.test"]);
        std::thread::sleep(Duration::from_millis(20));
        folder.pair("a", &["new.test"]);
        assert!(certificates.reload().unwrap());
        assert_eq!(found(&certificates, None), ["new.test"]);
    }
}

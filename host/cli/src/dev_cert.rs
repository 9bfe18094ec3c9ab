//! `covet-host dev-cert`: a certificate for this machine, signed by a certificate authority that is only on this machine.

use std::{
    env,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

use crate::{failure::Failure, flags::DevCertFlags};

pub(crate) fn make(flags: &DevCertFlags) -> Result<(), Failure> {
    let ca_folder = flags.ca_dir.clone().or_else(default_folder);
    let ca_folder = ca_folder.ok_or_else(|| {
        Failure::usage("--ca-dir", &io::Error::other("has to be given, since neither XDG_DATA_HOME nor HOME is set"))
    })?;
    let authority = Files::new(&ca_folder, "ca");
    let (issuer, is_new) = find_authority(&authority)?;
    let name = flags.names.first().map_or("localhost", String::as_str);
    let files = Files::new(&flags.dir, &name.replace(['*', ':', '/'], "_"));
    let key = KeyPair::generate().map_err(|error| Failure::runtime("cannot make a key", &error))?;
    let mut params =
        CertificateParams::new(flags.names.clone()).map_err(|error| Failure::usage(flags.names.join(" "), &error))?;
    params.distinguished_name = name_of(name);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    valid_for(&mut params, DAYS);
    let certificate =
        params.signed_by(&key, &issuer).map_err(|error| Failure::runtime("cannot sign the certificate", &error))?;
    files.write(&certificate.pem(), &key)?;
    let (pem, ca) = (files.certificate.display(), authority.certificate.display());
    println!("{pem} and {} are for {}, for {DAYS} days", files.key.display(), flags.names.join(", "));
    println!("{} {ca}", if is_new { "the certificate authority is new:" } else { "signed by" });
    println!();
    println!("  covet-host run app.wasm --tls-cert {pem} --tls-key {}", files.key.display());
    println!("  curl --cacert {ca} https://{name}:8000/");
    println!();
    println!("browsers want the authority among theirs; on Debian and Ubuntu:");
    println!("  sudo cp {ca} /usr/local/share/ca-certificates/covet-dev.crt && sudo update-ca-certificates");
    Ok(())
}

fn default_folder() -> Option<PathBuf> {
    let data = env::var_os("XDG_DATA_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let data = data.or_else(|| env::home_dir().map(|home| home.join(".local/share")))?;
    Some(data.join("covet-host"))
}

/// The authority that is there, or a new one.
fn find_authority(files: &Files) -> Result<(Issuer<'static, KeyPair>, bool), Failure> {
    if files.certificate.exists() {
        let read = |path: &Path| fs::read_to_string(path).map_err(|error| Failure::usage(path.display(), &error));
        let (pem, key) = (read(&files.certificate)?, read(&files.key)?);
        let key = KeyPair::from_pem(&key).map_err(|error| Failure::usage(files.key.display(), &error))?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key);
        return issuer
            .map(|issuer| (issuer, false))
            .map_err(|error| Failure::usage(files.certificate.display(), &error));
    }
    let failed = |error: rcgen::Error| Failure::runtime("cannot make a certificate authority", &error);
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = name_of("covet-host development authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut params, AUTHORITY_DAYS);
    let certificate = params.self_signed(&key).map_err(failed)?;
    files.write(&certificate.pem(), &key)?;
    Ok((Issuer::new(params, key), true))
}

fn name_of(name: &str) -> DistinguishedName {
    let mut full = DistinguishedName::new();
    full.push(DnType::OrganizationName, "covet-host dev-cert");
    full.push(DnType::CommonName, name);
    full
}

fn valid_for(params: &mut CertificateParams, days: i64) {
    let now = OffsetDateTime::now_utc();
    // Clocks of other machines may be a little behind.
    params.not_before = now - Duration::hours(1);
    params.not_after = now + Duration::days(days);
}

/// Browsers accept no certificate that is valid for longer.
const DAYS: i64 = 397;
const AUTHORITY_DAYS: i64 = 3650;

/// Where a certificate and its key are.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new(folder: &Path, name: &str) -> Self {
        Self { certificate: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}.key")) }
    }

    fn write(&self, certificate: &str, key: &KeyPair) -> Result<(), Failure> {
        let failed = |path: &Path| {
            let path = path.display().to_string();
            move |error: io::Error| Failure::usage(path, &error)
        };
        if let Some(folder) = self.key.parent() {
            fs::create_dir_all(folder).map_err(failed(folder))?;
        }
        // Nobody else may read a key, from its first byte on.
        let _ = fs::remove_file(&self.key);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.key);
        file.and_then(|mut file| file.write_all(key.serialize_pem().as_bytes())).map_err(failed(&self.key))?;
        fs::write(&self.certificate, certificate).map_err(failed(&self.certificate))
    }
}

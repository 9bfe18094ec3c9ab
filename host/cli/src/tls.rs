//! What the flags say about TLS, and the certificates whose files change while the host runs.

use std::{io, time::Duration};

use covet_server::tls::{Pair, Tls, TlsOptions};
use covet_wasm::Chain;

use crate::{
    failure::Failure,
    flags::{ClientAuth, TlsFlags, TlsVersion},
};

/// None if there is no certificate, and so no TLS.
pub(crate) fn read(flags: &TlsFlags) -> Result<Option<Tls>, Failure> {
    if flags.tls_cert.is_empty() {
        return Ok(None);
    }
    if flags.tls_cert.len() != flags.tls_key.len() {
        let counts = format!("{} certificates and {} keys", flags.tls_cert.len(), flags.tls_key.len());
        return Err(Failure::usage("--tls-cert and --tls-key", &io::Error::other(counts)));
    }
    let pairs = flags.tls_cert.iter().zip(&flags.tls_key);
    let options = TlsOptions {
        pairs: pairs.map(|(certificate, key)| Pair { certificate: certificate.clone(), key: key.clone() }).collect(),
        client_ca: flags.tls_client_ca.clone(),
        client_optional: flags.tls_client_auth == ClientAuth::Optional,
        only_tls13: flags.tls_min_version == TlsVersion::Tls13,
    };
    Tls::new(&options).map(Some).map_err(|error| Failure::usage("TLS", &error))
}

/// Looks every now and then whether files of certificates have changed.
pub(crate) async fn keep_fresh(tls: Option<&Tls>) {
    let Some(tls) = tls else { return std::future::pending().await };
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        match tls.reload() {
            Ok(false) => {}
            Ok(true) => tracing::info!("certificates have changed and were read again"),
            Err(error) => {
                tracing::error!(error = %Chain(&error), "certificates have changed and cannot be used; the old ones stay");
            }
        }
    }
}

/// A look is one stat of each file.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

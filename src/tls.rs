//! TLS for the listener, where a certificate is configured: versions 1.2 and 1.3, by rustls.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, version},
};

use crate::config::Settings;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not what it should be.
    #[error("{key}: {path} holds no {what} in PEM")]
    File {
        /// The setting.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is expected.
        what: &'static str,
        /// Why.
        source: rustls_pki_types::pem::Error,
    },
    /// The certificate cannot be served with this key.
    #[error("tls_certificate and tls_key cannot be used together")]
    Unusable(#[from] tokio_rustls::rustls::Error),
}

/// What turns connections into TLS ones; `None` where no certificate is configured.
///
/// # Errors
/// When the files cannot be read or do not belong together.
pub fn acceptor(settings: &Settings) -> Result<Option<TlsAcceptor>, TlsError> {
    let (Some(certificate), Some(key)) = (&settings.tls_certificate, &settings.tls_key) else {
        return Ok(None);
    };
    let chain = certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::File {
        key: "tls_key",
        path: key.clone(),
        what: "private key",
        source,
    })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::File {
        key: "tls_certificate",
        path: path.to_owned(),
        what: "certificate",
        source,
    };
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    if chain.is_empty() {
        return Err(failed(rustls_pki_types::pem::Error::NoItemsFound));
    }
    Ok(chain)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::SettingsPatch;

    fn outcome(certificate: &str, key: &str) -> Result<Option<TlsAcceptor>, TlsError> {
        let directory = tempfile::tempdir().unwrap();
        let (certificate_file, key_file) = (directory.path().join("c.pem"), directory.path().join("k.pem"));
        fs::write(&certificate_file, certificate).unwrap();
        fs::write(&key_file, key).unwrap();
        let patch = SettingsPatch {
            tls_certificate: Some(certificate_file),
            tls_key: Some(key_file),
            ..SettingsPatch::default()
        };
        acceptor(&Settings::load_with(None, &|_| None, patch).unwrap())
    }

    #[test]
    fn files_that_are_no_certificate_or_key_are_named() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        assert!(outcome(&certificate, &key).unwrap().is_some());
        assert!(outcome("", &key).unwrap_err_text().contains("tls_certificate"));
        assert!(outcome(&key, &key).unwrap_err_text().contains("tls_certificate"));
        assert!(outcome(&certificate, "nonsense").unwrap_err_text().contains("tls_key"));
        assert!(outcome(&certificate, &other.signing_key.serialize_pem()).is_err());
    }

    trait UnwrapErrText {
        fn unwrap_err_text(self) -> String;
    }

    impl UnwrapErrText for Result<Option<TlsAcceptor>, TlsError> {
        fn unwrap_err_text(self) -> String {
            match self {
                Ok(_) => panic!("it was taken"),
                Err(error) => error.to_string(),
            }
        }
    }
}

//! Whom the client trusts: the system's certificate authorities, or only those
//! of one PEM file. rustls with ring; TLS 1.2 and 1.3.

use std::sync::{Arc, OnceLock};

use hyper_rustls::{ConfigBuilderExt, HttpsConnector};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::client::WantsClientCert;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, SupportedProtocolVersion, WantsVerifier};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::connect::Lookup;
use super::error::ClientError;
use crate::config::{HttpVersion, Tls};

/// `https` cannot be spoken on this system; the text says what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(super) struct TlsUnavailable(pub(super) String);

/// TLS settings whose system certificates are read on first use.
#[derive(Debug)]
pub(super) struct TlsSettings {
    version: HttpVersion,
    config: OnceLock<Result<Arc<ClientConfig>, TlsUnavailable>>,
}

impl TlsSettings {
    pub(super) fn new(tls: &Tls, version: HttpVersion) -> Result<Self, ClientError> {
        let config = match &tls.ca {
            None => OnceLock::new(),
            Some(path) => {
                let roots = read_roots(path)?;
                let builder = builder().map_err(ClientError::Rustls)?;
                OnceLock::from(Ok(finish(builder.with_root_certificates(roots), version)))
            }
        };
        Ok(TlsSettings { version, config })
    }

    /// Wraps `http` so that it speaks TLS.
    pub(super) fn connector(
        &self,
        http: HttpConnector<Lookup>,
    ) -> Result<HttpsConnector<HttpConnector<Lookup>>, TlsUnavailable> {
        let config = self.config.get_or_init(|| system_config(self.version)).clone()?;
        Ok(HttpsConnector::from((http, config)))
    }
}

/// A client's settings for TLS without HTTP, in these versions: `tls.ca`, or the system's
/// authorities.
///
/// # Errors
/// When there is none to trust; the text says what to do.
#[cfg(any(feature = "postgres", feature = "sqlserver"))]
pub(crate) fn client_tls(
    tls: &Tls,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<ClientConfig, String> {
    let builder = builder_of(versions).map_err(|error| error.to_string())?;
    let trusting = match &tls.ca {
        Some(path) => {
            builder.with_root_certificates(read_roots(path).map_err(|error| error.to_string())?)
        }
        None => builder.with_native_roots().map_err(|error| {
            format!("no trusted certificates on this system ({error}); install ca-certificates or set tls.ca")
        })?,
    };
    Ok(trusting.with_no_client_auth())
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    builder_of(rustls::DEFAULT_VERSIONS)
}

fn builder_of(
    versions: &[&'static SupportedProtocolVersion],
) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider).with_protocol_versions(versions)
}

/// Adds what ALPN offers: `h2` before `http/1.1`, or one of them alone.
fn finish(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    version: HttpVersion,
) -> Arc<ClientConfig> {
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = match version {
        HttpVersion::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        HttpVersion::Http1 => vec![b"http/1.1".to_vec()],
        HttpVersion::Http2 => vec![b"h2".to_vec()],
    };
    Arc::new(config)
}

fn system_config(version: HttpVersion) -> Result<Arc<ClientConfig>, TlsUnavailable> {
    let unavailable = |why: String| {
        TlsUnavailable(format!(
            "no trusted certificates on this system ({why}); install ca-certificates or set tls.ca"
        ))
    };
    let builder = builder().map_err(|error| unavailable(error.to_string()))?;
    let builder = builder.with_native_roots().map_err(|error| unavailable(error.to_string()))?;
    Ok(finish(builder, version))
}

fn read_roots(path: &std::path::Path) -> Result<RootCertStore, ClientError> {
    let unusable = |reason: String| ClientError::Ca { path: path.to_owned(), reason };
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("it holds no certificate".to_owned()));
    }
    Ok(roots)
}

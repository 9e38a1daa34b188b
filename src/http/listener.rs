//! The public listener: connections, with TLS where a certificate is configured, each within
//! bounds that no slow or silent client can stretch.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

use super::Doors;
use crate::clock::wait;
use crate::telemetry::Telemetry;

/// Connections at the same time; more wait in the system's queue.
const MAX_CONNECTIONS: usize = 2_048;
/// For a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest head, in bytes: the signature's headers take some hundreds.
const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// A pause after the system refused to accept: it is out of file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often the certificate is looked at: it is replaced every few weeks, by a machine.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Serves the doors until shutdown, and then until the last answer is given.
pub async fn serve_doors(
    listener: TcpListener,
    doors: Arc<Doors>,
    certificate: Option<Arc<Certificate>>,
) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let router = doors.router();
    let mut open = JoinSet::new();
    loop {
        let accepted = async {
            // It is never closed.
            let place = connections.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, stream) = tokio::select! {
            () = doors.shutdown().stopped() => break,
            (place, accepted) = accepted => match accepted {
                Ok((stream, _)) => (place, stream),
                Err(_) => {
                    wait(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        // Answers are small and complete: nothing is gained by waiting for more of them.
        let _ = stream.set_nodelay(true);
        let (router, doors) = (router.clone(), doors.clone());
        let certificate = certificate.clone();
        open.spawn(async move {
            match certificate {
                None => converse(stream, router, &doors).await,
                Some(certificate) => {
                    let handshake = certificate.acceptor().accept(stream);
                    if let Ok(Ok(stream)) = timeout(HANDSHAKE_TIMEOUT, handshake).await {
                        converse(stream, router, &doors).await;
                    }
                }
            }
            drop(place);
        });
        while open.try_join_next().is_some() {}
    }
    drop(listener); // others may take its address
    while open.join_next().await.is_some() {}
}

/// One connection, to its end. After the word to stop it ends with the answer under way.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    doors: &Doors,
) {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(doors.patience())
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS);
    let service = TowerToHyperService::new(router);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    // What goes wrong with a connection is its client's to notice.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = doors.shutdown().stopped() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// The certificate and its key, read again when they change.
pub struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    current: watch::Sender<Loaded>,
}

struct Loaded {
    acceptor: TlsAcceptor,
    files: (Vec<u8>, Vec<u8>),
}

/// Why a certificate cannot be used. Never quotes a file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct CertificateError {
    path: PathBuf,
    problem: String,
}

impl Certificate {
    /// Reads a chain of certificates and its key, both PEM.
    ///
    /// # Errors
    /// When one of them cannot be read, or they do not belong together.
    pub fn open(chain: &Path, key: &Path) -> Result<Certificate, CertificateError> {
        let (current, _) = watch::channel(load(chain, key)?);
        Ok(Certificate { chain: chain.to_owned(), key: key.to_owned(), current })
    }

    fn acceptor(&self) -> TlsAcceptor {
        self.current.borrow().acceptor.clone()
    }

    /// Takes a new certificate over whenever there is one. Never ends by itself.
    pub async fn keep_up(&self, telemetry: &Telemetry) {
        loop {
            wait(LOOK_EVERY).await;
            let files = read(&self.chain).and_then(|chain| Ok((chain, read(&self.key)?)));
            if files.as_ref().is_ok_and(|files| *files == self.current.borrow().files) {
                continue;
            }
            match load(&self.chain, &self.key) {
                Ok(loaded) => drop(self.current.send_replace(loaded)),
                Err(error) => telemetry.certificate_refused(&error.to_string()),
            }
        }
    }
}

fn load(chain: &Path, key: &Path) -> Result<Loaded, CertificateError> {
    let files = (read(chain)?, read(key)?);
    let told = |path: &Path, problem: &str| CertificateError {
        path: path.to_owned(),
        problem: problem.to_owned(),
    };
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_reader_iter(BufReader::new(&*files.0)).collect();
    let certificates = certificates
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(|| told(chain, "holds no certificate (PEM: BEGIN CERTIFICATE)"))?;
    let private = PrivateKeyDer::from_pem_slice(&files.1)
        .map_err(|_| told(key, "holds no private key (PEM: BEGIN PRIVATE KEY)"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(certificates, private)
        .map_err(|_| told(key, "is not the key of the certificate"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Loaded { acceptor: TlsAcceptor::from(Arc::new(config)), files })
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    std::fs::read(path)
        .map_err(|error| CertificateError { path: path.to_owned(), problem: error.to_string() })
}

//! Requests to somebody else's HTTP server: one connection, HTTP/1.1, kept open, with TLS for
//! `https`. Who sends what, and what an answer means, is not known here.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

/// The largest answer, in bytes: receipts and problems have some hundreds.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// How long may be waited for somebody.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// To connect, handshake included.
    pub connect: Duration,
    pub answer: Duration,
}

/// A server.
pub struct Target {
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
    patience: Patience,
}

/// What was answered.
pub struct Answer {
    pub status: StatusCode,
    /// After how long to come again, where that was said.
    pub retry_after: Option<Duration>,
    pub body: Bytes,
}

/// What is wrong with the description of a server.
#[derive(Debug, thiserror::Error)]
pub enum InvalidTarget {
    #[error("must be http://HOST:PORT or https://HOST")]
    Url,
    #[error("no certificate (PEM): {0}")]
    Ca(String),
    #[error("this machine's TLS does not work")]
    Tls(#[from] tokio_rustls::rustls::Error),
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why there is no answer. Whether a request was dealt with that was sent is not known then.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    #[error("cannot connect to {host}:{port}")]
    Unreachable {
        host: String,
        port: u16,
        #[source]
        source: Cause,
    },
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("no answer")]
    Broken(#[source] Cause),
}

impl Target {
    /// Reads a URL such as `https://makegood.example:9443`. `ca` holds the certificate of an
    /// authority that this machine does not know.
    ///
    /// # Errors
    /// See [`InvalidTarget`].
    pub fn new(url: &str, ca: Option<&Path>, patience: Patience) -> Result<Target, InvalidTarget> {
        let uri: Uri = url.parse().map_err(|_| InvalidTarget::Url)?;
        let (scheme, host) = (uri.scheme_str(), uri.host());
        let (Some(host), "" | "/") = (host, uri.path()) else { return Err(InvalidTarget::Url) };
        let is_bare = uri.authority().is_some_and(|authority| authority.as_str() == host);
        if !is_bare && uri.port_u16().is_none() {
            return Err(InvalidTarget::Url);
        }
        let (port, tls) = match scheme {
            Some("http") => (80, None),
            Some("https") => (443, Some(tls(ca)?)),
            _ => return Err(InvalidTarget::Url),
        };
        let host = host.trim_matches(['[', ']']).to_owned();
        Ok(Target { host, port: uri.port_u16().unwrap_or(port), tls, patience })
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// [`Unanswered::Unreachable`].
    pub async fn connect(&self) -> Result<Connection, Unanswered> {
        let Target { host, port, tls, patience } = self;
        let connect = async {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            let sender = match tls {
                None => begin(stream).await?,
                Some(tls) => {
                    let name = ServerName::try_from(host.clone())?;
                    begin(tls.connect(name, stream).await?).await?
                }
            };
            Ok::<_, Cause>(Connection {
                sender,
                host: format!("{host}:{port}"),
                patience: patience.answer,
            })
        };
        let connected = match timeout(patience.connect, connect).await {
            Ok(connected) => connected,
            Err(_) => Err(Unanswered::Late(patience.connect).into()),
        };
        connected.map_err(|source| Unanswered::Unreachable {
            host: host.clone(),
            port: *port,
            source,
        })
    }
}

fn tls(ca: Option<&Path>) -> Result<TlsConnector, InvalidTarget> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca {
        let no_certificate = |error: &dyn std::fmt::Display| InvalidTarget::Ca(error.to_string());
        let certificates = CertificateDer::pem_file_iter(path);
        for certificate in certificates.map_err(|error| no_certificate(&error))? {
            let certificate = certificate.map_err(|error| no_certificate(&error))?;
            roots.add(certificate).map_err(|error| no_certificate(&error))?;
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn begin(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> hyper::Result<SendRequest<Full<Bytes>>> {
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection); // what goes wrong with it, the sender hears
    Ok(sender)
}

pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    patience: Duration,
}

impl Connection {
    /// Sends one request and waits for its answer.
    ///
    /// # Errors
    /// See [`Unanswered`]. The connection is of no use then.
    pub async fn post(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, Unanswered> {
        let mut request = Request::post(path).header(header::HOST, &self.host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).map_err(|e| Unanswered::Broken(e.into()))?;
        let answered = async {
            self.sender.ready().await?;
            let (head, body) = self.sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await?.to_bytes();
            let seconds = head.headers.get(header::RETRY_AFTER);
            let seconds = seconds.and_then(|value| value.to_str().ok()?.parse().ok());
            let retry_after = seconds.map(Duration::from_secs);
            Ok::<_, Cause>(Answer { status: head.status, retry_after, body })
        };
        match timeout(self.patience, answered).await {
            Ok(answered) => answered.map_err(Unanswered::Broken),
            Err(_) => Err(Unanswered::Late(self.patience)),
        }
    }
}

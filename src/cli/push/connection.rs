//! One connection to the doors, as a shop has it: HTTP/1.1, kept open, with TLS for `https`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
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

use crate::cli::Misuse;

/// To connect, handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For an answer: longer than the doors take by default to say that they do not know.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer, in bytes: receipts and problems have some hundreds.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Where the doors are.
pub struct Target {
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
}

/// What was answered.
pub struct Answer {
    pub status: StatusCode,
    /// After how long to come again, where that was said.
    pub retry_after: Option<Duration>,
    pub body: Bytes,
}

impl Target {
    /// Reads a URL such as `https://makegood.example:9443`. `ca` holds the certificate of an
    /// authority that this machine does not know.
    pub fn new(url: &str, ca: Option<&Path>) -> anyhow::Result<Target> {
        let misused = || Misuse(format!("--url {url}: must be http://HOST:PORT or https://HOST"));
        let uri: Uri = url.parse().map_err(|_| misused())?;
        let (scheme, host) = (uri.scheme_str(), uri.host());
        let (Some(host), "" | "/") = (host, uri.path()) else { return Err(misused().into()) };
        let (port, tls) = match scheme {
            Some("http") => (80, None),
            Some("https") => (443, Some(tls(ca)?)),
            _ => return Err(misused().into()),
        };
        let host = host.trim_matches(['[', ']']).to_owned();
        Ok(Target { host, port: uri.port_u16().unwrap_or(port), tls })
    }

    /// Opens a connection.
    pub async fn connect(&self) -> anyhow::Result<Connection> {
        let Target { host, port, tls } = self;
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
            anyhow::Ok(Connection { sender, host: format!("{host}:{port}") })
        };
        timeout(CONNECT_TIMEOUT, connect)
            .await
            .map_err(|_| anyhow!("no answer within {CONNECT_TIMEOUT:?}"))
            .and_then(|connected| connected)
            .with_context(|| format!("cannot connect to {host}:{port}"))
    }
}

fn tls(ca: Option<&Path>) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca {
        let misused = |error: &dyn std::fmt::Display| {
            Misuse(format!("--ca {}: no certificate (PEM): {error}", path.display()))
        };
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| misused(&error))? {
            let certificate = certificate.map_err(|error| misused(&error))?;
            roots.add(certificate).map_err(|error| misused(&error))?;
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
) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection); // what goes wrong with it, the sender hears
    Ok(sender)
}

pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Connection {
    /// Sends one request and waits for its answer. After an error the connection is of no use,
    /// and whether the request was dealt with is not known.
    pub async fn post(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<Answer> {
        let mut request = Request::post(path)
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body))?;
        let answered = async {
            self.sender.ready().await?;
            let (head, body) = self.sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| anyhow!(error))?.to_bytes();
            let seconds = head.headers.get(header::RETRY_AFTER);
            let seconds = seconds.and_then(|value| value.to_str().ok()?.parse().ok());
            let retry_after = seconds.map(Duration::from_secs);
            anyhow::Ok(Answer { status: head.status, retry_after, body })
        };
        timeout(ANSWER_TIMEOUT, answered).await.context("no answer")?
    }
}

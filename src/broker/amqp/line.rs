//! A line to RabbitMQ: one connection, made when it is first needed and made anew after it was
//! lost.
//!
//! lapin's own recovery stays off. It replays channels and consumers behind our back, and what
//! a delivery tag or a pending confirm means afterwards is nowhere promised; here a lost
//! connection is an error that everybody sees, and the next call begins from the start.
//!
//! Every wait has a bound of our own. Against a frozen broker `connect` would otherwise hang
//! for ever, and its thread with it: so the socket is kept within reach, and shut down when the
//! time is up.

use std::future::Future;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::tcp::{AsyncTcpStream, OwnedTLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties, ConnectionStatus};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;

use crate::broker::{BrokerError, Link};

/// Between two signs of life; a silent broker is given up after two of them. Ten seconds find a
/// half-open connection early enough, and still tolerate a busy machine.
const HEARTBEAT_SECONDS: u16 = 10;
/// For the TCP and TLS handshakes and the login together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For one request and its answer. A quorum queue that elects a leader takes a few seconds.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// For saying goodbye; afterwards the socket is just closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

type BoxedError = Box<dyn std::error::Error + Send + Sync>;

pub fn unavailable(during: &'static str, source: impl Into<BoxedError>) -> BrokerError {
    BrokerError::Unavailable { during, source: Some(source.into()) }
}

/// How to reach a broker. The URL holds a password: it is never printed.
#[derive(Clone)]
pub struct Address(SecretString);

#[derive(Debug, thiserror::Error)]
#[error("the URL of the broker is not like amqp://user:password@host:5672/vhost (or amqps://)")]
pub struct InvalidUrl;

impl Address {
    pub fn new(url: SecretString) -> Result<Address, InvalidUrl> {
        // The parser's error is left out: it may quote the URL.
        url.expose_secret().parse::<AMQPUri>().map_err(|_| InvalidUrl)?;
        Ok(Address(url))
    }

    fn uri(&self) -> AMQPUri {
        let mut uri: AMQPUri = self.0.expose_secret().parse().expect("it was parsed before");
        uri.query.heartbeat = Some(HEARTBEAT_SECONDS);
        uri
    }
}

/// One of the two connections. Publishing and consuming are kept apart, because a broker that
/// is out of memory stops reading from connections that publish: acknowledgements must still
/// get through.
pub struct Line {
    /// Shown in RabbitMQ's management.
    name: String,
    address: Address,
    /// Locked while connecting, so that many who need it make one attempt together.
    current: tokio::sync::Mutex<Option<Arc<Open>>>,
    /// Known without waiting.
    status: Mutex<Option<ConnectionStatus>>,
}

/// A connection that was made. It may have been lost since.
pub struct Open {
    pub connection: Connection,
    socket: Socket,
}

type Socket = Arc<Mutex<Option<std::net::TcpStream>>>;

impl Line {
    pub fn new(name: String, address: Address) -> Line {
        Line { name, address, current: tokio::sync::Mutex::default(), status: Mutex::default() }
    }

    /// The connection, made if there is none that works.
    pub async fn open(&self) -> Result<Arc<Open>, BrokerError> {
        let mut current = self.current.lock().await;
        if let Some(open) = &*current
            && open.connection.status().connected()
            && !open.is_cut()
        {
            return Ok(open.clone());
        }
        *current = None;
        let open = Arc::new(connect(self.address.uri(), &self.name).await?);
        let status = open.connection.status().clone();
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
        *current = Some(open.clone());
        Ok(open)
    }

    pub fn link(&self) -> Link {
        match &*self.status.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(status) if status.connected() && status.blocked() => Link::Blocked,
            Some(status) if status.connected() => Link::Connected,
            _ => Link::Disconnected,
        }
    }

    pub async fn close(&self) {
        if let Some(open) = self.current.lock().await.take() {
            let goodbye = open.connection.close(200, "closing".into());
            if timeout(CLOSE_TIMEOUT, goodbye).await.is_err() {
                open.cut();
            }
        }
    }
}

impl Open {
    /// Asks for something and waits for the answer. Without one in time the connection is of no
    /// more use, and ended.
    pub async fn ask<T>(
        &self,
        request: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, RequestError> {
        match timeout(REQUEST_TIMEOUT, request).await {
            Ok(answer) => Ok(answer?),
            Err(elapsed) => {
                self.cut();
                Err(elapsed.into())
            }
        }
    }

    /// Ends the connection at once, without a word to the broker.
    pub fn cut(&self) {
        cut(&self.socket);
    }

    /// lapin takes a moment longer to notice.
    fn is_cut(&self) -> bool {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("the broker refused it or was lost")]
    Broker(#[from] lapin::Error),
    #[error("the broker did not answer in time")]
    Silent(#[from] tokio::time::error::Elapsed),
}

fn cut(socket: &Socket) {
    if let Some(socket) = socket.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // It fails when the other side was faster.
        let _ = socket.shutdown(Shutdown::Both);
    }
}

async fn connect(uri: AMQPUri, name: &str) -> Result<Open, BrokerError> {
    const DURING: &str = "connecting";
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let runtime = lapin::runtime::default_runtime().map_err(|error| unavailable(DURING, error))?;
    let host = (uri.authority.host.clone(), uri.authority.port);
    let socket = Socket::default();
    let within_reach = socket.clone();
    let handshakes = async {
        let addresses: Vec<_> = tokio::net::lookup_host(host).await?.collect();
        Connection::connector(
            uri,
            runtime,
            async move |uri, runtime| {
                let stream = AsyncTcpStream::connect(&runtime, addresses.as_slice()).await?;
                if let AsyncTcpStream::Plain(plain) = &stream {
                    let copy = plain.get_ref().as_fd().try_clone_to_owned()?;
                    *within_reach.lock().unwrap_or_else(PoisonError::into_inner) =
                        Some(copy.into());
                }
                Ok(match uri.scheme {
                    AMQPScheme::AMQP => stream,
                    AMQPScheme::AMQPS => {
                        let config = OwnedTLSConfig::default();
                        stream.into_tls(&uri.authority.host, config.as_ref()).await?
                    }
                })
            },
            properties,
        )
        .await
    };
    match timeout(CONNECT_TIMEOUT, handshakes).await {
        Ok(Ok(connection)) => Ok(Open { connection, socket }),
        Ok(Err(error)) => Err(unavailable(DURING, error)),
        Err(elapsed) => {
            cut(&socket);
            Err(unavailable(DURING, elapsed))
        }
    }
}

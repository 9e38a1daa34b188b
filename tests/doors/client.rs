//! A client that says exactly what a test wants, byte for byte.

use std::net::SocketAddr;
use std::time::Duration;

use makegood::http::{ID, Key, SIGNATURE, TIMESTAMP};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For any answer.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A request, complete but for the connection.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: &'static str,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: Value,
}

impl Request {
    pub fn new(method: &'static str, path: &str, body: impl Into<Vec<u8>>) -> Request {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Request { method, path: path.to_owned(), headers, body: body.into() }
    }

    /// Signs it as it stands.
    pub fn signed(self, key: &str, id: &str, timestamp: i64) -> Request {
        let key = Key::parse(key).expect("a key");
        let signature = key.sign(id, timestamp, &self.body);
        self.with(ID, id).with(TIMESTAMP, &timestamp.to_string()).with(SIGNATURE, &signature)
    }

    /// With this header, in place of one of the same name.
    pub fn with(mut self, name: &str, value: &str) -> Request {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn without(mut self, name: &str) -> Request {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    pub fn head(&self) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: localhost\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head + &format!("content-length: {}\r\nconnection: close\r\n\r\n", self.body.len())
    }

    /// The answer, if there is one: a worker may die at any moment.
    pub async fn try_send(&self, address: SocketAddr) -> Option<Answer> {
        let exchange = async {
            let mut stream = TcpStream::connect(address).await.ok()?;
            stream.write_all(self.head().as_bytes()).await.ok()?;
            stream.write_all(&self.body).await.ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await.ok()?;
            understand(&text)
        };
        timeout(PATIENCE, exchange).await.ok().flatten()
    }

    pub async fn send(&self, address: SocketAddr) -> Answer {
        let stream = TcpStream::connect(address).await.expect("it listens");
        self.over(stream).await
    }

    /// Over a connection that is open.
    pub async fn over(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Answer {
        let sent = async {
            stream.write_all(self.head().as_bytes()).await?;
            stream.write_all(&self.body).await?;
            stream.flush().await
        };
        timeout(PATIENCE, sent).await.expect("in time").expect("sent");
        read(&mut stream).await
    }
}

/// Reads an answer to the end of the connection.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Answer {
    let mut text = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut text)).await.expect("in time").expect("an answer");
    let text = String::from_utf8(text).expect("text");
    understand(&text).unwrap_or_else(|| panic!("no answer: {text:?}"))
}

/// A whole answer; `None` for a part of one.
fn understand(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = match body {
        "" => Value::Null,
        body => serde_json::from_str(body).ok()?,
    };
    Some(Answer { status, head: head.to_lowercase(), body })
}

impl Answer {
    /// It is a problem document of that type, complete as RFC 9457 wants it.
    #[track_caller]
    pub fn is_problem(&self, status: u16, kind: &str) -> &Answer {
        assert_eq!((self.status, &self.body["type"]), (status, &kind.into()), "{self:?}");
        assert_eq!(self.body["status"], status);
        assert!(self.body["title"].is_string());
        assert!(self.head.contains("content-type: application/problem+json"), "{self:?}");
        assert_eq!(self.head.contains("retry-after: "), status == 503, "{self:?}");
        self
    }

    #[track_caller]
    pub fn is(&self, status: u16) -> &Answer {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

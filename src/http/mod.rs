//! HTTP: the doors for shops and couriers, and health and metrics for the platform.
//!
//! Two listeners. The public one ([`Doors`]) takes signed requests: orders, cancellations, the
//! status of an order, couriers' scans; whatever they bring goes through the worker's entrance.
//! The other one is for whoever runs the worker. `/healthz`: the process lives. `/readyz`: database
//! and broker can be worked with; 503 and the trouble, part by part, while not. `/metrics`:
//! Prometheus' text format. `/api/v1`: the operators' API, where operators are configured.

mod accounts;
mod desk;
mod door;
mod listener;
mod operators;
mod orders;
mod problem;
mod shipments;
mod signature;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;

pub use accounts::{Accounts, AccountsError};
pub use desk::Desk;
pub use door::{ACCOUNT, Bounds, Doors};
pub use listener::{Certificate, CertificateError, serve_doors};
pub use operators::{Operators, OperatorsError, token_hash};
pub use problem::{Kind as ProblemKind, Problem};
pub use signature::{Claim, ID, Key, SIGNATURE, TIMESTAMP};

use crate::telemetry::Telemetry;
use crate::worker::Shutdown;

/// Binds the listener, so that an address in use is an error before anything starts.
///
/// # Errors
/// When the address cannot be had.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves for as long as the future is polled, also while the worker drains: the platform is to
/// see that the process lives, and that it wants no more work.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(
    listener: TcpListener,
    telemetry: Arc<Telemetry>,
    shutdown: Shutdown,
    desk: Option<Desk>,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Seen { telemetry, shutdown });
    let router = match desk {
        Some(desk) => router.merge(desk::router(desk)),
        None => router,
    };
    axum::serve(listener, router).await
}

/// What is looked at from here.
#[derive(Clone)]
struct Seen {
    telemetry: Arc<Telemetry>,
    shutdown: Shutdown,
}

async fn ready(State(seen): State<Seen>) -> Response {
    let (is_well, parts) = seen.telemetry.health.report();
    let ready = is_well && !seen.shutdown.is_stopping();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut parts: serde_json::Map<_, _> = parts
        .into_iter()
        .map(|(part, trouble)| (part.to_owned(), trouble.map_or(json!("working"), |t| json!(t))))
        .collect();
    if seen.shutdown.is_stopping() {
        parts.insert("worker".to_owned(), json!("stopping"));
    }
    (status, Json(json!({ "ready": ready, "parts": parts }))).into_response()
}

async fn metrics(State(seen): State<Seen>) -> impl IntoResponse {
    let text_format = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, text_format)], seen.telemetry.render())
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    }

    #[tokio::test]
    async fn a_worker_that_drains_lives_and_is_not_ready() {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let telemetry = Arc::new(Telemetry::new());
        telemetry.part("database", None);
        let (stopper, shutdown) = crate::worker::shutdown();
        let served = tokio::spawn(serve(listener, telemetry, shutdown, None));
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        stopper.drain();
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        let answer = get(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("stopping"), "{answer}");
        assert!(get(address, "/metrics").await.contains("_connected{"));
        served.abort();
    }
}

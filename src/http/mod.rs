//! HTTP: health and metrics for the platform that runs the worker.
//!
//! `/healthz`: the process lives. `/readyz`: database and broker can be worked with; 503 and
//! the trouble, part by part, while not. `/metrics`: Prometheus' text format.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;

use crate::telemetry::Telemetry;
use crate::worker::Shutdown;

/// Binds the listener, so that an address in use is an error before anything starts.
///
/// # Errors
/// When the address cannot be had.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until shutdown.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(
    listener: TcpListener,
    telemetry: Arc<Telemetry>,
    shutdown: Shutdown,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(telemetry);
    axum::serve(listener, router)
        .with_graceful_shutdown(async move { shutdown.stopped().await })
        .await
}

async fn ready(State(telemetry): State<Arc<Telemetry>>) -> Response {
    let (ready, parts) = telemetry.health.report();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let parts: serde_json::Map<_, _> = parts
        .into_iter()
        .map(|(part, trouble)| (part.to_owned(), trouble.map_or(json!("working"), |t| json!(t))))
        .collect();
    (status, Json(json!({ "ready": ready, "parts": parts }))).into_response()
}

async fn metrics(State(telemetry): State<Arc<Telemetry>>) -> impl IntoResponse {
    let text_format = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, text_format)], telemetry.render())
}

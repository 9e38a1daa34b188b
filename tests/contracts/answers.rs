//! What the live listeners answer is what the OpenAPI document says: status, headers, body.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use makegood::http::{bind, serve};
use makegood::telemetry::Telemetry;
use makegood::worker::shutdown;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Answer, Request};
use crate::openapi::{document, operations, resolved};
use crate::schemas::{assert_valid, strict, validator};
use crate::world::{ACME, JADLOG, MAX_BYTES, OTHER, World, order, order_with, until};

const PUSH: (&str, &str) = ("post", "/v1/orders");
const VIEW: (&str, &str) = ("get", "/v1/orders/{order_id}");
const CANCEL: (&str, &str) = ("post", "/v1/orders/{order_id}/cancel");
const SCAN: (&str, &str) = ("post", "/v1/shipments/{shipment_id}/status");
/// What is documented of these and not made to happen here: a body that ends before its end, and
/// what the database refuses for ever.
const NOT_MADE: [(&str, &str, &str); 4] = [
    (VIEW.0, VIEW.1, "400"),
    (VIEW.0, VIEW.1, "413"),
    (VIEW.0, VIEW.1, "408"),
    (CANCEL.0, CANCEL.1, "422"),
];

/// The document, and which of its answers were seen.
struct Seen {
    document: Value,
    answers: BTreeSet<(String, String, String)>,
}

impl Seen {
    fn new() -> Seen {
        Seen { document: document(), answers: BTreeSet::new() }
    }

    /// Holds an answer to a request of this operation against the document.
    #[track_caller]
    fn check(&mut self, (method, path): (&str, &str), status: u16, answer: &Answer) {
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        let operation = &self.document["paths"][path][method];
        let what = format!("{method} {path}: {status}");
        let response = &operation["responses"][status.to_string()];
        assert!(response.is_object(), "{what} is not documented");
        let response = resolved(&self.document, response);
        let line = |name: &str| {
            let start = format!("{name}: ");
            answer.head.lines().find_map(|line| line.strip_prefix(&start)).map(str::to_owned)
        };
        for (name, header) in response["headers"].as_object().into_iter().flatten() {
            let value = line(name).unwrap_or_else(|| panic!("{what}: no {name}: {answer:?}"));
            let schema = &resolved(&self.document, header)["schema"];
            let value = value.parse::<i64>().map_or(json!(value), Value::from);
            // Names of headers are told in small letters here, and so are their values.
            let schema: Value = schema.to_string().to_lowercase().parse().expect("JSON");
            assert_valid(&validator("header", &schema), &value, &format!("{what}: {name}"));
        }
        // Headers of this kind are the contract's: none may be there that it does not have.
        for name in ["location", "retry-after", "www-authenticate", "cache-control"] {
            let is_documented = response["headers"].get(name).is_some();
            assert_eq!(line(name).is_some(), is_documented, "{what}: {name}");
        }
        match response["content"].as_object() {
            None => assert_eq!(answer.body, Value::Null, "{what}"),
            Some(content) => {
                let said = line("content-type").expect("a content type");
                let kind = said.split(';').next().expect("a type");
                let content = content.get(kind).unwrap_or_else(|| panic!("{what}: {said}"));
                assert_body(&content["schema"], &answer.body, &what);
            }
        }
        self.answers.insert((method.to_owned(), path.to_owned(), status.to_string()));
    }
}

fn assert_body(schema: &Value, body: &Value, what: &str) {
    match schema["$ref"].as_str().and_then(|file| file.strip_prefix("schemas/")) {
        Some(file) => assert_valid(&strict(file.strip_suffix(".json").expect("one")), body, what),
        None => assert_valid(&validator("body", schema), body, what),
    }
}

/// A request of each operation, as good as its address is.
fn one_of_each(
    world: &World,
    order_id: &str,
    shipment: &str,
) -> [((&'static str, &'static str), Request); 4] {
    let now = world.clock.seconds();
    let cancel = json!({ "order_id": order_id }).to_string();
    let scan = json!({ "status": "IN_TRANSIT", "timestamp": "2026-01-31T12:00:00Z" }).to_string();
    [
        (
            PUSH,
            Request::new("POST", "/v1/orders", order(order_id).to_string()).signed(ACME, "m", now),
        ),
        (VIEW, Request::new("GET", &format!("/v1/orders/{order_id}"), "").signed(ACME, "m", now)),
        (
            CANCEL,
            Request::new("POST", &format!("/v1/orders/{order_id}/cancel"), cancel)
                .signed(ACME, "m", now),
        ),
        (
            SCAN,
            Request::new("POST", &format!("/v1/shipments/{shipment}/status"), scan)
                .signed(JADLOG, "m", now),
        ),
    ]
}

/// Everything that a request can be answered, in a world that is well.
pub async fn each_is_documented() {
    let mut seen = Seen::new();
    let world = World::new().await;
    seen.check(PUSH, 201, &world.push(order("o-1").to_string()).await);
    seen.check(PUSH, 200, &world.push(order("o-1").to_string()).await);
    let other = order_with("o-1", |order| order["currency"] = json!("USD"));
    seen.check(PUSH, 409, &world.push(other).await);
    let foreign = order_with("o-2", |order| order["tenant_id"] = json!("other"));
    seen.check(PUSH, 403, &world.push(foreign).await);
    let card = order_with("o-2", |order| order["card_number"] = json!("x"));
    seen.check(PUSH, 422, &world.push(card).await);
    seen.check(PUSH, 422, &world.push("{}").await);
    seen.check(VIEW, 200, &world.status(ACME, "o-1").await);
    world.dispatched("o-1", "S-1").await;
    let [.., (_, scan)] = one_of_each(&world, "o-1", "S-1");
    seen.check(SCAN, 204, &world.send(&scan).await);
    let odd = Request::new("POST", "/v1/shipments/S-1/status", "{}");
    let odd = odd.signed(JADLOG, "m", world.clock.seconds());
    seen.check(SCAN, 422, &world.send(&odd).await);
    seen.check(CANCEL, 409, &world.cancel(ACME, "o-1").await);
    seen.check(PUSH, 201, &world.push(order("o-2").to_string()).await);
    seen.check(CANCEL, 202, &world.cancel(ACME, "o-2").await);
    // Nothing is left of this one's goods, and it comes to its end.
    seen.check(PUSH, 201, &world.push(order("o-3").to_string()).await);
    let rejected = json!({ "outcome": "rejected", "code": "OUT_OF_STOCK" });
    world.says("inventory", "o-3", rejected).await;
    world.answered("loan", "o-3", json!({})).await;
    until(async || world.status(ACME, "o-3").await.body["ended_at"].is_string()).await;
    seen.check(VIEW, 200, &world.status(ACME, "o-3").await);
    let unknown = one_of_each(&world, "o-9", "S-9");
    for (operation, request) in &unknown[1..] {
        seen.check(*operation, 404, &world.send(request).await);
    }
    for (operation, request) in one_of_each(&world, "o-1", "S-1") {
        let now = world.clock.seconds();
        let unsigned = request.clone().without("webhook-id");
        let stale = request.clone().signed(ACME, "m", now - 301);
        let strange = request.clone().signed(OTHER, "m", now).with("makegood-account", "acme");
        for request in [unsigned, stale, strange] {
            seen.check(operation, 401, &world.send(&request).await);
        }
        if operation == VIEW {
            continue;
        }
        let key = if operation == SCAN { JADLOG } else { ACME };
        let with = |body: Vec<u8>| Request { body, ..request.clone() }.signed(key, "m", now);
        seen.check(operation, 400, &world.send(&with(b"{".to_vec())).await);
        seen.check(operation, 413, &world.send(&with(vec![b' '; MAX_BYTES + 1])).await);
        let plain = with(b"{}".to_vec()).with("content-type", "text/plain");
        seen.check(operation, 415, &world.send(&plain).await);
    }
    world.stop().await;
    trouble(&mut seen).await;
    let documented: BTreeSet<_> = operations(&seen.document)
        .into_iter()
        .filter(|((_, path), _)| path.starts_with("/v1/"))
        .flat_map(|((method, path), operation)| {
            let statuses = operation["responses"].as_object().expect("responses").keys();
            statuses.map(move |status| (method.clone(), path.clone(), status.clone()))
        })
        .collect();
    let not_made = NOT_MADE.map(|(m, p, s)| (m.to_owned(), p.to_owned(), s.to_owned()));
    let left: BTreeSet<_> = documented.difference(&seen.answers).cloned().collect();
    assert_eq!(left, BTreeSet::from(not_made), "documented and not seen");
}

/// What is answered in a world that is not well: too slow, too much, no database.
async fn trouble(seen: &mut Seen) {
    let world = World::with(|bounds| bounds.timeout = Duration::from_millis(300)).await;
    for (operation, request) in one_of_each(&world, "o-1", "S-1") {
        if operation == VIEW {
            continue;
        }
        let mut slow = TcpStream::connect(world.address).await.expect("it listens");
        slow.write_all(request.head().as_bytes()).await.expect("sent");
        seen.check(operation, 408, &crate::client::read(&mut slow).await);
    }
    world.is_away.store(true, Ordering::Relaxed);
    seen.check(PUSH, 503, &world.push(order("o-1").to_string()).await);
    until(async || world.telemetry.health.has_trouble(|part| part == "database")).await;
    seen.check(PUSH, 503, &world.push(order("o-2").to_string()).await);
    world.is_away.store(false, Ordering::Relaxed);
    world.stop().await;
    let world = World::with(|bounds| bounds.in_flight = 1).await;
    world.is_away.store(true, Ordering::Relaxed);
    let first = world.push_of("m-1", order("o-1").to_string());
    let address = world.address;
    let first = tokio::spawn(async move { first.send(address).await });
    until(async || world.telemetry.health.has_trouble(|part| part == "database")).await;
    for (operation, request) in one_of_each(&world, "o-2", "S-1") {
        seen.check(operation, 503, &world.send(&request).await);
    }
    world.is_away.store(false, Ordering::Relaxed);
    seen.check(PUSH, 201, &first.await.expect("it is answered"));
    world.stop().await;
}

/// Addresses and methods that are not there.
pub async fn what_is_not_there_is_told() {
    let world = World::new().await;
    let problem = strict("problem");
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/v1/orders/", 404),
        ("DELETE", "/v1/orders/o-1", 405),
        ("GET", "/v1/orders", 405),
    ] {
        let answer = world.send(&Request::new(method, path, "")).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_valid(&problem, &answer.body, path);
    }
    world.stop().await;
}

/// The other listener.
pub async fn health_is_documented() {
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let telemetry = Arc::new(Telemetry::new());
    let (stopper, stop) = shutdown();
    let served = tokio::spawn(serve(listener, telemetry.clone(), stop, None));
    let document = document();
    let check = async |path: &str, status: u16| {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
        let content = &document["paths"][path]["get"]["responses"][status.to_string()]["content"];
        let (kind, content) = content.as_object().expect("a body").iter().next().expect("one");
        assert!(head.contains(&format!("content-type: {kind}")), "{path}: {head}");
        let body = match kind.as_str() {
            "application/json" => serde_json::from_str(body).expect("JSON"),
            _ => json!(body),
        };
        assert_body(&content["schema"], &body, path);
    };
    telemetry.part("database", None);
    check("/healthz", 200).await;
    check("/metrics", 200).await;
    check("/readyz", 200).await;
    stopper.drain();
    check("/readyz", 503).await;
    served.abort();
}

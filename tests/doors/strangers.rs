//! Bad input and bad people: what each is told, and that nothing was written.

use std::time::Duration;

use makegood::http::{SIGNATURE, TIMESTAMP};
use makegood::store::Store;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Request, read};
use crate::world::{ACME, JADLOG, MAX_BYTES, OTHER, World, order, order_with, until};

/// Much longer than the bound in that case, and shorter than what a server does by itself.
const SOON: Duration = Duration::from_secs(10);

/// A key that acme has not got yet.
const FRESH: &str = "whsec_ZnJlc2hmcmVzaGZyZXNoZnJlc2hmcmVzaA==";

impl World {
    /// Nobody has got anything past the doors.
    async fn is_untouched(&self) {
        let counts = self.counts().await;
        assert_eq!(counts, makegood::store::Counts::default());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_signed_as_it_stands_is_refused() {
    let world = World::new().await;
    let body = order("o-1").to_string();
    let good = || world.push_of("m-1", body.clone());
    let bad = "/problems/bad-signature";
    let missing = "/problems/missing-signature";
    let stale = "/problems/stale-timestamp";
    let mut tampered = good();
    let place = body.find("5000").unwrap();
    tampered.body[place] = b'1';
    let mut longer = good();
    longer.body.push(b' ');
    let now = world.clock.seconds();
    let post = || Request::new("POST", "/v1/orders", body.clone());
    let at = |seconds: i64| post().signed(ACME, "m-1", now + seconds);
    let moved = |seconds: i64| good().with(TIMESTAMP, &(now + seconds).to_string());
    for (what, request, kind) in [
        ("a tampered byte", tampered, bad),
        ("a byte more", longer, bad),
        ("another id", good().with("webhook-id", "m-2"), bad),
        ("another time", moved(1), bad),
        ("another tenant's key", good().with("makegood-account", "other"), bad),
        (
            "its key under our name",
            post().signed(OTHER, "m-1", now).with("makegood-account", "acme"),
            bad,
        ),
        ("an account that nobody has", good().with("makegood-account", "nobody"), bad),
        ("a courier's key", post().signed(JADLOG, "m-1", now), bad),
        (
            "a key of nobody",
            post().signed("whsec_bm9ib2R5bm9ib2R5bm9ib2R5bm9ib2R5", "m-1", now),
            bad,
        ),
        ("an empty signature", good().with(SIGNATURE, "v1,"), bad),
        ("no signature", good().without(SIGNATURE), missing),
        ("no id", good().without("webhook-id"), missing),
        ("no time", good().without(TIMESTAMP), missing),
        ("a signature of another kind", good().with(SIGNATURE, "v2,AAAA"), missing),
        ("a time that is none", good().with(TIMESTAMP, "soon"), missing),
        ("an old time", at(-301), stale),
        ("a time to come", at(301), stale),
        ("a time at the end of time", at(0).with(TIMESTAMP, "9223372036854775807"), stale),
    ] {
        let answer = world.send(&request).await;
        assert_eq!((answer.status, &answer.body["type"]), (401, &json!(kind)), "{what}");
        assert!(answer.head.contains("www-authenticate"), "{what}");
        let said = answer.body.to_string();
        assert!(!said.contains("whsec") && !said.contains("o-1"), "{what}: {said}");
    }
    world.is_untouched().await;
    // Both clocks may be a little off.
    world.send(&at(-290)).await.is(201);
    world.send(&at(290)).await.is(200);
    world.send(&at(0).with("makegood-account", "acme")).await.is(200);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_replaced_without_a_restart() {
    let world = World::new().await;
    let signed = |key: &str| {
        let request = Request::new("POST", "/v1/orders", order("o-1").to_string());
        request.signed(key, "m-1", world.clock.seconds())
    };
    world.send(&signed(FRESH)).await.is_problem(401, "/problems/bad-signature");
    let path = world.accounts();
    let file = std::fs::read_to_string(&path).unwrap();
    // One that is bad changes nothing.
    std::fs::write(&path, file.replace(ACME, "whsec_")).unwrap();
    world.send(&signed(ACME)).await.is(201);
    std::fs::write(&path, file.replace(ACME, FRESH)).unwrap();
    until(async || world.send(&signed(FRESH)).await.status == 200).await;
    world.send(&signed(ACME)).await.is_problem(401, "/problems/bad-signature");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_gets_the_same_receipt_while_it_is_fresh_and_nothing_later() {
    let world = World::new().await;
    let seen = world.push_of("m-1", order("o-1").to_string());
    let first = world.send(&seen).await;
    world.clock.advance(299);
    let replayed = world.send(&seen).await;
    assert_eq!((replayed.status, &replayed.body), (200, &first.is(201).body));
    world.clock.advance(2);
    world.send(&seen).await.is_problem(401, "/problems/stale-timestamp");
    assert_eq!((world.written().await, world.saga("o-1").await.version), ((1, 0), 1));
    // A request that was seen is no other request: not for another address, nor another order.
    let mut cancelling = world.push_of("m-2", order("o-1").to_string());
    cancelling.path = "/v1/orders/o-1/cancel".to_owned();
    world.send(&cancelling).await.is_problem(400, "/problems/malformed");
    let asked = Request::new("GET", "/v1/orders/o-1", "");
    let mut asked = asked.signed(ACME, "m-3", world.clock.seconds());
    (asked.method, asked.path) = ("POST", "/v1/orders/o-1/cancel".to_owned());
    world.send(&asked).await.is_problem(400, "/problems/malformed");
    assert_eq!(world.saga("o-1").await.version, 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_cannot_be_worked_with_is_told_what_is_wrong() {
    let world = World::new().await;
    let text = order("o-1").to_string();
    let within = |more: &str| text.replacen('{', &format!("{{{more},"), 1).into_bytes();
    let deep = |levels: usize| format!("\"x\":{}{}", "[".repeat(levels), "]".repeat(levels));
    let malformed = (400, "/problems/malformed");
    let invalid = (422, "/problems/invalid-order");
    let cases: Vec<(&str, Vec<u8>, (u16, &str))> = vec![
        ("nothing", Vec::new(), malformed),
        ("half", text.as_bytes()[..40].to_vec(), malformed),
        ("two", format!("{text}{text}").into_bytes(), malformed),
        ("a list", b"[]".to_vec(), invalid),
        ("an empty object", b"{}".to_vec(), invalid),
        ("no UTF-8", [b"{\"x\":\"\xff\xfe\"}".as_slice()].concat(), malformed),
        ("deep", within(&deep(200)), malformed),
        ("very deep", within(&deep(20_000)), malformed),
        ("a field twice", within("\"currency\":\"USD\""), malformed),
        ("a tenant twice", within("\"tenant_id\":\"acme\",\"tenant_id\":\"other\""), malformed),
        (
            "a tenant spelled twice",
            within("\"tenant_id\":\"acme\",\"tenant\\u005fid\":\"other\""),
            malformed,
        ),
        ("a number beyond all", within("\"x\":1e999"), malformed),
        ("a large number", within("\"x_minor\":99999999999999999999"), invalid),
        ("a fraction of a cent", within("\"x_minor\":0.5"), invalid),
        ("no tenant", within("\"tenant_id\":7"), invalid),
        ("no order id", order_with("", |_| {}), invalid),
        ("a control character", order_with("o\u{0}1", |_| {}), invalid),
        ("a long id", order_with(&"o".repeat(129), |_| {}), invalid),
        ("no lines", order_with("o-1", |order| order["lines"] = json!([])), invalid),
        (
            "a card",
            order_with("o-1", |order| order["note"] = json!("4111 1111 1111 1111")),
            (422, "/problems/card-data"),
        ),
    ];
    for (what, body, (status, kind)) in cases {
        let answer = world.push(body).await;
        assert_eq!(
            (answer.status, &answer.body["type"]),
            (status, &json!(kind)),
            "{what}: {answer:?}"
        );
        let said = answer.body.to_string();
        assert!(!said.contains("4111") && !said.contains("o-1"), "{what}: {said}");
    }
    let named = world.push(order_with("o-1", |o| o["lines"][0]["quantity"] = json!(0))).await;
    assert_eq!(named.body["field"], "lines[0].quantity");
    let typed = world.push_of("m-1", text.clone());
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx"] {
        let answer = world.send(&typed.clone().with("content-type", kind)).await;
        answer.is_problem(415, "/problems/unsupported-media-type");
    }
    let none = world.send(&typed.clone().without("content-type")).await;
    none.is_problem(415, "/problems/unsupported-media-type");
    world.is_untouched().await;
    let charset = typed.with("content-type", "application/json; charset=utf-8");
    world.send(&charset).await.is(201);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_told_so_however_it_is_sent() {
    let world = World::new().await;
    let large = order_with("o-1", |order| order["x"] = json!("x".repeat(10 * 1024 * 1024)));
    world.push(large.clone()).await.is_problem(413, "/problems/too-large");
    // Without saying beforehand how much it is.
    let request = world.push_of("m-1", large.clone());
    let head = request
        .head()
        .replace(&format!("content-length: {}", large.len()), "transfer-encoding: chunked");
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    for chunk in large.chunks(64 * 1024) {
        stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await.unwrap();
        stream.write_all(chunk).await.unwrap();
        stream.write_all(b"\r\n").await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    read(&mut stream).await.is_problem(413, "/problems/too-large");
    let just = order_with("o-1", |order| order["x"] = json!("x".repeat(MAX_BYTES - 400)));
    assert!(just.len() <= MAX_BYTES);
    world.is_untouched().await;
    world.push(just).await.is(201);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_here_or_cannot_be_done_here_is_told_so() {
    let world = World::new().await;
    for (method, path, status, kind) in [
        ("GET", "/", 404, "/problems/not-found"),
        ("GET", "/metrics", 404, "/problems/not-found"),
        ("GET", "/readyz", 404, "/problems/not-found"),
        ("POST", "/v1/order", 404, "/problems/not-found"),
        ("POST", "/v1/orders/", 404, "/problems/not-found"),
        ("DELETE", "/v1/orders", 405, "/problems/method-not-allowed"),
        ("PUT", "/v1/orders/o-1", 405, "/problems/method-not-allowed"),
        ("GET", "/v1/orders/o-1/cancel", 405, "/problems/method-not-allowed"),
        ("GET", "/v1/shipments/S-1/status", 405, "/problems/method-not-allowed"),
    ] {
        let request = Request::new(method, path, "{}");
        let answer = world.send(&request).await;
        answer.is_problem(status, kind);
        assert_eq!(answer.head.contains("allow: "), status == 405, "{answer:?}");
    }
    for path in ["/v1/orders/%ff", "/v1/orders/%00", &format!("/v1/orders/{}", "x".repeat(129))] {
        let request = Request::new("GET", path, "").signed(ACME, "m-1", world.clock.seconds());
        world.send(&request).await.is_problem(404, "/problems/not-found");
    }
    world.is_untouched().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_are_cut_off_and_hold_up_nobody() {
    let world = World::with(|bounds| bounds.timeout = Duration::from_millis(300)).await;
    let connect = async || TcpStream::connect(world.address).await.unwrap();
    // Says nothing; says half of a head, and no more; keeps a connection after its answer.
    let mut silent = connect().await;
    let mut slow = connect().await;
    slow.write_all(b"POST /v1/orders HTTP/1.1\r\nhost: x\r\nwebhook-id: ").await.unwrap();
    let mut idle = connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    // Sends a head, and a part of the body.
    let request = world.push_of("m-1", order("o-1").to_string());
    let mut half = connect().await;
    half.write_all(request.head().as_bytes()).await.unwrap();
    half.write_all(&request.body[..10]).await.unwrap();
    world.push(order("o-2").to_string()).await.is(201);
    read(&mut half).await.is_problem(408, "/problems/request-timeout");
    for (what, stream) in [("silent", &mut silent), ("slow", &mut slow), ("idle", &mut idle)] {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{what} is still connected");
    }
    // One that goes away in the middle leaves nothing behind.
    let mut gone = connect().await;
    gone.write_all(request.head().as_bytes()).await.unwrap();
    gone.write_all(&request.body[..10]).await.unwrap();
    drop(gone);
    assert_eq!(world.written().await, (1, 0));
    assert!(world.store.find("o-1", None).await.unwrap().is_empty());
    world.stop().await;
}

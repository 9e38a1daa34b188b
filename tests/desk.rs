//! The operators' API: who is let in, what a verb answers, and that it is the same as on the
//! command line.

#[allow(dead_code)] // the doors' suite uses the rest of it
#[path = "doors/client.rs"]
mod client;
mod command;

use std::net::SocketAddr;
use std::sync::Arc;

use makegood::clock::SystemClock;
use makegood::http::{self, Desk, Operators, token_hash};
use makegood::operate::Policy;
use makegood::store::Store;
use makegood::store::sqlite::{Durability, SqliteStore};
use makegood::telemetry::Telemetry;
use serde_json::json;
use uuid::Uuid;

use client::{Answer, Request};
use command::{Place, order};

/// A folder with an order whose delivery failed, and the API over it.
struct Office {
    address: SocketAddr,
    store: Arc<dyn Store>,
    _place: Place,
}

async fn office() -> Office {
    let place = Place::new();
    place.orders("orders.ndjson", &[order("o-failed", &json!({ "deliver": "failed" }))]);
    place.makegood(&["dev", "--orders", "orders.ndjson", "--until", "quiet"]).exits(0);
    let entry = |name: &str, may: &str| {
        let hash = token_hash(&format!("{name}-token"));
        format!("[[operator]]\nname = '{name}'\ntokens = ['{hash}']\nmay = '{may}'\n")
    };
    let file = [entry("ana", "act"), entry("bo", "act"), entry("cy", "look")].concat();
    place.write("operators.toml", file);
    let clock = Arc::new(SystemClock::default());
    let database = place.path(".makegood/makegood.db");
    let store = SqliteStore::open(&database, clock, Durability::ProcessCrash).await;
    let store: Arc<dyn Store> = Arc::new(store.expect("opened"));
    let desk = Desk {
        store: store.clone(),
        source: "/makegood/test".to_owned(),
        policy: Policy::parse("abandon").expect("a policy"),
        operators: Operators::open(&place.path("operators.toml")).expect("a good file"),
    };
    let listener = http::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (_, shutdown) = makegood::worker::shutdown();
    tokio::spawn(http::serve(listener, Arc::new(Telemetry::new()), shutdown, Some(desk)));
    Office { address, store, _place: place }
}

impl Office {
    async fn ask(&self, who: &str, method: &'static str, path: &str, body: &str) -> Answer {
        let request = Request::new(method, path, body)
            .with("authorization", &format!("Bearer {who}-token"))
            .with("idempotency-key", &Uuid::new_v4().to_string());
        request.send(self.address).await
    }

    async fn verb(&self, who: &str, body: serde_json::Value) -> Answer {
        self.ask(who, "POST", "/api/v1/orders/o-failed/verbs", &body.to_string()).await
    }

    async fn deeds(&self) -> usize {
        let saga = self.store.find("o-failed", None).await.expect("found")[0].saga.id;
        self.store.deeds(saga).await.expect("read").len()
    }
}

#[tokio::test]
async fn only_operators_are_let_in_and_only_some_may_act() {
    let office = office().await;
    let nobody = Request::new("GET", "/api/v1/orders", "").send(office.address).await;
    assert_eq!((nobody.status, &nobody.body["type"]), (401, &json!("/problems/unauthenticated")));
    assert!(nobody.head.contains("www-authenticate: bearer"), "{}", nobody.head);
    assert_eq!(office.ask("eve", "GET", "/api/v1/orders", "").await.status, 401);
    assert_eq!(office.ask("cy", "GET", "/api/v1/orders", "").await.status, 200);
    let refused = office.verb("cy", json!({ "verb": "hold", "reason": "r" })).await;
    assert_eq!((refused.status, &refused.body["type"]), (403, &json!("/problems/may-not-act")));
    assert_eq!(office.deeds().await, 0);
}

#[tokio::test]
async fn an_order_is_found_and_shown() {
    let office = office().await;
    let listed = office.ask("cy", "GET", "/api/v1/orders?attention=true&limit=5", "").await;
    assert_eq!(listed.body["orders"][0]["order_id"], "o-failed");
    let shown = office.ask("cy", "GET", "/api/v1/orders/o-failed?tenant=acme", "").await;
    assert_eq!(shown.body[0]["saga"]["attention"][0]["code"], "FAILED_PAST_PIVOT");
    assert_eq!(shown.body[0]["timeline"][0]["happened"], "the order is paid");
    let possible = shown.body[0]["saga"]["possible"].as_array().expect("a list").clone();
    assert!(possible.iter().any(|verb| verb["verb"] == "retry deliver"), "{possible:?}");
    let unknown = office.ask("cy", "GET", "/api/v1/orders/o-none", "").await;
    assert_eq!((unknown.status, &unknown.body["type"]), (404, &json!("/problems/no-such-order")));
    assert_eq!(office.ask("cy", "GET", "/api/v1/orders?status=odd", "").await.status, 400);
}

#[tokio::test]
async fn a_verb_is_done_once_under_its_key_and_in_the_name_of_its_token() {
    let office = office().await;
    let resolve = json!({ "verb": "resolve", "step": "deliver", "as": "success",
                          "reason": "the customer has it" });
    let path = "/api/v1/orders/o-failed/verbs";
    let rehearsed =
        office.ask("ana", "POST", &format!("{path}?dry_run=true"), &resolve.to_string()).await;
    assert_eq!(rehearsed.body[0]["result"], "would-be-done");
    assert_eq!(rehearsed.body[0]["commands"], json!(["loan.activate"]));
    assert_eq!(office.deeds().await, 0);
    let request = Request::new("POST", path, resolve.to_string())
        .with("authorization", "Bearer ana-token")
        .with("idempotency-key", "1b671a64-40d5-491e-99b0-da01ff1f3341");
    let done = request.send(office.address).await;
    assert_eq!((done.status, &done.body[0]["result"]), (200, &json!("done")));
    let again = request.send(office.address).await;
    assert_eq!((again.status, &again.body[0]["result"]), (200, &json!("done-before")));
    let saga = office.store.find("o-failed", None).await.expect("found")[0].saga.id;
    let deeds = office.store.deeds(saga).await.expect("read");
    assert_eq!((deeds.len(), deeds[0].deed.actor.as_str()), (1, "ana"));
    let keyless = request.without("idempotency-key").send(office.address).await;
    assert_eq!(keyless.status, 400);
}

#[tokio::test]
async fn what_cannot_be_done_says_what_can() {
    let office = office().await;
    let skip = office.verb("ana", json!({ "verb": "skip", "step": "pick", "reason": "r" })).await;
    assert_eq!((skip.status, &skip.body[0]["result"]), (409, &json!("illegal")));
    let legal = skip.body[0]["legal"].as_array().expect("a list");
    assert!(legal.contains(&json!("resolve deliver as success")), "{legal:?}");
    for (body, words) in [
        (json!({ "verb": "hold" }), "`reason`"),
        (json!({ "verb": "explode", "reason": "r" }), "explode"),
        (json!({ "verb": "skip", "step": "pack", "reason": "r" }), "financed, reserve"),
        (json!({ "verb": "hold", "stop": 1, "reason": "r" }), "stop"),
    ] {
        let refused = office.verb("ana", body.clone()).await;
        assert_eq!(refused.status, 400, "{body}");
        let detail = refused.body["detail"].as_str().expect("a text");
        assert!(detail.contains(words), "{body}: {detail}");
    }
    let large = vec![b' '; 70 * 1024];
    let large = Request::new("POST", "/api/v1/orders/o-failed/verbs", large)
        .with("authorization", "Bearer ana-token");
    assert_eq!(large.send(office.address).await.status, 413);
    assert_eq!(office.deeds().await, 0);
}

#[tokio::test]
async fn a_second_person_agrees() {
    let office = office().await;
    let asked = office.verb("ana", json!({ "verb": "abandon", "reason": "lost" })).await;
    assert_eq!(asked.status, 202, "{}", asked.body);
    let id = asked.body["request"]["id"].as_str().expect("an id").to_owned();
    let waiting = office.ask("bo", "GET", "/api/v1/requests", "").await;
    assert_eq!(waiting.body[0]["actor"], "ana");
    let approve = format!("/api/v1/requests/{id}/approve");
    assert_eq!(office.ask("ana", "POST", &approve, "").await.status, 403);
    assert_eq!(office.ask("cy", "POST", &approve, "").await.status, 403);
    let done = office.ask("bo", "POST", &approve, "").await;
    assert_eq!((done.status, &done.body[0]["status"]), (200, &json!("abandoned")));
    assert_eq!(office.ask("bo", "POST", &approve, "").await.status, 404);
    let gone = office.ask("bo", "DELETE", &format!("/api/v1/requests/{id}"), "").await;
    assert_eq!(gone.status, 404);
}

//! A server that others use, that goes away, and comes back.

use std::sync::Arc;
use std::time::Duration;

use makegood::saga::Status;
use makegood::store::postgres::{PostgresOptions, PostgresStore};
use makegood::store::{Change, OrderRow, Store, StoreError, Written};
use sqlx::{Connection, Executor};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::place::{CONNECTIONS, Place};
use crate::samples::*;

/// How long a planned fault may take to bite.
const BITES_WITHIN: Duration = Duration::from_secs(20);

pub async fn a_row_that_commits_late_is_still_found(place: Place) {
    let store = place.store().await;
    let sagas = write_starts(&*store, &["1", "2"]).await;
    let mut slow = place.connection().await;
    let mut transaction = slow.begin().await.unwrap();
    // Version 0 sorts before everything, and its claim ended long ago.
    sqlx::query(
        "INSERT INTO outbox (saga_id, version, number, claimed_until, channel, message)
         VALUES ($1, 0, 0, 0, 'events', '')",
    )
    .bind(sagas[0].0)
    .execute(&mut *transaction)
    .await
    .unwrap();
    assert_eq!(store.claim_outbox(NOW, later(30), 10).await.unwrap().len(), 2);
    transaction.commit().await.unwrap();
    let late = store.claim_outbox(NOW, later(30), 10).await.unwrap();
    assert_eq!(late.len(), 1);
    assert_eq!(late[0].key, message(sagas[0], 0, 0).key);
}

/// A plan for the one row that the statistics promise would read all rows for each key.
pub async fn an_outbox_that_was_empty_when_last_counted_is_still_read_by_key(place: Place) {
    let store = place.store().await;
    let mut other = place.connection().await;
    let sagas = write_starts(&*store, &["1"]).await;
    store.delete_outbox(&[(message(sagas[0], 1, 0).key, NOW)]).await.unwrap();
    other.execute("VACUUM ANALYZE outbox").await.unwrap();
    let orders: Vec<String> = (2..302).map(|number| number.to_string()).collect();
    let orders: Vec<&str> = orders.iter().map(String::as_str).collect();
    let sagas = write_starts(&*store, &orders).await;
    let rows: Vec<_> = sagas.iter().map(|saga| (message(*saga, 1, 0).key, NOW)).collect();
    store.delete_outbox(&rows).await.unwrap();
    store.close().await; // a connection hands in its statistics at its end
    let by_key = async {
        let sql = "SELECT idx_scan FROM pg_stat_user_indexes
                   WHERE indexrelid = 'outbox_pkey'::regclass";
        while sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut other).await.unwrap() < 300 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(BITES_WITHIN, by_key).await.expect("a lookup for each row");
}

/// A worker that wrote an order has it at hand; one that did not, and one whose saga has ended,
/// asks for it. All of them see the same.
pub async fn an_order_at_hand_is_the_one_that_is_stored(place: Place) {
    let (ours, others) = (place.store().await, place.store().await);
    let sagas = write_starts(&*ours, &["1", "2"]).await;
    let same = async || {
        let (mut ours, mut theirs) =
            (ours.load(&sagas).await.unwrap(), others.load(&sagas).await.unwrap());
        ours.sort_unstable_by_key(|stored| stored.saga.id);
        theirs.sort_unstable_by_key(|stored| stored.saga.id);
        assert_eq!(ours, theirs);
        theirs
    };
    let stored = same().await;
    assert!(stored.iter().any(|stored| stored.order == order(TENANT, "2")));
    let mut end = step(&stored[0]);
    end.saga.status = Status::Completed;
    assert_eq!(ours.commit(&[end]).await.unwrap(), [Written::Committed]);
    same().await;
    // Somebody else's order under this id would not be taken for ours: it never was stored.
    let mut lost = start("1");
    lost.order =
        Some(Arc::new(OrderRow { payload: b"{}".to_vec(), ..(*order(TENANT, "1")).clone() }));
    assert_eq!(ours.commit(&[lost]).await.unwrap(), [Written::LostRace]);
    same().await;
}

pub async fn a_database_that_is_away_is_unavailable(_place: Place) {
    // A port that was free a moment ago: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://postgres:hunter2@127.0.0.1:{port}/postgres");
    let away = PostgresOptions { url: url.into(), max_connections: 1 };
    let Err(error) = PostgresStore::connect(away).await else { panic!("somebody answered") };
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    assert!(!format!("{error:?} {error}").contains("hunter2"));
}

pub async fn killed_connections_are_replaced(place: Place) {
    let store = place.store().await;
    let saga = write_starts(&*store, &["1"]).await[0];
    let change = step(&load_one(&*store, saga).await);
    let mut other = place.connection().await;
    let mut blocking = other.begin().await.unwrap();
    blocking.execute("LOCK TABLE saga IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let committing = tokio::spawn({
        let store = store.clone();
        async move { store.commit(&[change]).await }
    });
    kill_who_waits(&place).await;
    let cut = committing.await.unwrap();
    assert!(matches!(cut, Err(StoreError::Unavailable { .. })), "{cut:?}");
    blocking.rollback().await.unwrap();

    // Idle ones are gone as well. Each may be noticed only by its next user, and only once.
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1";
    sqlx::query(kill).bind(place.schema()).execute(&mut other).await.unwrap();
    let mut failures = 0;
    let stored = loop {
        match store.load(&[saga]).await {
            Ok(mut stored) => break stored.remove(0),
            Err(error) => assert!(error.is_transient(), "{error:?}"),
        }
        failures += 1;
        assert!(failures <= CONNECTIONS);
    };
    assert_eq!(stored.version, 1);
    write(&*store, step(&stored)).await;
}

pub async fn a_migration_killed_half_way_leaves_nothing(place: Place) {
    let store = place.open().await;
    // The last table is being made by somebody else, and the migration waits for that.
    let mut other = place.connection().await;
    let mut blocking = other.begin().await.unwrap();
    blocking.execute("CREATE TABLE operator_audit ()").await.unwrap();
    let migrating = tokio::spawn({
        let store = store.clone();
        async move { store.migrate().await }
    });
    kill_who_waits(&place).await;
    assert!(matches!(migrating.await.unwrap(), Err(StoreError::Unavailable { .. })));
    blocking.rollback().await.unwrap();
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_tables WHERE schemaname = $1")
        .bind(place.schema())
        .fetch_one(&mut other)
        .await
        .unwrap();
    assert_eq!(tables, 0);
    store.migrate().await.unwrap();
    store.check().await.unwrap();
}

pub async fn tables_of_a_later_version_blame_no_row(place: Place) {
    let store = place.store().await;
    let saga = write_starts(&*store, &["1"]).await[0];
    let next = step(&load_one(&*store, saga).await);
    let mut other = place.connection().await;
    other.execute("ALTER TABLE saga ADD COLUMN shard int NOT NULL DEFAULT 0").await.unwrap();
    other.execute("ALTER TABLE saga ALTER COLUMN shard DROP DEFAULT").await.unwrap();
    let missing = store.commit(&[start("2")]).await;
    assert!(matches!(missing, Err(StoreError::NotMigrated)), "{missing:?}");
    write(&*store, next).await; // an update needs no value for it
    other.execute("ALTER TABLE saga ALTER COLUMN due TYPE text").await.unwrap();
    let _ = store.load(&[saga]).await; // a connection that planned for the old type is dropped
    let retyped = store.load(&[saga]).await;
    assert!(matches!(retyped, Err(StoreError::NotMigrated)), "{retyped:?}");
}

pub async fn a_locked_row_is_not_waited_for_without_end(place: Place) {
    let store = place.store().await;
    let sagas = write_starts(&*store, &["1", "2"]).await;
    let locked = step(&load_one(&*store, sagas[0]).await);
    let mut other = place.connection().await;
    let mut blocking = other.begin().await.unwrap();
    sqlx::query("SELECT FROM saga WHERE saga_id = $1 FOR UPDATE")
        .bind(sagas[0].0)
        .execute(&mut *blocking)
        .await
        .unwrap();
    let batch = [locked.clone()];
    let (waited, ()) = tokio::join!(store.commit(&batch), async {
        write(&*store, step(&load_one(&*store, sagas[1]).await)).await;
        assert!(store.claim_due(later(60), later(90), 10).await.unwrap() == [sagas[1]]);
    });
    assert!(matches!(waited, Err(StoreError::Blocked { .. })), "{waited:?}");
    blocking.rollback().await.unwrap();
    write(&*store, locked).await;
}

pub async fn a_batch_that_dies_of_a_deadlock_is_sent_again(place: Place) {
    let store = place.store().await;
    let mut sagas = write_starts(&*store, &["1", "2"]).await;
    sagas.sort_unstable();
    let stored = store.load(&sagas).await.unwrap();
    let batch: Vec<Change> = stored.iter().map(step).collect();
    let touch = "UPDATE saga SET due = due WHERE saga_id = $1";
    let mut other = place.connection().await;
    let mut opposed = other.begin().await.unwrap();
    // Whoever looks for deadlocks first dies of them: not this one.
    opposed.execute("SET LOCAL deadlock_timeout = '1min'").await.unwrap();
    sqlx::query(touch).bind(sagas[1].0).execute(&mut *opposed).await.unwrap();
    let committing = tokio::spawn({
        let store = store.clone();
        async move { store.commit(&batch).await }
    });
    wait_for_waiting(&place).await;
    sqlx::query(touch).bind(sagas[0].0).execute(&mut *opposed).await.unwrap();
    opposed.commit().await.unwrap();
    assert_eq!(committing.await.unwrap().unwrap(), [Written::Committed; 2]);
}

pub async fn a_read_only_database_is_unavailable(place: Place) {
    place.store().await;
    let url = format!("{}&options[default_transaction_read_only]=on", place.url());
    let demoted = PostgresOptions { url: url.into(), max_connections: 1 };
    let store = PostgresStore::connect(demoted).await.unwrap();
    store.check().await.unwrap();
    let refused = store.commit(&[start("1")]).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
}

pub async fn the_password_is_never_printed(_place: Place) {
    let secret = |url: &str| PostgresOptions { url: url.into(), max_connections: 1 };
    let options = secret("postgres://postgres:hunter2@localhost/postgres");
    assert!(!format!("{options:?}").contains("hunter2"));
    let malformed = PostgresStore::connect(secret("postgres://postgres:hunter2@[/x")).await;
    let Err(error) = malformed else { panic!("that is no URL") };
    assert!(matches!(error, StoreError::Rejected { .. }), "{error:?}");
    assert!(!format!("{error:?} {error}").contains("hunter2"));
}

pub async fn cancelled_commits_leave_no_transaction_open(place: Place) {
    let store = place.store().await;
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for round in 0..100 {
        let batch = [start(&round.to_string())];
        let within = Duration::from_micros(rng.u64(0..3_000));
        let _ = tokio::time::timeout(within, store.commit(&batch)).await;
    }
    let mut other = place.connection().await;
    let open = "SELECT count(*) FROM pg_stat_activity
        WHERE application_name = $1 AND state LIKE 'idle in transaction%'";
    let open: i64 =
        sqlx::query_scalar(open).bind(place.schema()).fetch_one(&mut other).await.unwrap();
    assert_eq!(open, 0);
    write(&*store, start("last")).await;
}

pub async fn a_server_that_falls_silent_does_not_use_up_the_pool(place: Place) {
    place.store().await;
    let address = place.connect_options();
    let wire = Wire::to(address.get_host(), address.get_port()).await;
    let real = format!("{}:{}", address.get_host(), address.get_port());
    let url = place.url().replace(&real, &format!("127.0.0.1:{}", wire.port));
    assert!(url.contains(&wire.port.to_string()), "the server's URL names no host and port");
    let options = PostgresOptions { url: url.into(), max_connections: 1 };
    let store = PostgresStore::connect(options).await.unwrap();
    store.check().await.unwrap();

    wire.silence();
    let unheard = store.check().await;
    assert!(matches!(unheard, Err(StoreError::Blocked { .. })), "{unheard:?}");
    // The old connection hangs for ever; its place in the pool of one must be free again.
    store.check().await.unwrap();
}

/// A wire to the server that can fall silent: then what runs over it hangs, both ways, while
/// new connections are good.
struct Wire {
    port: u16,
    silenced: Arc<Notify>,
}

impl Wire {
    async fn to(host: &str, port: u16) -> Wire {
        let server = (host.to_owned(), port);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let silenced = Arc::new(Notify::new());
        let silence = silenced.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut upstream = TcpStream::connect(server.clone()).await.unwrap();
                let silence = silence.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut upstream) => {}
                        () = silence.notified() => std::future::pending().await,
                    }
                });
            }
        });
        Wire { port, silenced }
    }

    /// Those that are connected now hear nothing any more.
    fn silence(&self) {
        self.silenced.notify_waiters();
    }
}

/// Waits until a connection of the case's store waits for a lock, and ends it.
async fn kill_who_waits(place: &Place) {
    let pid = wait_for_waiting(place).await;
    let mut connection = place.connection().await;
    let kill = sqlx::query("SELECT pg_terminate_backend($1)");
    kill.bind(pid).execute(&mut connection).await.unwrap();
}

/// Waits until a connection of the case's store waits for a lock; its process id.
async fn wait_for_waiting(place: &Place) -> i32 {
    let mut connection = place.connection().await;
    let waiting = "SELECT pid FROM pg_stat_activity
        WHERE application_name = $1 AND wait_event_type = 'Lock'";
    let found = async {
        loop {
            let found: Option<i32> = sqlx::query_scalar(waiting)
                .bind(place.schema())
                .fetch_optional(&mut connection)
                .await
                .unwrap();
            match found {
                Some(pid) => return pid,
                None => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(BITES_WITHIN, found).await.expect("nobody waits")
}

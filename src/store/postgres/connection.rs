//! Connections to PostgreSQL, and every bound on the time spent with one.
//!
//! A connection is used again only after its last answer was heard to the end: where a call
//! was cancelled, timed out or failed, the connection is dropped. So nobody ever inherits half
//! a conversation, and one that hangs (a cut cable, a frozen server) cannot use up the pool.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::pool::{PoolConnection, PoolConnectionMetadata};
use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgRow};
use sqlx::query::{Query, QueryAs};
use sqlx::{ConnectOptions, Connection, Executor, FromRow, Postgres};
use tokio::time::timeout;

use super::error::explain;
use crate::store::StoreError;

/// Server side. A batch of hundreds takes milliseconds; what takes this long is stuck.
const STATEMENT_TIMEOUT: &str = "10s";
/// Server side. Shorter than the statement's, so that the error tells the cause.
const LOCK_TIMEOUT: &str = "5s";
/// Server side. Only a migration has a transaction, and it never sits idle for long.
const IDLE_IN_TRANSACTION_TIMEOUT: &str = "30s";
/// Server side, seconds: how soon the server notices that a worker's machine is gone.
const SERVER_KEEPALIVE_IDLE_SECONDS: &str = "30";
/// Our side: longer than the server's, for a server that is frozen or out of reach.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a call waits for a free connection, or for a new one to be made.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that was idle longer than this is asked whether it is alive before its use;
/// in a busy worker none is, and no round trip is spent.
const TRUSTED_IDLE: Duration = Duration::from_secs(5);
/// How long that may take.
const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// No bigger than the number of different statements needs to be.
const STATEMENT_CACHE: usize = 64;

pub(super) struct Connections {
    pool: PgPool,
}

impl Connections {
    /// A pool that connects when it is first used.
    pub(super) fn new(options: PgConnectOptions, max_connections: u32) -> Connections {
        let pool = PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move { Ok(alive(connection, meta).await) })
            })
            .connect_lazy_with(options);
        Connections { pool }
    }

    /// Runs one statement and takes its rows.
    pub(super) async fn rows<Row>(
        &self,
        during: &'static str,
        query: QueryAs<'_, Postgres, Row, PgArguments>,
    ) -> Result<Vec<Row>, StoreError>
    where
        Row: Send + Unpin + for<'r> FromRow<'r, PgRow>,
    {
        let mut lease = self.lease(during).await?;
        let rows = in_time(during, query.fetch_all(lease.connection())).await?;
        lease.heard_out();
        Ok(rows)
    }

    /// Runs one statement and returns how many rows it touched.
    pub(super) async fn execute(
        &self,
        during: &'static str,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<u64, StoreError> {
        let mut lease = self.lease(during).await?;
        let done = in_time(during, query.execute(lease.connection())).await?;
        lease.heard_out();
        Ok(done.rows_affected())
    }

    /// Runs several statements in one message, which the server makes one transaction, and
    /// takes all their rows.
    pub(super) async fn script<Row>(
        &self,
        during: &'static str,
        sql: &'static str,
    ) -> Result<Vec<Row>, StoreError>
    where
        Row: for<'r> FromRow<'r, PgRow>,
    {
        let mut lease = self.lease(during).await?;
        let rows = in_time(during, lease.connection().fetch_all(sqlx::raw_sql(sql))).await?;
        lease.heard_out();
        rows.iter().map(Row::from_row).collect::<Result<_, _>>().map_err(|e| explain(during, e))
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    async fn lease(&self, during: &'static str) -> Result<Lease, StoreError> {
        let connection = self.pool.acquire().await.map_err(|error| explain(during, error))?;
        Ok(Lease(Some(connection)))
    }
}

/// What every connection is told at its start.
///
/// # Errors
/// [`StoreError::Rejected`]: the URL is none.
pub(super) fn options(url: &SecretString) -> Result<PgConnectOptions, StoreError> {
    let options: PgConnectOptions =
        url.expose_secret().parse().map_err(|error| explain("reading the database url", error))?;
    let name = options.get_application_name().unwrap_or("makegood").to_owned();
    Ok(options
        .application_name(&name)
        .statement_cache_capacity(STATEMENT_CACHE)
        .disable_statement_logging()
        .options([
            ("statement_timeout", STATEMENT_TIMEOUT),
            ("lock_timeout", LOCK_TIMEOUT),
            ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_TIMEOUT),
            ("tcp_keepalives_idle", SERVER_KEEPALIVE_IDLE_SECONDS),
            // A plan made while the tables were empty must not outlive that: plan each batch
            // for its size. And always by index: then rows are locked in the order of the
            // array, which is sorted, and two batches cannot deadlock.
            ("plan_cache_mode", "force_custom_plan"),
            ("enable_seqscan", "off"),
            ("enable_bitmapscan", "off"),
            ("jit", "off"),
        ]))
}

/// A connection outside the pool.
pub(super) async fn separate(options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    let during = "connecting";
    timeout(CONNECT_TIMEOUT, PgConnection::connect_with(options))
        .await
        .map_err(|late| StoreError::Unavailable { during, source: late.into() })?
        .map_err(|error| explain(during, error))
}

async fn in_time<T>(
    during: &'static str,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    match timeout(ANSWER_TIMEOUT, answer).await {
        Ok(answer) => answer.map_err(|error| explain(during, error)),
        Err(late) => Err(StoreError::Unavailable { during, source: late.into() }),
    }
}

async fn alive(connection: &mut PgConnection, meta: PoolConnectionMetadata) -> bool {
    meta.idle_for < TRUSTED_IDLE
        || matches!(timeout(PING_TIMEOUT, connection.ping()).await, Ok(Ok(())))
}

/// The use of a connection for one call. Dropped before it was heard out, it is thrown away.
struct Lease(Option<PoolConnection<Postgres>>);

impl Lease {
    fn connection(&mut self) -> &mut PgConnection {
        self.0.as_mut().expect("it is there until the lease ends")
    }

    /// The answer is complete: the connection goes back to the pool.
    fn heard_out(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

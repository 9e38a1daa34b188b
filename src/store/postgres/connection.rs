//! Connections to PostgreSQL, and every bound on the time spent with one.
//!
//! A connection is used again only after its last answer was heard to the end: where a call
//! was cancelled, timed out or failed, the connection is dropped. So nobody ever inherits half
//! a conversation, and one that hangs (a cut cable, a frozen server) cannot use up the pool.
//! sqlx's own pool does not hold that: it asks every connection that comes back for a sign of
//! life, without a bound, which also costs a round trip for each call.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgRow};
use sqlx::query::{Query, QueryAs};
use sqlx::{ConnectOptions, Connection, Executor, FromRow, Postgres};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

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
const ANSWER_TIMEOUT: Duration = Duration::from_secs(12);
/// How long a call waits for its turn when all connections are in use.
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
    options: PgConnectOptions,
    /// One for each connection that may be in use.
    turns: Semaphore,
    /// Connections nobody uses now, each with the time of its last answer; the last used last.
    idle: Mutex<Vec<(PgConnection, Instant)>>,
}

impl Connections {
    /// Connects when a connection is first needed.
    pub(super) fn new(options: PgConnectOptions, max_connections: u32) -> Connections {
        let turns = usize::try_from(max_connections).unwrap_or(Semaphore::MAX_PERMITS).max(1);
        Connections {
            options,
            turns: Semaphore::new(turns.min(Semaphore::MAX_PERMITS)),
            idle: Mutex::default(),
        }
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
        let rows = in_time(during, query.fetch_all(&mut lease.connection)).await?;
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
        let done = in_time(during, query.execute(&mut lease.connection)).await?;
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
        let rows = in_time(during, lease.connection.fetch_all(sqlx::raw_sql(sql))).await?;
        lease.heard_out();
        rows.iter().map(Row::from_row).collect::<Result<_, _>>().map_err(|e| explain(during, e))
    }

    /// Calls that come later find the store closed; those under way end as they would.
    pub(super) async fn close(&self) {
        self.turns.close();
        let idle = std::mem::take(&mut *self.idle());
        for (connection, _) in idle {
            // A farewell that is not heard does no harm.
            let _ = timeout(PING_TIMEOUT, connection.close()).await;
        }
    }

    async fn lease(&self, during: &'static str) -> Result<Lease<'_>, StoreError> {
        let turn = timeout(ACQUIRE_TIMEOUT, self.turns.acquire())
            .await
            .map_err(|late| StoreError::Unavailable { during, source: late.into() })?
            .map_err(|closed| StoreError::Unavailable { during, source: closed.into() })?;
        let connection = match self.alive().await {
            Some(connection) => connection,
            None => separate(&self.options).await?,
        };
        Ok(Lease { connection, connections: self, _turn: turn })
    }

    /// An idle connection that is good, or `None`.
    async fn alive(&self) -> Option<PgConnection> {
        loop {
            let (mut connection, last_heard) = self.idle().pop()?;
            if last_heard.elapsed() < TRUSTED_IDLE
                || matches!(timeout(PING_TIMEOUT, connection.ping()).await, Ok(Ok(())))
            {
                return Some(connection);
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(PgConnection, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
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
        Err(late) => Err(StoreError::Blocked { during, source: late.into() }),
    }
}

/// The use of a connection for one call. Dropped before it was heard out, the connection is
/// closed.
struct Lease<'a> {
    connection: PgConnection,
    connections: &'a Connections,
    _turn: SemaphorePermit<'a>,
}

impl Lease<'_> {
    /// The answer is complete: another call may use the connection.
    fn heard_out(self) {
        if !self.connections.turns.is_closed() {
            self.connections.idle().push((self.connection, Instant::now()));
        }
    }
}

//! A fresh place for one case: a directory, or a schema on the server.

use std::path::PathBuf;
use std::sync::Arc;

use makegood::clock::SimulatedClock;
use makegood::saga::Time;
use makegood::store::postgres::{PostgresOptions, PostgresStore};
use makegood::store::sqlite::{Durability, SqliteStore};
use makegood::store::{Store, StoreError};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection, Executor};
use tempfile::TempDir;
use uuid::Uuid;

/// What the SQLite store's clock says.
pub const CLOCK: Time = Time(1_764_000_000_000);
/// Of the PostgreSQL store.
pub const CONNECTIONS: u32 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Sqlite => "sqlite",
            Kind::Postgres => "postgres",
        }
    }
}

#[derive(Clone)]
pub enum Place {
    Sqlite(Arc<TempDir>),
    Postgres { server: String, schema: String },
}

impl Place {
    pub async fn new(kind: Kind, server: &str) -> Place {
        match kind {
            Kind::Sqlite => Place::Sqlite(Arc::new(tempfile::tempdir().unwrap())),
            Kind::Postgres => {
                let schema = format!("store_{}", Uuid::new_v4().simple());
                let place = Place::Postgres { server: server.to_owned(), schema };
                place.admin(&format!("CREATE SCHEMA {}", place.schema())).await;
                place
            }
        }
    }

    /// Opens the store without making its tables.
    pub async fn open(&self) -> Arc<dyn Store> {
        self.try_open().await.unwrap()
    }

    pub async fn try_open(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(match self {
            Place::Sqlite(_) => {
                let clock = Arc::new(SimulatedClock::starting_at(CLOCK));
                Arc::new(SqliteStore::open(&self.file(), clock, Durability::PowerCut).await?)
            }
            Place::Postgres { .. } => Arc::new(PostgresStore::connect(self.options()).await?),
        })
    }

    /// A store with its tables.
    pub async fn store(&self) -> Arc<dyn Store> {
        let store = self.open().await;
        store.migrate().await.unwrap();
        store.check().await.unwrap();
        store
    }

    /// A store whose tables are those of the first version, with one dead letter.
    pub async fn earlier_store(&self) -> Arc<dyn Store> {
        const LETTER: &str = "INSERT INTO dead_letter (id, source, reason, error, body, headers,
            first_seen, last_seen, attempts) VALUES ";
        match self {
            Place::Sqlite(_) => {
                std::fs::create_dir_all(self.file().parent().unwrap()).unwrap();
                let connection = rusqlite::Connection::open(self.file()).unwrap();
                let tables = include_str!("../../migrations/sqlite/0001_tables.sql");
                connection.execute_batch(tables).unwrap();
                let values = "(zeroblob(16), 'orders', 'oversized', '', x'00', '{}', 5, 7, 3)";
                connection.execute_batch(&format!("{LETTER}{values}")).unwrap();
            }
            Place::Postgres { .. } => {
                let tables = include_str!("../../migrations/postgres/0001_tables.sql");
                let version = "CREATE TABLE makegood_schema (version int PRIMARY KEY);
                    INSERT INTO makegood_schema VALUES (1);";
                let values = "(gen_random_uuid(), 'orders', 'oversized', '', '', '{}', 5, 7, 3)";
                self.admin(&format!("{tables}{version}{LETTER}{values}")).await;
            }
        }
        self.open().await
    }

    /// The SQLite file; its directory does not exist until the store makes it.
    pub fn file(&self) -> PathBuf {
        let Place::Sqlite(directory) = self else { panic!("a SQLite case") };
        directory.path().join("state/makegood.db")
    }

    pub fn options(&self) -> PostgresOptions {
        // Its connections bear the schema's name, so that a case finds its own.
        let url = format!("{}&application_name={}", self.url(), self.schema());
        PostgresOptions { url: url.into(), max_connections: CONNECTIONS }
    }

    /// The server, with the schema as search path.
    pub fn url(&self) -> String {
        let Place::Postgres { server, schema } = self else { panic!("a PostgreSQL case") };
        let separator = if server.contains('?') { '&' } else { '?' };
        format!("{server}{separator}options[search_path]={schema}")
    }

    /// The same, taken apart.
    pub fn connect_options(&self) -> PgConnectOptions {
        self.url().parse().unwrap()
    }

    pub fn schema(&self) -> &str {
        let Place::Postgres { schema, .. } = self else { panic!("a PostgreSQL case") };
        schema
    }

    /// A connection of the test's own.
    pub async fn connection(&self) -> PgConnection {
        PgConnection::connect(&self.url()).await.unwrap()
    }

    /// Runs a statement that only this suite composes.
    pub async fn admin(&self, sql: &str) {
        let mut connection = self.connection().await;
        connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
        connection.close().await.unwrap();
    }

    /// After success. What a failed case leaves behind can be looked at.
    pub async fn remove(&self) {
        if let Place::Postgres { schema, .. } = self {
            // What the case gave up half-way may still be at work there.
            let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE application_name";
            self.admin(&format!("{end} = '{schema}'")).await;
            self.admin(&format!("DROP SCHEMA {schema} CASCADE")).await;
        }
    }
}

//! The tables: made and upgraded in one transaction, and checked.

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Executor};

use super::connection::{Connections, separate};
use super::error::explain;
use crate::store::StoreError;

/// Each brings the tables from the version before it to its own, counted from 1. Released ones
/// never change.
const MIGRATIONS: [&str; 4] = [
    include_str!("../../../migrations/postgres/0001_tables.sql"),
    include_str!("../../../migrations/postgres/0002_operators.sql"),
    include_str!("../../../migrations/postgres/0003_dead_letters.sql"),
    include_str!("../../../migrations/postgres/0004_watching.sql"),
];

/// One number for one purpose: who holds this advisory lock migrates. The first eight bytes of
/// "makegood" in ASCII.
const BEGIN: &str = "
    BEGIN;
    SET LOCAL statement_timeout = 0;
    SET LOCAL lock_timeout = '60s';
    SELECT pg_advisory_xact_lock(x'6d616b65676f6f64'::bigint);
    CREATE TABLE IF NOT EXISTS makegood_schema (version int PRIMARY KEY);
";

const VERSION: &str = "SELECT coalesce(max(version), 0) FROM makegood_schema";

/// On a connection of its own: killed half-way, the server undoes all of it.
pub(super) async fn migrate(options: &PgConnectOptions) -> Result<(), StoreError> {
    let mut connection = separate(options).await?;
    upgrade(&mut connection).await.map_err(|error| explain("migrating", error))?;
    connection.close().await.map_err(|error| explain("migrating", error))
}

async fn upgrade(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    connection.execute(sqlx::raw_sql(BEGIN)).await?;
    let present: i32 = sqlx::query_scalar(VERSION).fetch_one(&mut *connection).await?;
    for (version, migration) in (1..).zip(MIGRATIONS) {
        if version > present {
            connection.execute(sqlx::raw_sql(migration)).await?;
            sqlx::query("INSERT INTO makegood_schema (version) VALUES ($1)")
                .bind(version)
                .execute(&mut *connection)
                .await?;
        }
    }
    connection.execute(sqlx::raw_sql("COMMIT")).await?;
    Ok(())
}

pub(super) async fn check(connections: &Connections) -> Result<(), StoreError> {
    let rows: Vec<(i32,)> =
        connections.rows("checking the tables", sqlx::query_as(VERSION)).await?;
    let latest = MIGRATIONS.len();
    match rows[..] {
        [(version,)] if usize::try_from(version) == Ok(latest) => Ok(()),
        _ => Err(StoreError::NotMigrated),
    }
}

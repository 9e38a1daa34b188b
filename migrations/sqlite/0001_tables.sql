-- The same tables as in PostgreSQL, for one process. PostgreSQL takes no NUL in a text, so the
-- checks refuse it here as well: what development accepts, production accepts.

CREATE TABLE saga_definition (
    name         TEXT    NOT NULL CHECK (instr(name, char(0)) = 0),
    version      INTEGER NOT NULL,
    content      TEXT    NOT NULL CHECK (instr(content, char(0)) = 0),
    published_at INTEGER NOT NULL,
    PRIMARY KEY (name, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE saga_order (
    saga_id            BLOB    NOT NULL PRIMARY KEY,
    tenant             TEXT    NOT NULL CHECK (instr(tenant, char(0)) = 0),
    order_id           TEXT    NOT NULL CHECK (instr(order_id, char(0)) = 0),
    definition         TEXT    NOT NULL CHECK (instr(definition, char(0)) = 0),
    definition_version INTEGER NOT NULL,
    received_at        INTEGER NOT NULL,
    traceparent        TEXT    NOT NULL CHECK (instr(traceparent, char(0)) = 0),
    payload            BLOB    NOT NULL
) STRICT;
CREATE INDEX saga_order_by_order ON saga_order (order_id, tenant);

CREATE TABLE saga (
    saga_id   BLOB    NOT NULL PRIMARY KEY,
    due       INTEGER,
    version   INTEGER NOT NULL,
    status    INTEGER NOT NULL,
    attention INTEGER NOT NULL,
    state     BLOB    NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX saga_by_due ON saga (due) WHERE due IS NOT NULL;
CREATE INDEX saga_by_attention ON saga (saga_id) WHERE attention;

CREATE TABLE saga_journal (
    saga_id BLOB    NOT NULL,
    version INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    entry   BLOB    NOT NULL,
    PRIMARY KEY (saga_id, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE outbox (
    saga_id       BLOB    NOT NULL,
    version       INTEGER NOT NULL,
    number        INTEGER NOT NULL,
    claimed_until INTEGER NOT NULL,
    channel       TEXT    NOT NULL CHECK (instr(channel, char(0)) = 0),
    message       BLOB    NOT NULL,
    PRIMARY KEY (claimed_until, saga_id, version, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE dead_letter (
    id         BLOB    NOT NULL PRIMARY KEY,
    source     TEXT    NOT NULL CHECK (instr(source, char(0)) = 0),
    reason     TEXT    NOT NULL CHECK (instr(reason, char(0)) = 0),
    error      TEXT    NOT NULL CHECK (instr(error, char(0)) = 0),
    body       BLOB    NOT NULL,
    headers    TEXT    NOT NULL CHECK (instr(headers, char(0)) = 0),
    tenant     TEXT    CHECK (instr(tenant, char(0)) = 0),
    order_id   TEXT    CHECK (instr(order_id, char(0)) = 0),
    first_seen INTEGER NOT NULL,
    last_seen  INTEGER NOT NULL,
    attempts   INTEGER NOT NULL
) STRICT;
CREATE INDEX dead_letter_by_last_seen ON dead_letter (last_seen, id);
CREATE INDEX dead_letter_parked ON dead_letter (tenant, order_id) WHERE reason = 'unknown-order';

CREATE TABLE operator_audit (
    saga_id BLOB    NOT NULL,
    id      BLOB    NOT NULL,
    version INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    actor   TEXT    NOT NULL CHECK (instr(actor, char(0)) = 0),
    verb    TEXT    NOT NULL CHECK (instr(verb, char(0)) = 0),
    reason  TEXT    NOT NULL CHECK (instr(reason, char(0)) = 0),
    PRIMARY KEY (saga_id, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE shipment (
    tenant      TEXT NOT NULL CHECK (instr(tenant, char(0)) = 0),
    courier     TEXT NOT NULL CHECK (instr(courier, char(0)) = 0),
    shipment_id TEXT NOT NULL CHECK (instr(shipment_id, char(0)) = 0),
    saga_id     BLOB NOT NULL,
    order_id    TEXT NOT NULL CHECK (instr(order_id, char(0)) = 0),
    PRIMARY KEY (tenant, courier, shipment_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE scan (
    saga_id     BLOB    NOT NULL,
    courier     TEXT    NOT NULL CHECK (instr(courier, char(0)) = 0),
    id          TEXT    NOT NULL CHECK (instr(id, char(0)) = 0),
    shipment_id TEXT    NOT NULL CHECK (instr(shipment_id, char(0)) = 0),
    status      TEXT    NOT NULL CHECK (instr(status, char(0)) = 0),
    happened_at INTEGER NOT NULL,
    latitude    REAL,
    longitude   REAL,
    received_at INTEGER NOT NULL,
    PRIMARY KEY (saga_id, courier, id)
) STRICT, WITHOUT ROWID;

PRAGMA user_version = 1;

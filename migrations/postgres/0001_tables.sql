-- Every key holds the saga id (or what it is derived from), so that the tables can be sharded
-- by it without a change of code. Times are milliseconds since 1970, UTC.

CREATE TABLE saga_definition (
    name         text   NOT NULL,
    version      int    NOT NULL,
    content      text   NOT NULL,
    published_at bigint NOT NULL,
    PRIMARY KEY (name, version)
);

-- What never changes about a saga: written once, so that the hot row stays small.
-- (tenant, order_id, definition) is unique because the saga id is derived from it.
CREATE TABLE saga_order (
    saga_id            uuid   PRIMARY KEY,
    tenant             text   NOT NULL,
    order_id           text   NOT NULL,
    definition         text   NOT NULL,
    definition_version int    NOT NULL,
    received_at        bigint NOT NULL,
    traceparent        text   NOT NULL,
    payload            bytea  NOT NULL
);
CREATE INDEX saga_order_by_order ON saga_order (order_id, tenant);

-- The hot row. Pages keep room for updates in place, and nothing that changes at every step is
-- indexed but the coarse due time: an update that leaves it alone touches no index.
CREATE TABLE saga (
    saga_id   uuid     PRIMARY KEY,
    due       bigint,
    version   int      NOT NULL,
    status    smallint NOT NULL,
    attention boolean  NOT NULL,
    state     bytea    NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX saga_by_due ON saga (due) WHERE due IS NOT NULL;
CREATE INDEX saga_by_attention ON saga (saga_id) WHERE attention;

CREATE TABLE saga_journal (
    saga_id uuid   NOT NULL,
    version int    NOT NULL,
    at      bigint NOT NULL,
    entry   bytea  NOT NULL,
    PRIMARY KEY (saga_id, version)
);

-- Rows live for milliseconds. What they leave behind is vacuumed by count, not by share of a
-- table that is nearly always empty, and at full speed. The claim leads the only key: rows are
-- found by it, and new ones land side by side on the last pages, not all over the index.
CREATE TABLE outbox (
    saga_id       uuid     NOT NULL,
    version       int      NOT NULL,
    number        smallint NOT NULL,
    claimed_until bigint   NOT NULL,
    channel       text     NOT NULL,
    message       bytea    NOT NULL,
    PRIMARY KEY (claimed_until, saga_id, version, number)
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_cost_delay = 0
);

CREATE TABLE dead_letter (
    id         uuid   PRIMARY KEY,
    source     text   NOT NULL,
    reason     text   NOT NULL,
    error      text   NOT NULL,
    body       bytea  NOT NULL,
    headers    text   NOT NULL,
    tenant     text,
    order_id   text,
    first_seen bigint NOT NULL,
    last_seen  bigint NOT NULL,
    attempts   int    NOT NULL
);
CREATE INDEX dead_letter_by_last_seen ON dead_letter (last_seen, id);
CREATE INDEX dead_letter_parked ON dead_letter (tenant, order_id) WHERE reason = 'unknown-order';

CREATE TABLE operator_audit (
    saga_id uuid   NOT NULL,
    id      uuid   NOT NULL,
    version int    NOT NULL,
    at      bigint NOT NULL,
    actor   text   NOT NULL,
    verb    text   NOT NULL,
    reason  text   NOT NULL,
    PRIMARY KEY (saga_id, id)
);

-- Whose parcel a courier's shipment is: how a courier's scan finds its saga. Led by the tenant,
-- so that no courier account reaches beyond its own.
CREATE TABLE shipment (
    tenant      text NOT NULL,
    courier     text NOT NULL,
    shipment_id text NOT NULL,
    saga_id     uuid NOT NULL,
    order_id    text NOT NULL,
    PRIMARY KEY (tenant, courier, shipment_id)
);

-- Every scan that a courier reported, also those that changed nothing.
CREATE TABLE scan (
    saga_id     uuid   NOT NULL,
    courier     text   NOT NULL,
    id          text   NOT NULL,
    shipment_id text   NOT NULL,
    status      text   NOT NULL,
    happened_at bigint NOT NULL,
    latitude    double precision,
    longitude   double precision,
    received_at bigint NOT NULL,
    PRIMARY KEY (saga_id, courier, id)
);

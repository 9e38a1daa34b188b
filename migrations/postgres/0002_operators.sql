-- What an operator asked for, whole, and the second person who agreed to it.
ALTER TABLE operator_audit
    ADD COLUMN approver text,
    ADD COLUMN detail   text NOT NULL DEFAULT '{}';

-- What waits for a second person. The id is the key under which it will be done.
CREATE TABLE operator_request (
    id       uuid   PRIMARY KEY,
    tenant   text,
    order_id text   NOT NULL,
    detail   text   NOT NULL,
    actor    text   NOT NULL,
    reason   text   NOT NULL,
    asked_at bigint NOT NULL
);

-- Participants that answer nobody, as some worker found out; the others look here.
CREATE TABLE breaker (
    participant text   PRIMARY KEY,
    opened_at   bigint NOT NULL
);

-- As in PostgreSQL.
ALTER TABLE operator_audit ADD COLUMN approver TEXT CHECK (instr(approver, char(0)) = 0);
ALTER TABLE operator_audit ADD COLUMN detail TEXT NOT NULL DEFAULT '{}'
    CHECK (instr(detail, char(0)) = 0);

CREATE TABLE operator_request (
    id       BLOB    NOT NULL PRIMARY KEY,
    tenant   TEXT    CHECK (instr(tenant, char(0)) = 0),
    order_id TEXT    NOT NULL CHECK (instr(order_id, char(0)) = 0),
    detail   TEXT    NOT NULL CHECK (instr(detail, char(0)) = 0),
    actor    TEXT    NOT NULL CHECK (instr(actor, char(0)) = 0),
    reason   TEXT    NOT NULL CHECK (instr(reason, char(0)) = 0),
    asked_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE breaker (
    participant TEXT    NOT NULL PRIMARY KEY CHECK (instr(participant, char(0)) = 0),
    opened_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

PRAGMA user_version = 2;

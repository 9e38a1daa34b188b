-- As in PostgreSQL.
ALTER TABLE saga ADD COLUMN started INTEGER;
ALTER TABLE saga ADD COLUMN at_risk INTEGER NOT NULL DEFAULT 0;

UPDATE saga SET at_risk = attention,
    started = (SELECT received_at FROM saga_order o WHERE o.saga_id = saga.saga_id)
WHERE status IN (1, 2) OR attention;

CREATE INDEX saga_unfinished ON saga (started, status) WHERE status IN (1, 2);
CREATE INDEX saga_at_risk ON saga (saga_id) WHERE at_risk;
CREATE INDEX dead_letter_by_reason ON dead_letter (reason) WHERE closed IS NULL;

CREATE TABLE duty (
    name   TEXT    NOT NULL PRIMARY KEY,
    holder BLOB    NOT NULL,
    until  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

PRAGMA user_version = 4;

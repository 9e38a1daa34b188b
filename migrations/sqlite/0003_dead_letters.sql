-- What a dead letter was, which others failed alike, and what became of it. Those that were dealt
-- with stay for a while, closed, so that what happened to them can still be found.

ALTER TABLE dead_letter ADD COLUMN kind TEXT CHECK (instr(kind, char(0)) = 0);
ALTER TABLE dead_letter ADD COLUMN participant TEXT CHECK (instr(participant, char(0)) = 0);
ALTER TABLE dead_letter ADD COLUMN fingerprint TEXT NOT NULL DEFAULT '';
ALTER TABLE dead_letter ADD COLUMN corrects BLOB;
ALTER TABLE dead_letter ADD COLUMN closed TEXT;
ALTER TABLE dead_letter ADD COLUMN closed_at INTEGER;
UPDATE dead_letter SET fingerprint = reason;
DROP INDEX dead_letter_parked;
CREATE INDEX dead_letter_parked ON dead_letter (tenant, order_id)
    WHERE reason = 'unknown-order' AND closed IS NULL;
CREATE INDEX dead_letter_by_group ON dead_letter (fingerprint) WHERE closed IS NULL;
CREATE INDEX dead_letter_by_first_seen ON dead_letter (first_seen, id) WHERE closed IS NULL;
CREATE INDEX dead_letter_by_end ON dead_letter (closed_at) WHERE closed IS NOT NULL;

-- Letters that are replayed together. `version` fences whoever drives it: one worker at a time
-- decides how many letters go out, so that the rate is that of all workers.
CREATE TABLE campaign (
    id          BLOB NOT NULL PRIMARY KEY,
    version     INTEGER NOT NULL,
    state       TEXT NOT NULL CHECK (instr(state, char(0)) = 0),
    why         TEXT CHECK (instr(why, char(0)) = 0),
    plan        TEXT NOT NULL CHECK (instr(plan, char(0)) = 0),
    actor       TEXT NOT NULL CHECK (instr(actor, char(0)) = 0),
    reason      TEXT NOT NULL CHECK (instr(reason, char(0)) = 0),
    total       INTEGER NOT NULL,
    released    INTEGER NOT NULL,
    settled     INTEGER NOT NULL,
    failed      INTEGER NOT NULL,
    base        INTEGER NOT NULL,
    paced_at    INTEGER NOT NULL,
    judged_from INTEGER NOT NULL,
    started_at  INTEGER NOT NULL,
    changed_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX campaign_running ON campaign (id) WHERE state = 'running';

-- The one outstanding replay of a letter: its key is why there is never a second one.
CREATE TABLE replay (
    letter_id     BLOB NOT NULL PRIMARY KEY,
    campaign      BLOB NOT NULL,
    place         INTEGER NOT NULL,
    claims        INTEGER NOT NULL DEFAULT 0,
    claimed_by    BLOB,
    claimed_until INTEGER
) STRICT;
CREATE INDEX replay_waiting ON replay (campaign, place) WHERE claimed_by IS NULL;
CREATE INDEX replay_claimed ON replay (claimed_until) WHERE claimed_by IS NOT NULL;

-- What came of replays.
CREATE TABLE replayed (
    campaign  BLOB NOT NULL,
    letter_id BLOB NOT NULL,
    outcome   TEXT NOT NULL CHECK (instr(outcome, char(0)) = 0),
    reason    TEXT NOT NULL CHECK (instr(reason, char(0)) = 0),
    error     TEXT NOT NULL CHECK (instr(error, char(0)) = 0),
    at        INTEGER NOT NULL,
    PRIMARY KEY (campaign, letter_id)
) STRICT;
CREATE INDEX replayed_by_time ON replayed (campaign, at);
CREATE INDEX replayed_by_letter ON replayed (letter_id);

-- What operators did to letters and campaigns: `subject` is the id of one.
CREATE TABLE letter_audit (
    subject BLOB NOT NULL,
    id      BLOB NOT NULL,
    at      INTEGER NOT NULL,
    actor   TEXT NOT NULL CHECK (instr(actor, char(0)) = 0),
    verb    TEXT NOT NULL CHECK (instr(verb, char(0)) = 0),
    reason  TEXT NOT NULL CHECK (instr(reason, char(0)) = 0),
    PRIMARY KEY (subject, id)
) STRICT;

PRAGMA user_version = 3;

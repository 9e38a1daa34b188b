-- What a dead letter was, which others failed alike, and what became of it. Those that were dealt
-- with stay for a while, closed, so that what happened to them can still be found.

ALTER TABLE dead_letter
    ADD COLUMN kind        text,
    ADD COLUMN participant text,
    ADD COLUMN fingerprint text NOT NULL DEFAULT '',
    ADD COLUMN corrects    uuid,
    ADD COLUMN closed      text,
    ADD COLUMN closed_at   bigint;
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
    id          uuid   PRIMARY KEY,
    version     int    NOT NULL,
    state       text   NOT NULL,
    why         text,
    plan        text   NOT NULL,
    actor       text   NOT NULL,
    reason      text   NOT NULL,
    total       int    NOT NULL,
    released    int    NOT NULL,
    settled     int    NOT NULL,
    failed      int    NOT NULL,
    base        int    NOT NULL,
    paced_at    bigint NOT NULL,
    judged_from bigint NOT NULL,
    started_at  bigint NOT NULL,
    changed_at  bigint NOT NULL
);
CREATE INDEX campaign_running ON campaign (id) WHERE state = 'running';

-- The one outstanding replay of a letter: its key is why there is never a second one.
CREATE TABLE replay (
    letter_id     uuid PRIMARY KEY,
    campaign      uuid NOT NULL,
    place         int  NOT NULL,
    claims        int  NOT NULL DEFAULT 0,
    claimed_by    uuid,
    claimed_until bigint
);
CREATE INDEX replay_waiting ON replay (campaign, place) WHERE claimed_by IS NULL;
CREATE INDEX replay_claimed ON replay (claimed_until) WHERE claimed_by IS NOT NULL;

-- What came of replays.
CREATE TABLE replayed (
    campaign  uuid   NOT NULL,
    letter_id uuid   NOT NULL,
    outcome   text   NOT NULL,
    reason    text   NOT NULL,
    error     text   NOT NULL,
    at        bigint NOT NULL,
    PRIMARY KEY (campaign, letter_id)
);
CREATE INDEX replayed_by_time ON replayed (campaign, at);
CREATE INDEX replayed_by_letter ON replayed (letter_id);

-- What operators did to letters and campaigns: `subject` is the id of one.
CREATE TABLE letter_audit (
    subject uuid   NOT NULL,
    id      uuid   NOT NULL,
    at      bigint NOT NULL,
    actor   text   NOT NULL,
    verb    text   NOT NULL,
    reason  text   NOT NULL,
    PRIMARY KEY (subject, id)
);

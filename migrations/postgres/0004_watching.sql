-- What those who watch ask for every few seconds is found without a scan: unfinished sagas by an
-- index that holds only them, and those at risk (a person is called, or a step is in doubt) by
-- another. Neither column changes at a step that runs through, so that an update of the hot row
-- still touches no index.
ALTER TABLE saga
    ADD COLUMN started bigint,
    ADD COLUMN at_risk boolean NOT NULL DEFAULT false;

-- Only what the indexes hold is filled in: a saga that has ended is not asked about any more. One
-- that is in doubt and calls nobody yet is marked at its next transition.
UPDATE saga s SET started = o.received_at, at_risk = s.attention
FROM saga_order o WHERE o.saga_id = s.saga_id AND (s.status IN (1, 2) OR s.attention);

CREATE INDEX saga_unfinished ON saga (started) INCLUDE (status) WHERE status IN (1, 2);
CREATE INDEX saga_at_risk ON saga (saga_id) WHERE at_risk;
CREATE INDEX dead_letter_by_reason ON dead_letter (reason) WHERE closed IS NULL;

-- What only one worker does at a time, and who does it until when.
CREATE TABLE duty (
    name   text   PRIMARY KEY,
    holder uuid   NOT NULL,
    until  bigint NOT NULL
);

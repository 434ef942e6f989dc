-- Version 2: jobs wait in lanes, by what they require of their worker, and at places: by priority and rank, and behind
-- those by the time from which they may be taken; what an attempt used; who writes to a job. See docs/adr/0018-order-of-the-queue.md.

INSERT INTO schema_versions (version) VALUES (2);

DROP INDEX jobs_waiting;
ALTER TABLE jobs ADD COLUMN lane TEXT NOT NULL DEFAULT '';  -- JSON of what is required; nothing is nothing
ALTER TABLE jobs ADD COLUMN rank INTEGER;                   -- its turn among those of its queue and priority
ALTER TABLE jobs ADD COLUMN place INTEGER;                  -- while it waits: what the line is in order of
-- What waited until now has come in the order of its time. 4611686018427387904 is where places begin of what may not be
-- taken yet.
UPDATE jobs SET place = 4611686018427387904 + visible_at WHERE state = 'scheduled';

CREATE INDEX jobs_line ON jobs (queue, lane, place) WHERE state = 'scheduled';
CREATE INDEX jobs_turn ON jobs (queue, lane, owner, place) WHERE state = 'scheduled';

-- How far the ranks of a priority have come: the rank of the job that was leased last.
CREATE TABLE queue_clocks (
    queue    TEXT NOT NULL,
    priority INTEGER NOT NULL,
    rank     INTEGER NOT NULL,
    PRIMARY KEY (queue, priority)
) STRICT, WITHOUT ROWID;

ALTER TABLE jobs ADD COLUMN usage TEXT;                     -- JSON: of the latest attempt

ALTER TABLE job_inputs ADD COLUMN size INTEGER;    -- of the terminal from here on: rows * 65536 + columns
ALTER TABLE job_inputs ADD COLUMN writer TEXT;
ALTER TABLE job_inputs ADD COLUMN piece INTEGER;   -- the writer's own count
ALTER TABLE job_inputs ADD COLUMN total INTEGER NOT NULL DEFAULT 0;  -- bytes, this piece's among them
UPDATE job_inputs SET total = (
    SELECT sum(length(earlier.bytes)) FROM job_inputs AS earlier
    WHERE earlier.job = job_inputs.job AND earlier.n <= job_inputs.n
);

-- Each says with its next heartbeat which queues are waited for, and by workers of which labels.
DELETE FROM servers;

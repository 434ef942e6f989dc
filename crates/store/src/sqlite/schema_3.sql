-- Version 3: jobs that ended are found by when they did, to be deleted once they were kept for long enough.

INSERT INTO schema_versions (version) VALUES (3);

CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;

-- Version 3: jobs have certificates of their own, which their ends revoke. See docs/adr/0020-certificates-of-jobs.md.

INSERT INTO schema_versions (version) VALUES (3);

ALTER TABLE certificates ADD COLUMN job TEXT;   -- JSON: which job it is, and what it may do
-- What a suspended owner still has in force, beside what takes a slot.
CREATE INDEX certificates_of_jobs ON certificates (principal_id, expires_at) WHERE job IS NOT NULL AND revoked = 0;
ALTER TABLE jobs ADD COLUMN certificates TEXT;  -- JSON: those of a running job, with the end of each

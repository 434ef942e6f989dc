-- Version 1. Everything here runs on SQLite 3.40, so that a distribution's sqlite3 may be used on the file by hand:
--   UPDATE principals   SET status = 'suspended' WHERE principal_id = 'w1';
--   UPDATE certificates SET revoked = 1 WHERE serial_number = '…';
-- is all that it takes to cut someone off. The triggers do what follows from it.

PRAGMA application_id = 0x61697231;  -- "air1"

CREATE TABLE schema_versions (
    version    INTEGER PRIMARY KEY,
    applied_at TEXT NOT NULL DEFAULT (datetime('now'))
) STRICT;
INSERT INTO schema_versions (version) VALUES (1);

CREATE TABLE principals (
    number           INTEGER PRIMARY KEY,
    principal_id     TEXT NOT NULL COLLATE NOCASE UNIQUE,
    type             TEXT NOT NULL CHECK (type IN ('admin', 'worker', 'user', 'service')),
    status           TEXT NOT NULL CHECK (status IN ('active', 'suspended', 'deleted')),
    roles            TEXT NOT NULL,  -- names with commas between; empty: the type is the role
    enrol_scope      TEXT,           -- JSON
    dns_names        TEXT NOT NULL,  -- JSON
    created_at       INTEGER NOT NULL,
    created_by       TEXT NOT NULL,
    suspended_at     INTEGER,
    suspended_reason TEXT NOT NULL,
    email            TEXT NOT NULL,
    description      TEXT NOT NULL,
    max_certificates INTEGER NOT NULL,
    validity         INTEGER,        -- seconds
    metadata         TEXT NOT NULL,  -- JSON
    version          INTEGER NOT NULL
) STRICT;
CREATE INDEX principals_status ON principals (status, principal_id);
CREATE INDEX principals_type ON principals (type, principal_id);
CREATE INDEX principals_admins ON principals (principal_id)
    WHERE status = 'active' AND ((roles = '' AND type = 'admin') OR instr(roles, 'admin') > 0);

CREATE TABLE dns_names (
    name         TEXT PRIMARY KEY,
    principal_id TEXT NOT NULL COLLATE NOCASE REFERENCES principals (principal_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX dns_names_owner ON dns_names (principal_id);

CREATE TABLE certificates (
    number            INTEGER PRIMARY KEY,
    serial_number     TEXT NOT NULL,
    issuer_id         TEXT NOT NULL,
    principal_id      TEXT NOT NULL COLLATE NOCASE,
    principal_type    TEXT NOT NULL,
    fingerprint       TEXT NOT NULL,
    public_key        TEXT NOT NULL,
    subject_dn        TEXT NOT NULL,
    profile           TEXT NOT NULL,
    labels            TEXT NOT NULL,  -- JSON
    issued_at         INTEGER NOT NULL,
    expires_at        INTEGER NOT NULL,
    retire_at         INTEGER,
    -- When it takes no slot any more, unless it is revoked before.
    ends_at           INTEGER NOT NULL AS (min(expires_at, coalesce(retire_at, expires_at))) VIRTUAL,
    first_seen_at     INTEGER,
    lineage_id        TEXT NOT NULL,
    predecessor       TEXT,           -- ISSUER~SERIAL
    successor         TEXT,           -- ISSUER~SERIAL
    revoked           INTEGER NOT NULL DEFAULT 0 CHECK (revoked IN (0, 1)),
    revoked_at        INTEGER,
    revocation_reason TEXT,
    description       TEXT NOT NULL,
    der               BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX certificates_serial ON certificates (serial_number, issuer_id);
-- 48 bits find the row among ten millions, in a third of the space.
CREATE INDEX certificates_fingerprint ON certificates (substr(fingerprint, 1, 8));
CREATE INDEX certificates_principal ON certificates (principal_id);
CREATE INDEX certificates_lineage ON certificates (lineage_id, ends_at) WHERE revoked = 0;
CREATE INDEX certificates_expiry ON certificates (expires_at) WHERE revoked = 0;
CREATE INDEX certificates_revoked ON certificates (revoked) WHERE revoked = 1;
CREATE INDEX certificates_revoked_expiry ON certificates (expires_at, serial_number, issuer_id) WHERE revoked = 1;

-- One row a lineage, so that slots are counted without looking at certificates.
CREATE TABLE lineages (
    number       INTEGER PRIMARY KEY,
    lineage_id   TEXT NOT NULL UNIQUE,
    principal_id TEXT NOT NULL COLLATE NOCASE,
    ends_at      INTEGER NOT NULL  -- when its last unrevoked certificate ends; 0 if there is none
) STRICT;
CREATE INDEX lineages_slots ON lineages (principal_id, ends_at);

CREATE TABLE enrollments (
    number         INTEGER PRIMARY KEY,
    enrollment_id  TEXT NOT NULL UNIQUE,
    secret_hash    BLOB NOT NULL,
    principal_id   TEXT NOT NULL COLLATE NOCASE,
    principal_type TEXT NOT NULL,
    roles          TEXT NOT NULL,
    created_by     TEXT NOT NULL COLLATE NOCASE,
    created_at     INTEGER NOT NULL,
    expires_at     INTEGER NOT NULL,
    used_at        INTEGER,
    used_key       TEXT,
    certificate    TEXT,  -- ISSUER~SERIAL
    description    TEXT NOT NULL
) STRICT;
CREATE INDEX enrollments_creator ON enrollments (created_by);

CREATE TABLE issuers (
    number     INTEGER PRIMARY KEY,
    issuer_id  TEXT NOT NULL UNIQUE,
    kind       TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('staged', 'active', 'retired', 'destroyed')),
    algorithm  TEXT NOT NULL,
    der        BLOB NOT NULL,
    sealed_key TEXT,  -- JSON
    parent     TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

CREATE TABLE keyring (
    number         INTEGER PRIMARY KEY CHECK (number = 1),
    master_kind    TEXT NOT NULL,
    master_salt    BLOB NOT NULL,
    master_check   BLOB NOT NULL,
    task_token_key TEXT NOT NULL  -- JSON
) STRICT;
CREATE TABLE data_keys (
    number      INTEGER PRIMARY KEY,
    data_key_id TEXT NOT NULL UNIQUE,
    purpose     TEXT NOT NULL,
    wrapped     BLOB NOT NULL,
    state       TEXT NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE requests (
    number     INTEGER PRIMARY KEY,
    caller     TEXT NOT NULL COLLATE NOCASE,
    method     TEXT NOT NULL,
    request_id TEXT NOT NULL,
    content    BLOB NOT NULL,
    result     TEXT NOT NULL,
    at         INTEGER NOT NULL,
    UNIQUE (caller, method, request_id)
) STRICT;

CREATE TABLE audit_log (
    number INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    entry  TEXT NOT NULL  -- JSON
) STRICT;

-- AUTOINCREMENT never gives a number again, and gives none that a roll-back takes away: numbers have no gaps.
CREATE TABLE changes (
    number        INTEGER PRIMARY KEY AUTOINCREMENT,
    at            INTEGER NOT NULL,
    kind          TEXT NOT NULL CHECK (kind IN ('principal', 'certificate', 'issuers')),
    principal_id  TEXT,
    status        TEXT,
    issuer_id     TEXT,
    serial_number TEXT,
    revoked       INTEGER
) STRICT;

CREATE TRIGGER principal_changed AFTER UPDATE OF status, roles ON principals
WHEN new.status IS NOT old.status OR new.roles IS NOT old.roles
BEGIN
    INSERT INTO changes (at, kind, principal_id, status)
    VALUES (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), 'principal', new.principal_id, new.status);
    -- Whoever decided on the old row must notice.
    UPDATE principals SET version = old.version + 1 WHERE number = new.number AND version <= old.version;
END;
-- So must they where a hand changed something else.
CREATE TRIGGER principal_edited AFTER UPDATE ON principals
WHEN new.version IS old.version AND new.status IS old.status AND new.roles IS old.roles
BEGIN
    UPDATE principals SET version = old.version + 1 WHERE number = new.number;
END;
CREATE TRIGGER principal_removed AFTER DELETE ON principals
BEGIN
    INSERT INTO changes (at, kind, principal_id, status)
    VALUES (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), 'principal', old.principal_id, 'deleted');
END;

CREATE TRIGGER certificate_changed AFTER UPDATE OF revoked ON certificates
WHEN new.revoked IS NOT old.revoked
BEGIN
    INSERT INTO changes (at, kind, issuer_id, serial_number, revoked)
    VALUES (coalesce(new.revoked_at, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)),
            'certificate', new.issuer_id, new.serial_number, new.revoked);
    UPDATE certificates
    SET revoked_at = iif(revoked, coalesce(revoked_at, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)), NULL),
        revocation_reason = iif(revoked, coalesce(revocation_reason, 'unspecified'), NULL)
    WHERE number = new.number AND (revoked_at IS NULL) = revoked;
END;
CREATE TRIGGER certificate_removed AFTER DELETE ON certificates
WHEN old.revoked = 0 AND old.expires_at > CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)
BEGIN
    INSERT INTO changes (at, kind, issuer_id, serial_number, revoked)
    VALUES (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER),
            'certificate', old.issuer_id, old.serial_number, 1);
END;
CREATE TRIGGER certificate_ends AFTER UPDATE OF revoked, retire_at, expires_at ON certificates
BEGIN
    UPDATE lineages SET ends_at = coalesce(
        (SELECT ends_at FROM certificates WHERE lineage_id = new.lineage_id AND revoked = 0 ORDER BY ends_at DESC LIMIT 1),
        0)
    WHERE lineage_id = new.lineage_id;
END;

CREATE TRIGGER issuer_added AFTER INSERT ON issuers
BEGIN
    INSERT INTO changes (at, kind)
    VALUES (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), 'issuers');
END;
CREATE TRIGGER issuer_changed AFTER UPDATE OF state ON issuers WHEN new.state IS NOT old.state
BEGIN
    INSERT INTO changes (at, kind)
    VALUES (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), 'issuers');
END;
CREATE TRIGGER issuer_removed AFTER DELETE ON issuers
BEGIN
    INSERT INTO changes (at, kind)
    VALUES (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), 'issuers');
END;

CREATE TABLE jobs (
    number       INTEGER PRIMARY KEY,
    job_id       TEXT NOT NULL UNIQUE,
    queue        TEXT NOT NULL,
    owner        TEXT NOT NULL COLLATE NOCASE,
    state        TEXT NOT NULL,
    visible_at   INTEGER NOT NULL,
    attempt      INTEGER NOT NULL,
    handed_back  INTEGER NOT NULL,
    holder       TEXT COLLATE NOCASE,
    worker       TEXT,           -- which of the holder's processes
    deadline     INTEGER,
    process_id   INTEGER,
    exit         TEXT,           -- JSON
    reason       TEXT NOT NULL,
    cancellation TEXT,           -- JSON
    created_at   INTEGER NOT NULL,
    started_at   INTEGER,
    finished_at  INTEGER,
    is_unique    INTEGER NOT NULL,
    alike        BLOB NOT NULL,  -- of owner, command and arguments
    spec         TEXT NOT NULL   -- JSON: what was asked for, which never changes
) STRICT;
CREATE INDEX jobs_waiting ON jobs (queue, visible_at) WHERE state = 'scheduled';
CREATE INDEX jobs_deadline ON jobs (deadline) WHERE state = 'running';
CREATE INDEX jobs_holder ON jobs (holder) WHERE state = 'running';
CREATE INDEX jobs_alike ON jobs (alike, is_unique) WHERE finished_at IS NULL;
CREATE INDEX jobs_owner ON jobs (owner);
CREATE INDEX jobs_state ON jobs (state);

CREATE TABLE job_counts (
    state TEXT PRIMARY KEY,
    jobs  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO job_counts (state, jobs)
VALUES ('scheduled', 0), ('running', 0), ('completed', 0), ('failed', 0), ('cancelled', 0), ('timed_out', 0);
CREATE TRIGGER job_added AFTER INSERT ON jobs
BEGIN
    UPDATE job_counts SET jobs = jobs + 1 WHERE state = new.state;
END;
CREATE TRIGGER job_moved AFTER UPDATE OF state ON jobs WHEN new.state IS NOT old.state
BEGIN
    UPDATE job_counts SET jobs = jobs - 1 WHERE state = old.state;
    UPDATE job_counts SET jobs = jobs + 1 WHERE state = new.state;
END;
CREATE TRIGGER job_removed AFTER DELETE ON jobs
BEGIN
    UPDATE job_counts SET jobs = jobs - 1 WHERE state = old.state;
END;

CREATE TABLE job_inputs (
    job   INTEGER NOT NULL,  -- jobs.number
    n     INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    ended INTEGER NOT NULL,
    PRIMARY KEY (job, n)
) STRICT, WITHOUT ROWID;
CREATE TABLE job_events (
    job      INTEGER NOT NULL,  -- jobs.number
    sequence INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    kind     TEXT NOT NULL,     -- JSON
    PRIMARY KEY (job, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE servers (
    server_id   TEXT PRIMARY KEY,
    address     TEXT NOT NULL,
    version     TEXT NOT NULL,
    counter     INTEGER NOT NULL,
    applied     INTEGER NOT NULL,
    bundle_hash TEXT NOT NULL,
    queues      TEXT NOT NULL,  -- JSON
    at          INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- One row: the highest time that any server wrote, and the housekeeping lease.
CREATE TABLE housekeeping (
    number       INTEGER PRIMARY KEY CHECK (number = 1),
    highest_time INTEGER NOT NULL,
    holder       TEXT,
    fencing      INTEGER NOT NULL,
    deadline     INTEGER NOT NULL
) STRICT;
INSERT INTO housekeeping (number, highest_time, holder, fencing, deadline) VALUES (1, 0, NULL, 0, 0);

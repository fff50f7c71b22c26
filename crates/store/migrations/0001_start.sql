-- Text that SQLite and PostgreSQL both read. Times are milliseconds since 1970, ids, JSON and
-- base64 are text, BIGINT 0 and 1 are false and true.

CREATE TABLE meta (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE configs (
    version BIGINT NOT NULL PRIMARY KEY,
    changed_by TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    changes TEXT NOT NULL
);

-- Every state that a resource ever had; until_version is null for the one that holds.
CREATE TABLE resources (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    from_version BIGINT NOT NULL,
    until_version BIGINT,
    spec TEXT NOT NULL,
    PRIMARY KEY (kind, name, from_version)
);
CREATE UNIQUE INDEX resources_holding ON resources (kind, name) WHERE until_version IS NULL;

-- AES-256-GCM, bound to target and purpose.
CREATE TABLE credentials (
    target TEXT NOT NULL,
    purpose TEXT NOT NULL,
    sealed TEXT NOT NULL,
    PRIMARY KEY (target, purpose)
);

-- argon2id PHC strings of users' passwords and workloads' secrets.
CREATE TABLE login_hashes (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    phc TEXT NOT NULL,
    PRIMARY KEY (kind, name)
);

CREATE TABLE runs (
    id TEXT NOT NULL PRIMARY KEY,
    parent TEXT REFERENCES runs (id),
    principal_kind TEXT NOT NULL,
    principal TEXT NOT NULL,
    sponsor TEXT NOT NULL,
    name TEXT NOT NULL,
    purpose TEXT,
    targets TEXT NOT NULL,
    depth BIGINT NOT NULL,
    started_by TEXT,
    started_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    ended_reason TEXT,
    ended_at_ms BIGINT
);
CREATE INDEX runs_by_parent ON runs (parent);
CREATE INDEX runs_by_start ON runs (started_at_ms);
CREATE INDEX runs_active ON runs (id) WHERE ended_at_ms IS NULL;

-- SHA-256 of tokens, in hexadecimal.
CREATE TABLE tokens (
    digest TEXT NOT NULL PRIMARY KEY,
    purpose TEXT NOT NULL,
    principal_kind TEXT,
    principal TEXT,
    run_id TEXT REFERENCES runs (id),
    created_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT,
    revoked_at_ms BIGINT
);
CREATE INDEX tokens_by_run ON tokens (run_id);
CREATE INDEX tokens_by_principal ON tokens (principal_kind, principal);

CREATE TABLE approvals (
    id TEXT NOT NULL PRIMARY KEY,
    state TEXT NOT NULL,
    requested_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    request TEXT NOT NULL,
    votes TEXT NOT NULL,
    closed_at_ms BIGINT,
    used_at_ms BIGINT
);
CREATE INDEX approvals_by_request ON approvals (requested_at_ms);
CREATE INDEX approvals_pending ON approvals (id) WHERE state = 'pending';

CREATE TABLE sessions (
    id TEXT NOT NULL PRIMARY KEY,
    run_id TEXT,
    run_path TEXT,
    principal_kind TEXT NOT NULL,
    principal TEXT NOT NULL,
    sponsor TEXT NOT NULL,
    target TEXT NOT NULL,
    protocol TEXT NOT NULL,
    client_address TEXT NOT NULL,
    tls BIGINT NOT NULL,
    claims TEXT NOT NULL,
    opened_at_ms BIGINT NOT NULL,
    closed_at_ms BIGINT,
    closed_reason TEXT,
    statements BIGINT NOT NULL DEFAULT 0,
    row_count BIGINT NOT NULL DEFAULT 0,
    bytes_to_client BIGINT NOT NULL DEFAULT 0,
    bytes_to_target BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX sessions_by_open ON sessions (opened_at_ms);
CREATE INDEX sessions_by_run ON sessions (run_id);
CREATE INDEX sessions_open ON sessions (id) WHERE closed_at_ms IS NULL;

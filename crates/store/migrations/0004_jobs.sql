-- The job whose token started a root run, as JSON.
ALTER TABLE runs ADD COLUMN job TEXT;

-- One root run for each job of an issuer, ever.
CREATE TABLE jobs (
    issuer TEXT NOT NULL,
    job_key TEXT NOT NULL,
    run_id TEXT NOT NULL,
    started_at_ms BIGINT NOT NULL,
    PRIMARY KEY (issuer, job_key)
);

-- Tokens that started a run, until they expire: each is taken once.
CREATE TABLE used_tokens (
    issuer TEXT NOT NULL,
    token_id TEXT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    PRIMARY KEY (issuer, token_id)
);
CREATE INDEX used_tokens_by_end ON used_tokens (expires_at_ms);

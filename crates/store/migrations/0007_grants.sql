-- What runs were granted, when they must be renewed, and what they used of it.
ALTER TABLE runs ADD COLUMN actions TEXT NOT NULL DEFAULT '[]';
ALTER TABLE runs ADD COLUMN renew_within_s BIGINT;
ALTER TABLE runs ADD COLUMN used_statements BIGINT NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN used_writes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN used_rows BIGINT NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN used_bytes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN used_targets TEXT NOT NULL DEFAULT '[]';
ALTER TABLE runs ADD COLUMN used_actions TEXT NOT NULL DEFAULT '[]';

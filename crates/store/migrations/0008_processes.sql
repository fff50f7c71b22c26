-- The process that a run was started for, as its wrapper saw it: JSON, or null.
ALTER TABLE runs ADD COLUMN process TEXT;

-- 1 from the moment at which a wrapper holds the run: it ends with its wrapper.
ALTER TABLE runs ADD COLUMN attached BIGINT NOT NULL DEFAULT 0;

-- What the CI system of a workload signs its webhooks with.
CREATE TABLE webhook_secrets (
    workload TEXT PRIMARY KEY,
    sealed TEXT NOT NULL
);

-- What the gateway shares with the CI system of a workload, by the purpose that it is sealed for.
CREATE TABLE workload_secrets (
    workload TEXT NOT NULL,
    purpose TEXT NOT NULL,
    sealed TEXT NOT NULL,
    PRIMARY KEY (workload, purpose)
);
INSERT INTO workload_secrets (workload, purpose, sealed)
    SELECT workload, 'webhook', sealed FROM webhook_secrets;
DROP TABLE webhook_secrets;

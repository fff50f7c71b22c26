-- People and groups as providers wrote them by SCIM. The people themselves are resources.
CREATE TABLE scim_documents (
    provider TEXT NOT NULL,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    modified_at_ms BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (provider, id)
);

-- SHA-256 of tokens with which one relay process may join once, in hexadecimal.
CREATE TABLE relay_joins (
    digest TEXT NOT NULL PRIMARY KEY,
    relay TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    used_at_ms BIGINT
);

-- Certificates of relay processes.
CREATE TABLE relay_certificates (
    serial TEXT NOT NULL PRIMARY KEY,
    relay TEXT NOT NULL,
    issued_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    revoked_at_ms BIGINT
);
CREATE INDEX relay_certificates_by_relay ON relay_certificates (relay);

-- Secrets of identity providers, sealed, bound to provider and purpose.
CREATE TABLE provider_secrets (
    provider TEXT NOT NULL,
    purpose TEXT NOT NULL,
    sealed TEXT NOT NULL,
    PRIMARY KEY (provider, purpose)
);

-- What was taken once and is not taken again: identifiers of tokens and assertions.
CREATE TABLE once (
    scope TEXT NOT NULL,
    id TEXT NOT NULL,
    until_ms BIGINT NOT NULL,
    PRIMARY KEY (scope, id)
);
CREATE INDEX once_by_until ON once (until_ms);

-- Offboardings whose end was not recorded yet: kept with the change of the configuration, gone
-- when tokens, runs and sessions ended and the event was written.
CREATE TABLE offboardings (
    person TEXT NOT NULL,
    effect TEXT NOT NULL,
    cause TEXT NOT NULL,
    by_whom TEXT NOT NULL,
    PRIMARY KEY (person, effect)
);

-- What a person's last sign-in at a provider left: the sealed refresh token, with which the
-- gateway asks whether the person is still somebody there.
CREATE TABLE grants (
    person TEXT NOT NULL PRIMARY KEY,
    provider TEXT NOT NULL,
    sealed TEXT,
    checked_at_ms BIGINT NOT NULL,
    failing_since_ms BIGINT
);

-- Sessions of people at their providers, by which a logout there finds them.
CREATE TABLE provider_sessions (
    provider TEXT NOT NULL,
    sid TEXT NOT NULL,
    person TEXT NOT NULL,
    until_ms BIGINT NOT NULL,
    PRIMARY KEY (provider, sid)
);
CREATE INDEX provider_sessions_by_until ON provider_sessions (until_ms);

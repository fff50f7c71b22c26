-- Keys of the gateway itself (host keys, certificate authorities), sealed.
CREATE TABLE own_keys (
    name TEXT PRIMARY KEY,
    sealed TEXT NOT NULL
);

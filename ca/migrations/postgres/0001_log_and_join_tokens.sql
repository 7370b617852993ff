-- The same tables as for SQLite. Times are milliseconds since 1970-01-01T00:00:00Z.

-- Which trust domain all of this is of: one row.
CREATE TABLE trust_domain (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    name TEXT NOT NULL
);

-- Every issuance, a chain of hashes. Only `record` is hashed; the columns before it are for searches, and `log verify`
-- compares them with it.
CREATE TABLE issuance_log (
    sequence      BIGINT PRIMARY KEY CHECK (sequence > 0),
    time          BIGINT NOT NULL,
    serial        TEXT NOT NULL UNIQUE,
    spiffe_id     TEXT NOT NULL,
    attestation   TEXT NOT NULL,
    record        TEXT NOT NULL,
    previous_hash BYTEA NOT NULL CHECK (length(previous_hash) = 32),
    hash          BYTEA NOT NULL CHECK (length(hash) = 32)
);
CREATE INDEX issuance_log_spiffe_id ON issuance_log (spiffe_id, sequence);
CREATE INDEX issuance_log_time ON issuance_log (time);

-- The last entry of the chain: one row, which writers lock.
CREATE TABLE issuance_log_head (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    sequence BIGINT NOT NULL,
    hash     BYTEA NOT NULL CHECK (length(hash) = 32)
);

-- Whose keys signed checkpoints: certificates of intermediates, by their SHA-256.
CREATE TABLE issuance_log_signer (
    fingerprint BYTEA PRIMARY KEY CHECK (length(fingerprint) = 32),
    certificate BYTEA NOT NULL
);

-- What the head was at every commit, signed.
CREATE TABLE issuance_log_checkpoint (
    sequence  BIGINT PRIMARY KEY REFERENCES issuance_log (sequence),
    hash      BYTEA NOT NULL CHECK (length(hash) = 32),
    time      BIGINT NOT NULL,
    signer    BYTEA NOT NULL REFERENCES issuance_log_signer (fingerprint),
    signature BYTEA NOT NULL
);

-- Against mistakes. Against malice there are the hashes, the signatures, and anchors kept elsewhere.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END
$$;
CREATE TRIGGER issuance_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON issuance_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER issuance_log_checkpoint_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON issuance_log_checkpoint
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Join tokens, by the SHA-256 of the token.
CREATE TABLE join_token (
    hash       BYTEA PRIMARY KEY CHECK (length(hash) = 32),
    spiffe_id  TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at    BIGINT
);
CREATE INDEX join_token_expires_at ON join_token (expires_at);

-- The same tables as for PostgreSQL. Times are milliseconds since 1970-01-01T00:00:00Z.

-- Which trust domain all of this is of: one row.
CREATE TABLE trust_domain (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    name TEXT NOT NULL
) STRICT;

-- Every issuance, a chain of hashes. Only `record` is hashed; the columns before it are for searches, and `log verify`
-- compares them with it.
CREATE TABLE issuance_log (
    sequence      INTEGER PRIMARY KEY CHECK (sequence > 0),
    time          INTEGER NOT NULL,
    serial        TEXT NOT NULL UNIQUE,
    spiffe_id     TEXT NOT NULL,
    attestation   TEXT NOT NULL,
    record        TEXT NOT NULL,
    previous_hash BLOB NOT NULL CHECK (length(previous_hash) = 32),
    hash          BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
CREATE INDEX issuance_log_spiffe_id ON issuance_log (spiffe_id, sequence);
CREATE INDEX issuance_log_time ON issuance_log (time);

-- The last entry of the chain: one row, which writers lock.
CREATE TABLE issuance_log_head (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    sequence INTEGER NOT NULL,
    hash     BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

-- Whose keys signed checkpoints: certificates of intermediates, by their SHA-256.
CREATE TABLE issuance_log_signer (
    fingerprint BLOB PRIMARY KEY CHECK (length(fingerprint) = 32),
    certificate BLOB NOT NULL
) STRICT;

-- What the head was at every commit, signed.
CREATE TABLE issuance_log_checkpoint (
    sequence  INTEGER PRIMARY KEY REFERENCES issuance_log (sequence),
    hash      BLOB NOT NULL CHECK (length(hash) = 32),
    time      INTEGER NOT NULL,
    signer    BLOB NOT NULL REFERENCES issuance_log_signer (fingerprint),
    signature BLOB NOT NULL
) STRICT;

-- Against mistakes. Against malice there are the hashes, the signatures, and anchors kept elsewhere.
CREATE TRIGGER issuance_log_no_update BEFORE UPDATE ON issuance_log
BEGIN SELECT RAISE(ABORT, 'the issuance log is append-only'); END;
CREATE TRIGGER issuance_log_no_delete BEFORE DELETE ON issuance_log
BEGIN SELECT RAISE(ABORT, 'the issuance log is append-only'); END;
-- INSERT OR REPLACE deletes, and no trigger on deletion is told.
CREATE TRIGGER issuance_log_in_order BEFORE INSERT ON issuance_log
WHEN NEW.sequence <> (SELECT coalesce(max(sequence), 0) + 1 FROM issuance_log)
  OR EXISTS (SELECT 1 FROM issuance_log WHERE serial = NEW.serial)
BEGIN SELECT RAISE(ABORT, 'the issuance log is append-only, and has every serial number once'); END;
CREATE TRIGGER issuance_log_checkpoint_no_update BEFORE UPDATE ON issuance_log_checkpoint
BEGIN SELECT RAISE(ABORT, 'the checkpoints of the issuance log are append-only'); END;
CREATE TRIGGER issuance_log_checkpoint_no_delete BEFORE DELETE ON issuance_log_checkpoint
BEGIN SELECT RAISE(ABORT, 'the checkpoints of the issuance log are append-only'); END;

-- Join tokens, by the SHA-256 of the token.
CREATE TABLE join_token (
    hash       BLOB PRIMARY KEY CHECK (length(hash) = 32),
    spiffe_id  TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at    INTEGER
) STRICT;
CREATE INDEX join_token_expires_at ON join_token (expires_at);

-- The state of the authorities, which all replicas have in common: one row, which whoever changes it locks. Private keys
-- are not in it.
CREATE TABLE authority_state (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    version   BIGINT NOT NULL,
    document  TEXT,
    signature BYTEA
);
INSERT INTO authority_state (id, version) VALUES (1, 0);

-- What each replica last said of itself.
CREATE TABLE replica (
    name         TEXT PRIMARY KEY,
    sequence     BIGINT NOT NULL,
    intermediate TEXT NOT NULL,
    seen_at      BIGINT NOT NULL
);

-- A gateway's spool: the rows of all its trials, and what the recorders said they have.
CREATE TABLE event (
    trial TEXT NOT NULL,
    source TEXT NOT NULL,
    boot INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    tick_ms INTEGER NOT NULL,
    at_utc_ms INTEGER NOT NULL,
    at_uncertainty_ms INTEGER,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    raw BLOB NOT NULL,
    tag BLOB NOT NULL,
    received_at_utc_ms INTEGER NOT NULL,
    PRIMARY KEY (trial, source, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE trial (
    trial TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (trial, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE receipt (
    trial TEXT NOT NULL,
    source TEXT NOT NULL,
    recorder TEXT NOT NULL,
    stored_through_seq INTEGER NOT NULL,
    made_at_utc_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX receipt_of ON receipt (trial, source);
CREATE TABLE session (number INTEGER PRIMARY KEY, started_at_utc_ms INTEGER NOT NULL) STRICT;
CREATE TABLE quarantine (
    trial TEXT NOT NULL,
    source TEXT NOT NULL,
    boot INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    raw BLOB NOT NULL,
    tag BLOB NOT NULL,
    reason TEXT NOT NULL,
    noted_at_utc_ms INTEGER NOT NULL
) STRICT;

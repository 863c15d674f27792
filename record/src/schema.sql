-- A trial's record. Rows are added, never changed and never removed.
CREATE TABLE event (
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
    PRIMARY KEY (source, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE trial (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE hole (
    source TEXT NOT NULL,
    from_seq INTEGER NOT NULL,
    to_seq INTEGER NOT NULL,
    reason TEXT NOT NULL,
    noted_at_utc_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE receipt (
    source TEXT NOT NULL,
    from_seq INTEGER NOT NULL,
    to_seq INTEGER NOT NULL,
    digest TEXT NOT NULL,
    recorder TEXT NOT NULL,
    key TEXT NOT NULL,
    signature TEXT NOT NULL,
    made_at_utc_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE quarantine (
    source TEXT NOT NULL,
    boot INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    raw BLOB NOT NULL,
    tag BLOB NOT NULL,
    reason TEXT NOT NULL,
    noted_at_utc_ms INTEGER NOT NULL
) STRICT;

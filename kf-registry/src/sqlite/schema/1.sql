CREATE TABLE models (
    id          INTEGER PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    properties  TEXT NOT NULL,
    revision    INTEGER NOT NULL,
    created     INTEGER NOT NULL,
    updated     INTEGER NOT NULL
) STRICT;

CREATE TABLE versions (
    id          INTEGER PRIMARY KEY,
    model_id    INTEGER NOT NULL REFERENCES models (id),
    number      INTEGER NOT NULL CHECK (number >= 1),
    digest      TEXT NOT NULL,
    uri         TEXT NOT NULL,
    size        INTEGER NOT NULL CHECK (size >= 0),
    metadata    TEXT NOT NULL,
    parameters  TEXT NOT NULL,
    metrics     TEXT NOT NULL,
    lineage     TEXT NOT NULL,
    author      TEXT NOT NULL,
    created     INTEGER NOT NULL,
    -- What follows may change.
    description TEXT NOT NULL,
    state       TEXT NOT NULL,
    properties  TEXT NOT NULL,
    revision    INTEGER NOT NULL,
    updated     INTEGER NOT NULL,
    UNIQUE (model_id, number),
    UNIQUE (model_id, digest)
) STRICT;

CREATE INDEX versions_by_digest ON versions (digest);

CREATE TABLE registration_keys (
    model_id   INTEGER NOT NULL REFERENCES models (id),
    key        TEXT NOT NULL,
    version_id INTEGER NOT NULL REFERENCES versions (id),
    PRIMARY KEY (model_id, key)
) STRICT, WITHOUT ROWID;

-- Every run and task that registered a version.
CREATE TABLE run_links (
    run_id     TEXT NOT NULL,
    version_id INTEGER NOT NULL REFERENCES versions (id),
    task       TEXT NOT NULL,
    created    INTEGER NOT NULL,
    PRIMARY KEY (run_id, version_id, task)
) STRICT, WITHOUT ROWID;

-- The data that a version was made from, of every registration.
CREATE TABLE data_links (
    digest     TEXT NOT NULL,
    version_id INTEGER NOT NULL REFERENCES versions (id),
    name       TEXT NOT NULL,
    created    INTEGER NOT NULL,
    PRIMARY KEY (digest, version_id, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE alias_events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    model_id INTEGER NOT NULL REFERENCES models (id),
    alias    TEXT NOT NULL,
    held     INTEGER,
    holds    INTEGER,
    actor    TEXT NOT NULL,
    reason   TEXT NOT NULL,
    at       INTEGER NOT NULL,
    FOREIGN KEY (model_id, holds) REFERENCES versions (model_id, number)
) STRICT;

CREATE INDEX alias_events_by_alias ON alias_events (model_id, alias, sequence);

CREATE TRIGGER versions_are_immutable
BEFORE UPDATE OF id, model_id, number, digest, uri, size, metadata, parameters, metrics, lineage, author, created
ON versions
BEGIN
    SELECT RAISE(ABORT, 'a registered version is immutable');
END;

CREATE TRIGGER versions_stay BEFORE DELETE ON versions
BEGIN
    SELECT RAISE(ABORT, 'a registered version is never deleted');
END;

CREATE TRIGGER alias_events_are_immutable BEFORE UPDATE ON alias_events
BEGIN
    SELECT RAISE(ABORT, 'the history of an alias is append-only');
END;

CREATE TRIGGER alias_events_stay BEFORE DELETE ON alias_events
BEGIN
    SELECT RAISE(ABORT, 'the history of an alias is append-only');
END;

-- A run as it was created; what changes is in heads.
CREATE TABLE runs (
    no          INTEGER PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE,
    pipeline    TEXT NOT NULL,
    spec_digest TEXT NOT NULL,
    args        TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    spec        TEXT NOT NULL
) STRICT;
CREATE INDEX runs_of_pipeline ON runs (pipeline);

-- Where a run stands. Apart from runs, since every commit writes it and should not write the spec again.
CREATE TABLE heads (
    no       INTEGER PRIMARY KEY REFERENCES runs,
    epoch    INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    state    TEXT NOT NULL,
    error    TEXT,
    ended_at INTEGER
) STRICT;
CREATE TRIGGER runs_have_heads AFTER INSERT ON runs BEGIN
    INSERT INTO heads (no, epoch, seq, state) VALUES (NEW.no, 0, 0, 'PENDING');
END;

-- A row per commit, in one tree that grows at its end: key = runs.no << 32 | seq.
CREATE TABLE journal (
    key    INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    events TEXT NOT NULL
) STRICT;

-- A task that ended. Recorded again it gets a new id, so ids are in the order of the commits and what io says of
-- the old one joins nothing any more.
CREATE TABLE executions (
    id         INTEGER PRIMARY KEY,
    run        INTEGER NOT NULL REFERENCES runs,
    task       TEXT NOT NULL,
    state      TEXT NOT NULL,
    cache_key  TEXT,
    record     TEXT NOT NULL,
    component  TEXT AS (record ->> 'component') VIRTUAL,
    started_at INTEGER AS (record ->> 'started_at') VIRTUAL,
    ended_at   INTEGER AS (record ->> 'ended_at') VIRTUAL,
    inputs     TEXT AS (record -> 'inputs') VIRTUAL,
    outputs    TEXT AS (record -> 'outputs') VIRTUAL,
    UNIQUE (run, task)
) STRICT;
CREATE INDEX executions_to_reuse ON executions (cache_key) WHERE cache_key IS NOT NULL AND state = 'COMPLETE';

-- Which executions read ('in') or made ('out') which content.
CREATE TABLE io (
    digest    TEXT NOT NULL,
    direction TEXT NOT NULL CHECK (direction IN ('in', 'out')),
    execution INTEGER NOT NULL,
    port      TEXT NOT NULL,
    position  INTEGER NOT NULL,
    PRIMARY KEY (digest, direction, execution, port, position)
) STRICT, WITHOUT ROWID;

-- A commit is one INSERT into this view: one statement is one transaction and one way to the database's thread,
-- and a caller that goes away in the middle leaves nothing open.
CREATE VIEW commits (run, epoch, expected_seq, at, events, state, error, ended_at, executions, io) AS
    SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL WHERE FALSE;
CREATE TRIGGER make_commit INSTEAD OF INSERT ON commits BEGIN
    SELECT RAISE(ABORT, 'kf: fenced') WHERE NOT EXISTS (
        SELECT 1 FROM runs JOIN heads USING (no)
        WHERE id = NEW.run AND epoch = NEW.epoch AND seq = NEW.expected_seq
    );
    INSERT INTO journal (key, at, events)
        SELECT no << 32 | (NEW.expected_seq + 1), NEW.at, NEW.events FROM runs WHERE id = NEW.run;
    UPDATE heads SET
        seq = NEW.expected_seq + 1,
        state = coalesce(NEW.state, state),
        error = iif(NEW.state IS NULL, error, NEW.error),
        ended_at = iif(NEW.state IS NULL, ended_at, NEW.ended_at)
        WHERE no = (SELECT no FROM runs WHERE id = NEW.run);
    INSERT OR REPLACE INTO executions (run, task, state, cache_key, record)
        SELECT runs.no, each.value ->> 'task', each.value ->> 'state', each.value ->> 'cache_key', each.value
        FROM runs, json_each(NEW.executions) AS each WHERE runs.id = NEW.run;
    INSERT OR REPLACE INTO io (digest, direction, execution, port, position)
        SELECT each.value ->> 4, each.value ->> 1, executions.id, each.value ->> 2, each.value ->> 3
        FROM json_each(NEW.io) AS each
        JOIN runs ON runs.id = NEW.run
        JOIN executions ON executions.run = runs.no AND executions.task = each.value ->> 0;
END;

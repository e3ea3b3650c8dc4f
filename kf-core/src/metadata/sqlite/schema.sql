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

-- Where a run stands. Apart from runs, so that a change does not write the spec again.
CREATE TABLE heads (
    no       INTEGER PRIMARY KEY,
    epoch    INTEGER NOT NULL,
    state    TEXT NOT NULL,
    error    TEXT,
    ended_at INTEGER
) STRICT;
CREATE TRIGGER runs_have_heads AFTER INSERT ON runs BEGIN
    INSERT INTO heads (no, epoch, state) VALUES (NEW.no, 0, 'PENDING');
END;

-- A row per commit: key = runs.no << 32 | its number. What a commit costs is the pages that it touches, so there is
-- one tree that grows at its end, and the number of a run's last commit is kept nowhere else.
CREATE TABLE journal (
    key    INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    events TEXT NOT NULL
) STRICT;

-- A row per task that ended: id = runs.no << 32 | its place among those of its run. Recorded again it gets a new
-- place, and what io says of the old one joins nothing any more. cache_key holds the first 8 bytes of the key of an
-- execution that may be reused: an index of whole keys would be seven times as large, and a commit writes to random
-- places of it.
CREATE TABLE executions (
    id        INTEGER PRIMARY KEY,
    run       INTEGER NOT NULL,
    task      TEXT NOT NULL,
    cache_key INTEGER,
    record    TEXT NOT NULL,
    UNIQUE (run, task)
) STRICT;
CREATE INDEX executions_to_reuse ON executions (cache_key) WHERE cache_key IS NOT NULL;

-- Which executions read (0) or made (1) which content, by the first 8 bytes of its digest.
CREATE TABLE io (
    digest    INTEGER NOT NULL,
    made      INTEGER NOT NULL,
    execution INTEGER NOT NULL,
    PRIMARY KEY (digest, made, execution)
) STRICT, WITHOUT ROWID;

-- For people with an SQL prompt.
CREATE VIEW lineage AS
    SELECT
        runs.id AS run, task, record ->> 'component' AS component, record ->> 'state' AS state,
        record ->> 'started_at' AS started_at, record ->> 'ended_at' AS ended_at,
        record -> 'inputs' AS inputs, record -> 'outputs' AS outputs,
        record -> 'input_artifacts' AS input_artifacts, record -> 'output_artifacts' AS output_artifacts
    FROM executions JOIN runs ON runs.no = executions.run;

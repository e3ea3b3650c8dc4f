-- A run as it was created; what changes is in heads.
CREATE TABLE runs (
    no          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE,
    pipeline    TEXT NOT NULL,
    spec_digest TEXT NOT NULL,
    args        TEXT NOT NULL,
    created_at  BIGINT NOT NULL,
    spec        TEXT NOT NULL
);
CREATE INDEX runs_of_pipeline ON runs (pipeline, no);

-- Where a run stands and who writes it. Apart from runs, so that a change does not write the spec again; with room in
-- its pages, so that a commit touches no index.
CREATE TABLE heads (
    no         BIGINT PRIMARY KEY REFERENCES runs ON DELETE CASCADE,
    epoch      BIGINT NOT NULL DEFAULT 0,
    seq        BIGINT NOT NULL DEFAULT 0,
    executions BIGINT NOT NULL DEFAULT 0,
    state      TEXT NOT NULL DEFAULT 'PENDING',
    error      TEXT,
    ended_at   BIGINT,
    owner      TEXT,
    held_until TIMESTAMPTZ
) WITH (fillfactor = 50);
CREATE INDEX heads_under_way ON heads (no) WHERE state IN ('PENDING', 'RUNNING');

-- A row per commit.
CREATE TABLE journal (
    run    BIGINT NOT NULL REFERENCES runs ON DELETE CASCADE,
    seq    BIGINT NOT NULL,
    epoch  BIGINT NOT NULL,
    at     BIGINT NOT NULL,
    events TEXT NOT NULL,
    PRIMARY KEY (run, seq)
);

-- A row per task that ended: id = runs.no << 32 | its place among those of its run. Recorded again it gets a new
-- place, and what io says of the old one joins nothing any more. cache_key is there where it may be reused. The record
-- is text, since JSON of PostgreSQL's does not keep every text.
CREATE TABLE executions (
    id        BIGINT PRIMARY KEY,
    run       BIGINT NOT NULL REFERENCES runs ON DELETE CASCADE,
    task      TEXT NOT NULL,
    cache_key BYTEA,
    record    TEXT NOT NULL,
    UNIQUE (run, task)
);
CREATE INDEX executions_to_reuse ON executions (cache_key, id) WHERE cache_key IS NOT NULL;

-- Which executions read or made which content.
CREATE TABLE io (
    digest    BYTEA NOT NULL,
    made      BOOLEAN NOT NULL,
    execution BIGINT NOT NULL,
    PRIMARY KEY (digest, made, execution)
);

-- For people with an SQL prompt.
CREATE VIEW lineage AS
    SELECT
        runs.id AS run, task, record::json ->> 'component' AS component, record::json ->> 'state' AS state,
        record::json ->> 'started_at' AS started_at, record::json ->> 'ended_at' AS ended_at,
        record::json -> 'inputs' AS inputs, record::json -> 'outputs' AS outputs,
        record::json -> 'input_artifacts' AS input_artifacts, record::json -> 'output_artifacts' AS output_artifacts
    FROM executions JOIN runs ON runs.no = executions.run;

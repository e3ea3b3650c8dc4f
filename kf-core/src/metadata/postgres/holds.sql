-- Who has which place under a name, of which the SHA-256 is kept. Its end is that of the lease under which it was taken.
CREATE TABLE holds (
    name  TEXT NOT NULL,
    place INTEGER NOT NULL,
    run   BIGINT NOT NULL REFERENCES runs ON DELETE CASCADE,
    epoch BIGINT NOT NULL,
    id    TEXT NOT NULL,
    taken TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, place)
);

-- The first schema.

-- Single values: the directory's generation, the latest time of the clock, and check values
-- ("check:NAME").
CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('generation', 0), ('clock', 0.0);

-- With rowids: an account of a few kilobytes still fits on one page then.
CREATE TABLE accounts (
    name TEXT PRIMARY KEY NOT NULL,
    version INTEGER NOT NULL,
    due REAL,
    state BLOB NOT NULL
);
CREATE INDEX accounts_due ON accounts (due) WHERE due IS NOT NULL;

CREATE TABLE teams (
    name TEXT PRIMARY KEY NOT NULL,
    generation INTEGER NOT NULL,
    team TEXT NOT NULL
);
CREATE INDEX teams_generation ON teams (generation);

CREATE TABLE keys (
    id TEXT PRIMARY KEY NOT NULL,
    team TEXT NOT NULL REFERENCES teams (name),
    name TEXT NOT NULL,
    digest BLOB NOT NULL,
    created REAL NOT NULL,
    expires REAL,
    state TEXT NOT NULL,
    generation INTEGER NOT NULL
);
CREATE INDEX keys_generation ON keys (generation);

-- In the order of time: new entries are added at the end, and reports read one stretch.
CREATE TABLE entries (
    id TEXT NOT NULL UNIQUE,
    at REAL NOT NULL,
    team TEXT NOT NULL,
    key TEXT NOT NULL,
    model TEXT NOT NULL,
    size TEXT NOT NULL,
    quality TEXT NOT NULL,
    outcome TEXT NOT NULL,
    requests INTEGER NOT NULL,
    images_bought INTEGER NOT NULL,
    images_cached INTEGER NOT NULL,
    images_unknown INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    saved INTEGER NOT NULL,
    PRIMARY KEY (at, id)
) WITHOUT ROWID;

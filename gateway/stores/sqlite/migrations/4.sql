-- Sums of usage; recent requests, errors and latency; claims; stamps of accounts.

ALTER TABLE entries ADD COLUMN images_coalesced INTEGER NOT NULL DEFAULT 0;
ALTER TABLE entries ADD COLUMN requests_refused INTEGER NOT NULL DEFAULT 0;

-- Hours and days count from 1970. `usage_sums.py` says what each table is for.
CREATE TABLE usage_hours (
    hour INTEGER NOT NULL,
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
    images_coalesced INTEGER NOT NULL,
    requests_refused INTEGER NOT NULL,
    PRIMARY KEY (hour, team, key, model, size, quality, outcome)
) WITHOUT ROWID;

-- A team's days lie together: sums by team and key need no sorting, a team's days no search.
CREATE TABLE usage_days (
    team TEXT NOT NULL,
    key TEXT NOT NULL,
    day INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    images_bought INTEGER NOT NULL,
    images_cached INTEGER NOT NULL,
    images_unknown INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    saved INTEGER NOT NULL,
    images_coalesced INTEGER NOT NULL,
    requests_refused INTEGER NOT NULL,
    PRIMARY KEY (team, key, day)
) WITHOUT ROWID;

CREATE TABLE usage_totals (
    hour INTEGER PRIMARY KEY,
    requests INTEGER NOT NULL,
    images_bought INTEGER NOT NULL,
    images_cached INTEGER NOT NULL,
    images_unknown INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    saved INTEGER NOT NULL,
    images_coalesced INTEGER NOT NULL,
    requests_refused INTEGER NOT NULL
);

-- Entries before this time are in the sums.
INSERT INTO meta VALUES ('summed', 0.0);

-- Recent requests. Places sort them by time.
CREATE TABLE activity (
    place TEXT PRIMARY KEY NOT NULL,
    ring TEXT NOT NULL,
    id TEXT NOT NULL,
    team TEXT,
    key TEXT,
    model TEXT,
    size TEXT,
    quality TEXT,
    outcome TEXT NOT NULL,
    status INTEGER NOT NULL,
    code TEXT,
    requests INTEGER NOT NULL,
    images INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    saved INTEGER NOT NULL,
    total REAL NOT NULL,
    own REAL NOT NULL,
    upstream REAL,
    fingerprint TEXT
) WITHOUT ROWID;
CREATE INDEX activity_ring ON activity (ring, place);

-- Hours count from 1970. An unknown team and a missing code are "".
CREATE TABLE errors (
    hour INTEGER NOT NULL,
    team TEXT NOT NULL,
    outcome TEXT NOT NULL,
    code TEXT NOT NULL,
    status INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    last_at REAL NOT NULL,
    last_id TEXT NOT NULL,
    PRIMARY KEY (hour, team, outcome, code, status)
) WITHOUT ROWID;

-- The numbers of a `HourLatency`, in one text.
CREATE TABLE latency (hour INTEGER PRIMARY KEY, numbers TEXT NOT NULL);

-- The last batch of each gateway: a batch that is written again is skipped.
CREATE TABLE activity_writers (
    writer TEXT PRIMARY KEY NOT NULL,
    number INTEGER NOT NULL,
    at REAL NOT NULL
) WITHOUT ROWID;

-- Claims for what only one gateway may do. The note is JSON.
CREATE TABLE claims (
    name TEXT PRIMARY KEY NOT NULL,
    owner TEXT NOT NULL,
    ends REAL NOT NULL,
    done INTEGER NOT NULL,
    note BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX claims_ends ON claims (ends);

-- Tells two states of the same version apart: a backup that is copied into the database under a
-- running gateway lets versions be given out again.
ALTER TABLE accounts ADD COLUMN stamp INTEGER NOT NULL DEFAULT 0;

-- Operations of purchases, and the gateways that are alive.

-- A record has the operations of equal requests of one key line. `bought` is 1 where a full store
-- may forget it.
CREATE TABLE operations (
    name TEXT PRIMARY KEY NOT NULL,
    stamp BLOB NOT NULL,
    ends REAL NOT NULL,
    bought INTEGER NOT NULL,
    state BLOB NOT NULL
);
CREATE INDEX operations_ends ON operations (ends);

CREATE TABLE gateways (id TEXT PRIMARY KEY NOT NULL, ends REAL NOT NULL) WITHOUT ROWID;

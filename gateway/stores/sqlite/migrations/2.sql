-- Keys have limits of their own, can be rotated, and keep when they were last used.

ALTER TABLE keys ADD COLUMN limits TEXT NOT NULL DEFAULT '{}';
ALTER TABLE keys ADD COLUMN first TEXT;
ALTER TABLE keys ADD COLUMN grace_ends REAL;

-- A table of its own: gateways need not reload a key because it was used.
CREATE TABLE uses (key TEXT PRIMARY KEY NOT NULL, at REAL NOT NULL) WITHOUT ROWID;

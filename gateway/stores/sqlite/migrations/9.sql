-- The purchases that bought kept pictures, by the SHA-256 of the picture's bytes.

CREATE TABLE pictures (
    digest BLOB NOT NULL,
    purchase TEXT NOT NULL,
    at REAL NOT NULL,
    request_id TEXT,
    team TEXT NOT NULL,
    key TEXT NOT NULL,
    model TEXT NOT NULL,
    cost INTEGER NOT NULL,
    PRIMARY KEY (digest, purchase)
) WITHOUT ROWID;
CREATE INDEX pictures_at ON pictures (at);

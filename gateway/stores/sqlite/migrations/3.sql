-- The audit log, in the order of writing. `before` and `after` are JSON, readable in the database.

CREATE TABLE audit (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    who TEXT NOT NULL,
    action TEXT NOT NULL,
    team TEXT,
    key TEXT,
    before TEXT NOT NULL,
    after TEXT NOT NULL
);
CREATE INDEX audit_at ON audit (at);

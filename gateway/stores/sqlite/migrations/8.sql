-- Purchases that were charged as unknown, each on its own, with their refunds (JSON).

CREATE TABLE purchases (
    id TEXT NOT NULL UNIQUE,
    request_id TEXT,
    state TEXT NOT NULL,
    at REAL NOT NULL,
    team TEXT NOT NULL,
    key TEXT NOT NULL,
    model TEXT NOT NULL,
    size TEXT NOT NULL,
    quality TEXT NOT NULL,
    images INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    in_gateway INTEGER NOT NULL,
    in_key INTEGER NOT NULL,
    refunded TEXT,
    PRIMARY KEY (at, id)
) WITHOUT ROWID;

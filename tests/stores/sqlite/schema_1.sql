-- A database as schema 1 wrote it: never to be changed.
BEGIN TRANSACTION;
CREATE TABLE accounts (
        name TEXT PRIMARY KEY NOT NULL,
        version INTEGER NOT NULL,
        due REAL,
        state BLOB NOT NULL
    );
INSERT INTO "accounts" VALUES('team:red',1,1772366705.5,X'9595CD50210102030495CD5EFA050607089192CE69A42A400281A16199CB41DA690A90200000CB41DA690ADC600000A26B31AB6770742D696D6167652D32A9313032347831303234A46869676801CE00033838C381A16299CB3FF0000000000000CB4000000000000000A26B32A16DA46175746FA46175746F0209C2');
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
    ) WITHOUT ROWID
    ;
INSERT INTO "entries" VALUES('e1',1772366400.0,'red','k1','m','s','q','bought',1,1,0,0,5,0);
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
INSERT INTO "keys" VALUES('k1','red','Ünï',X'000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F',1772366400.0,1772366401.0,'active',2);
INSERT INTO "keys" VALUES('k2','red','',X'0000000000000000000000000000000000000000000000000000000000000000',1772366400.0,NULL,'revoked',4);
CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
INSERT INTO "meta" VALUES('check:pepper',X'007269676874');
INSERT INTO "meta" VALUES('clock',1772366400.0);
INSERT INTO "meta" VALUES('generation',4);
CREATE TABLE teams (
        name TEXT PRIMARY KEY NOT NULL,
        generation INTEGER NOT NULL,
        team TEXT NOT NULL
    );
INSERT INTO "teams" VALUES('red',1,'{"name":"red","models":["gpt-image-2"],"sizes":[],"qualities":["low","high"],"max_n":4,"cache":false,"limits":{"images_per_day":100,"images_per_month":null,"cost_per_day":null,"cost_per_month":9007199254740993,"requests_per_minute":null,"concurrent_requests":0}}');
INSERT INTO "teams" VALUES('blue',1,'{"name":"blue","models":null,"sizes":null,"qualities":null,"max_n":null,"cache":true,"limits":{"images_per_day":null,"images_per_month":null,"cost_per_day":null,"cost_per_month":null,"requests_per_minute":null,"concurrent_requests":null}}');
CREATE INDEX accounts_due ON accounts (due) WHERE due IS NOT NULL;
CREATE INDEX teams_generation ON teams (generation);
CREATE INDEX keys_generation ON keys (generation);
COMMIT;
PRAGMA application_id = 1734440037;
PRAGMA user_version = 1;

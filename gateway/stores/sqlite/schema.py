"""The tables, and which databases this code may touch.

`user_version` counts schemas. A database of an older one is brought up to date at the start; one
of a newer is refused, because an older gateway cannot know what it would break.
`application_id` marks the file as the gateway's, so that another program's database is never
written to.

No secret and no prompt has a column here.
"""

import sqlite3
from itertools import chain

from gateway.stores.faults import UnusableStore

VERSION = 5
APPLICATION_ID = 0x67617465
"""The bytes "gate": `file` shows them."""

AUDIT = (
    # In the order of writing. What is before and after is JSON, so that it can be read here too.
    """
    CREATE TABLE audit (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        at REAL NOT NULL,
        who TEXT NOT NULL,
        action TEXT NOT NULL,
        team TEXT,
        key TEXT,
        before TEXT NOT NULL,
        after TEXT NOT NULL
    )
    """,
    "CREATE INDEX audit_at ON audit (at)",
)

CLAIMS = (
    # What gateways do once only; the note is JSON.
    """
    CREATE TABLE claims (
        name TEXT PRIMARY KEY NOT NULL,
        owner TEXT NOT NULL,
        ends REAL NOT NULL,
        done INTEGER NOT NULL,
        note BLOB NOT NULL
    ) WITHOUT ROWID
    """,
    "CREATE INDEX claims_ends ON claims (ends)",
)

_SUMS = """
    requests INTEGER NOT NULL,
    images_bought INTEGER NOT NULL,
    images_cached INTEGER NOT NULL,
    images_unknown INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    saved INTEGER NOT NULL,
    images_coalesced INTEGER NOT NULL,
    requests_refused INTEGER NOT NULL
"""

USAGE = (
    # Hours and days are counted since 1970. What each table is for is told in `usage_sums`.
    f"""
    CREATE TABLE usage_hours (
        hour INTEGER NOT NULL,
        team TEXT NOT NULL,
        key TEXT NOT NULL,
        model TEXT NOT NULL,
        size TEXT NOT NULL,
        quality TEXT NOT NULL,
        outcome TEXT NOT NULL,
        {_SUMS},
        PRIMARY KEY (hour, team, key, model, size, quality, outcome)
    ) WITHOUT ROWID
    """,
    # A team's days lie together: sums by team and key need no sorting, a team's days no search.
    f"""
    CREATE TABLE usage_days (
        team TEXT NOT NULL,
        key TEXT NOT NULL,
        day INTEGER NOT NULL,
        {_SUMS},
        PRIMARY KEY (team, key, day)
    ) WITHOUT ROWID
    """,
    f"CREATE TABLE usage_totals (hour INTEGER PRIMARY KEY, {_SUMS})",
    # Entries of before this time are in the sums.
    "INSERT INTO meta VALUES ('summed', 0.0)",
)

_NEW_COLUMNS = tuple(
    f"ALTER TABLE entries ADD COLUMN {name} INTEGER NOT NULL DEFAULT 0"
    for name in ("images_coalesced", "requests_refused")
)

ACTIVITY = (
    # Recent requests. Places sort them by time.
    """
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
    ) WITHOUT ROWID
    """,
    "CREATE INDEX activity_ring ON activity (ring, place)",
    # Hours are counted since 1970. Nobody's team and no code are "".
    """
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
    ) WITHOUT ROWID
    """,
    # The numbers of a `Latency`, in one text.
    "CREATE TABLE latency (hour INTEGER PRIMARY KEY, numbers TEXT NOT NULL)",
    # The last batch of each gateway: one that is written again is known by it.
    """
    CREATE TABLE activity_writers (
        writer TEXT PRIMARY KEY NOT NULL,
        number INTEGER NOT NULL,
        at REAL NOT NULL
    ) WITHOUT ROWID
    """,
)

STAMPS = (
    # Tells two states of the same version apart: a back-up that is written into the database under
    # a running gateway lets versions be given out again.
    "ALTER TABLE accounts ADD COLUMN stamp INTEGER NOT NULL DEFAULT 0",
)

ROUTES = ("ALTER TABLE activity ADD COLUMN route TEXT",)

TABLES = (
    # Single values: the last generation, the clock's mark, and check values ("check:NAME").
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID",
    "INSERT INTO meta VALUES ('generation', 0), ('clock', 0.0)",
    # Not WITHOUT ROWID: a state of a few kilobytes still fits on one page this way.
    """
    CREATE TABLE accounts (
        name TEXT PRIMARY KEY NOT NULL,
        version INTEGER NOT NULL,
        due REAL,
        state BLOB NOT NULL
    )
    """,
    "CREATE INDEX accounts_due ON accounts (due) WHERE due IS NOT NULL",
    """
    CREATE TABLE teams (
        name TEXT PRIMARY KEY NOT NULL,
        generation INTEGER NOT NULL,
        team TEXT NOT NULL
    )
    """,
    "CREATE INDEX teams_generation ON teams (generation)",
    """
    CREATE TABLE keys (
        id TEXT PRIMARY KEY NOT NULL,
        team TEXT NOT NULL REFERENCES teams (name),
        name TEXT NOT NULL,
        digest BLOB NOT NULL,
        created REAL NOT NULL,
        expires REAL,
        state TEXT NOT NULL,
        generation INTEGER NOT NULL,
        limits TEXT NOT NULL DEFAULT '{}',
        first TEXT,
        grace_ends REAL
    )
    """,
    "CREATE INDEX keys_generation ON keys (generation)",
    # Apart from the keys: a use is no change that gateways have to hear of.
    "CREATE TABLE uses (key TEXT PRIMARY KEY NOT NULL, at REAL NOT NULL) WITHOUT ROWID",
    # Kept in the order of time: entries are added at the end, and reports read one stretch.
    """
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
        images_coalesced INTEGER NOT NULL DEFAULT 0,
        requests_refused INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (at, id)
    ) WITHOUT ROWID
    """,
    *AUDIT,
    *CLAIMS,
    *USAGE,
    *ACTIVITY,
    *STAMPS,
    *ROUTES,
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
)

UPGRADES = (
    # From 1 to 2: keys have limits of their own, can be rotated, and tell when they were used.
    (
        "ALTER TABLE keys ADD COLUMN limits TEXT NOT NULL DEFAULT '{}'",
        "ALTER TABLE keys ADD COLUMN first TEXT",
        "ALTER TABLE keys ADD COLUMN grace_ends REAL",
        "CREATE TABLE uses (key TEXT PRIMARY KEY NOT NULL, at REAL NOT NULL) WITHOUT ROWID",
        "PRAGMA user_version = 2",
    ),
    # From 2 to 3: changes are logged.
    (*AUDIT, "PRAGMA user_version = 3"),
    # From 3 to 4: usage is summed up; requests, errors and latency are kept; what is done once
    # is claimed; accounts' states are stamped.
    (*_NEW_COLUMNS, *USAGE, *ACTIVITY, *CLAIMS, *STAMPS, "PRAGMA user_version = 4"),
    # From 4 to 5: recent requests tell their route.
    (*ROUTES, "PRAGMA user_version = 5"),
)
"""What leads from each schema to the next, the first from 1 to 2."""


def is_blank(connection: sqlite3.Connection) -> bool:
    """Whether the database has nothing in it yet. Raises UnusableStore where it is not ours.

    Needs an open transaction: between two readings another process may make the tables.
    """
    version, application = (
        _pragma(connection, "user_version"),
        _pragma(connection, "application_id"),
    )
    if application == APPLICATION_ID and version > VERSION:
        raise UnusableStore(
            f"it was written by a newer gateway (schema {version}, this one knows {VERSION})"
        )
    if application == APPLICATION_ID and version:
        return False
    if connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall() or version:
        raise UnusableStore("it is another program's database")
    return True


def require(connection: sqlite3.Connection) -> None:
    """Raise UnusableStore unless the tables are there and known."""
    connection.execute("BEGIN")
    if is_blank(connection):
        raise UnusableStore("it is empty, and was not when the gateway started")
    connection.execute("COMMIT")


def create(connection: sqlite3.Connection) -> None:
    """Make the tables, in the transaction that is open."""
    for statement in TABLES:
        connection.execute(statement)


def upgrade(connection: sqlite3.Connection) -> bool:
    """Bring the tables of an older gateway up to date, in the transaction that is open; False where
    they are.
    """
    steps = UPGRADES[_pragma(connection, "user_version") - 1 :]
    for statement in chain.from_iterable(steps):
        connection.execute(statement)
    return bool(steps)


def value(connection: sqlite3.Connection, name: str) -> float:
    """One of the numbers in `meta`. Raises sqlite3.Error where it is missing."""
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    if row is None or not isinstance(row[0], int | float):
        raise sqlite3.DatabaseError(f"the database has no {name}")
    return row[0]


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    ((number,),) = connection.execute(f"PRAGMA {name}")
    return int(number)

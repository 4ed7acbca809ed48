"""The tables, and which databases this code may touch.

`migrations/N.sql` leads from schema N - 1 to schema N. A new database runs all of them, one of an
older gateway those that it lacks. `user_version` is the schema that a database has. A newer one
than this code knows is refused: an older gateway cannot know what it would break.
`application_id` marks the file as the gateway's, so that it never writes to the database of
another program.

No secret and no prompt has a column.
"""

import sqlite3
from importlib.resources import files
from sqlite3 import Connection

from gateway.stores.port import UnusableStore

VERSION = 9
APPLICATION_ID = 0x67617465
"""The bytes "gate": `file` shows them."""

_FOLDER = files("gateway.stores.sqlite") / "migrations"


def current(connection: Connection) -> int:
    """Return the database's schema, 0 where it is empty. Raises UnusableStore where it is not ours.

    Needs an open transaction: between two reads another process may create the tables.
    """
    version = _pragma(connection, "user_version")
    application = _pragma(connection, "application_id")
    if application == APPLICATION_ID and version > VERSION:
        raise UnusableStore(
            f"it was written by a newer gateway (schema {version}, this one knows {VERSION})"
        )
    if application == APPLICATION_ID and version:
        return version
    if connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall() or version:
        raise UnusableStore("it is another program's database")
    return 0


def require(connection: Connection) -> None:
    """Raise UnusableStore unless the tables exist and are known."""
    connection.execute("BEGIN")
    if not current(connection):
        raise UnusableStore("it is empty, and was not when the gateway started")
    connection.execute("COMMIT")


def migrate(connection: Connection) -> bool:
    """Run the migrations that the database lacks, in the open transaction; False for none."""
    version = current(connection)
    if version == VERSION:
        return False
    for number in range(version + 1, VERSION + 1):
        # One by one: `executescript` would commit the transaction first.
        script = (_FOLDER / f"{number}.sql").read_text(encoding="utf-8")
        for statement in script.split(";\n"):
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    return True


def value(connection: Connection, name: str) -> float:
    """Return one of the numbers in `meta`. Raises sqlite3.Error where it is missing."""
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    if row is None or not isinstance(row[0], int | float):
        raise sqlite3.DatabaseError(f"the database has no {name}")
    return row[0]


def advance(connection: Connection, name: str, value: float) -> None:
    """Raise one of the numbers in `meta` to this one, in the open transaction; never lower it."""
    statement = "UPDATE meta SET value = max(value, ?) WHERE name = ?"
    connection.execute(statement, (value, name))


def _pragma(connection: Connection, name: str) -> int:
    ((number,),) = connection.execute(f"PRAGMA {name}")
    return int(number)

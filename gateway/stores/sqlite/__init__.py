"""The embedded store: one SQLite file on a local disk, shared by the processes of one machine."""

from gateway.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]

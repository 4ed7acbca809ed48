"""The suite that every store passes. A store's test file runs it with a class for each part:

    class TestAccounts(AccountConformance): ...

and a fixture `make_store`, which opens stores on the same data each time it is called.
"""

from tests.conformance.accounts import AccountConformance
from tests.conformance.archive import ArchiveConformance
from tests.conformance.audit import AuditConformance
from tests.conformance.claims import ClaimConformance
from tests.conformance.directory import DirectoryConformance
from tests.conformance.history import HistoryConformance
from tests.conformance.processes import ProcessConformance
from tests.conformance.store import MakeStore
from tests.conformance.usage import UsageConformance

__all__ = [
    "AccountConformance",
    "ArchiveConformance",
    "AuditConformance",
    "ClaimConformance",
    "DirectoryConformance",
    "HistoryConformance",
    "MakeStore",
    "ProcessConformance",
    "UsageConformance",
]

"""What every store must do. A store's test file runs it by naming one class for each part:

    class TestAccounts(AccountConformance): ...

and a fixture `make_store`, which opens stores on the same data each time it is called.
"""

from tests.stores.conformance.accounts import AccountConformance
from tests.stores.conformance.activity import ActivityConformance
from tests.stores.conformance.archive import ArchiveConformance
from tests.stores.conformance.audit import AuditConformance
from tests.stores.conformance.claims import ClaimConformance
from tests.stores.conformance.directory import DirectoryConformance
from tests.stores.conformance.processes import ProcessConformance
from tests.stores.conformance.store import MakeStore, Store
from tests.stores.conformance.usage import UsageConformance
from tests.stores.conformance.wall import WallConformance

__all__ = [
    "AccountConformance",
    "ActivityConformance",
    "ArchiveConformance",
    "AuditConformance",
    "ClaimConformance",
    "DirectoryConformance",
    "MakeStore",
    "ProcessConformance",
    "Store",
    "UsageConformance",
    "WallConformance",
]

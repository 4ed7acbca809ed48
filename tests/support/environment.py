"""The environment of the tests and of the gateways that they start, prepared when it is imported.

Nothing here changes what is tested: it only keeps hundreds of processes from repeating work.
"""

import os
import sys

# Each process would compile the gateway again, and each worker all tests. `make clean` removes it.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# jsonschema would build the grammars of all kinds of URI, which takes seconds. It does without.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

CLEAN = {name: text for name, text in os.environ.items() if not name.startswith("GATEWAY_")} | {
    # aiohttp reads all authorities of the system as it is imported. No test needs one of them.
    "SSL_CERT_FILE": os.devnull
}
"""The environment of a gateway without settings of its own."""

"""`gateway serve` on a machine whose clock is wrong by SECONDS.

python -m tests.support.replica SECONDS CONFIG
"""

import os
import sys
import time
from pathlib import Path

from gateway.config.files import load_settings
from gateway.server.run import run


def main() -> None:
    """Serve until SIGTERM, as `gateway serve` does."""
    shift, config = float(sys.argv[1]), Path(sys.argv[2])
    settings, _ = load_settings(config, os.environ, needs_upstream=True)
    run(settings, config, {}, sandbox=False, demo=False, wall=lambda: time.time() + shift)


if __name__ == "__main__":
    main()

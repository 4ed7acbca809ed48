"""The bounds of what one query or body may ask for.

Real use does not reach them. They keep one request, of whatever role, from delaying all others. The
work that is left is done in turns with other tasks (`gateway.core.tasks.in_turns`).
"""

from typing import Annotated

from msgspec import Meta

MOST_DAYS = 3_660
"""The longest span of a query to the admin API in days: ten years."""

TEAM_DAYS = 400
"""The longest span of a team's query about its own usage in days."""

TEAM_ROWS = 100_000
"""The most rows of a team's query about its own usage, which is sent as a whole."""

MOST_GROUPS = 8
"""The most fields that a usage report is grouped by, given twice or not."""

MOST_REQUESTS = 1_000
"""The most requests on one page."""

MOST_CHANGES = 10_000
"""The most changes in one answer."""

MOST_LISTED = 1_000
"""The most alerts, or most repeated requests, in one answer."""

MOST_NAMES = 100
"""The most parameters of a query, and the most options in one table of a body or a file."""

MOST_ITEMS = 100
"""The most models, sizes or qualities in a team's policy."""

MOST_HOLD_SECONDS = 3_600
"""The longest time for which repeats of an unknown outcome are refused."""

MOST_SHOWN = 20
"""The most faults, or known names, in one error."""

MOST_CHARS = 200
"""The longest name, id or other text in a query or body, but for the body of a cache look-up."""

Text = Annotated[
    str, Meta(max_length=MOST_CHARS, description=f"text of at most {MOST_CHARS} characters")
]
"""A name, an id or another short text."""

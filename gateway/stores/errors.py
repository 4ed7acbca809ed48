"""Errors of a store that is set up wrongly, or of what an operator asks of it.

None of them becomes an HTTP response: the command line prints each as one line.
"""


class UnusableStore(Exception):
    """The store cannot be used until an operator acts. The text says how, in one line."""


class UnknownTeam(ValueError):
    """A key names a team that the store does not have."""

    def __init__(self, team: str) -> None:
        super().__init__(f"There is no team {team!r}.")
        self.team = team

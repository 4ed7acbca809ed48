"""What a store refuses besides being away: faults of its set-up, or of what an operator asks for.

None of them has an HTTP answer: they end in one line of the command line.
"""


class UnusableStore(Exception):
    """The store cannot be used until somebody acts: the text is one line that says on what."""


class UnknownTeam(ValueError):
    """A key was to be made for a team that the store does not know."""

    def __init__(self, team: str) -> None:
        super().__init__(f"There is no team {team!r}.")
        self.team = team

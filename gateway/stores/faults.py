"""What a store refuses besides being away: faults of its set-up, or of what an operator asks for.

None of them has an HTTP answer: they end in one line of the command line.
"""

from types import TracebackType
from typing import Protocol, Self


class UnusableStore(Exception):
    """The store cannot be used until somebody acts: the text is one line that says on what."""


class UnknownTeam(ValueError):
    """A key was to be made for a team that the store does not know."""

    def __init__(self, team: str) -> None:
        super().__init__(f"There is no team {team!r}.")
        self.team = team


class Opened(Protocol):
    """Opens on entering an `async with`, and closes on leaving it or where opening fails."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def __aenter__(self) -> Self:
        try:
            await self.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

"""What every store is besides its port: open for the length of a block."""

from types import TracebackType
from typing import Protocol, Self


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

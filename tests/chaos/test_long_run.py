"""A gateway that has answered very many requests of all kinds holds no more than at the start."""

from pathlib import Path

import pytest

from tests.chaos.long_run import long_run


@pytest.mark.parametrize(
    "requests",
    [
        5_000,
        pytest.param(100_000, marks=[pytest.mark.exhaustive, pytest.mark.timeout(1_200)]),
        pytest.param(500_000, marks=pytest.mark.soak),
    ],
)
async def test_many_mixed_requests(tmp_path: Path, requests: int) -> None:
    async with long_run(requests, tmp_path) as run:
        found = await run.run()
    assert not found, "\n".join(found)
    assert len(run.kinds) > 10, run.kinds

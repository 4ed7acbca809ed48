"""Requests made from the OpenAPI document, valid and invalid ones, to both ports of a gateway."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.support.rig import ADMIN_TOKEN, FLAT, running_rig

EXAMPLES = 15
"""How many requests are made for each operation, valid ones and as many invalid ones."""


@pytest.mark.exhaustive
async def test_every_operation_answers_as_documented(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT) as rig:
        document = (await rig.admin("/openapi.json")).json
        sent, bought = await asyncio.to_thread(
            _ask_all, document, rig.url, rig.gateway.admin_url, await rig.key()
        )
        assert {path for path, _ in sent} == set(document["paths"])
        assert {"/v1/images/generations", "/admin/v1/teams"} <= {
            path for path, status in sent if status in (200, 201)
        }
        assert bought > 0
        await rig.assert_books(bought)


def _ask_all(
    document: dict[str, Any], url: str, admin_url: str, key: str
) -> tuple[Counter[tuple[str, int]], int]:
    """Ask for every operation. Returns the statuses of each path, and the images bought."""
    # Its import takes longer than most tests.
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.core.result import Err
    from schemathesis.specs.openapi import checks

    conforming = [
        *(not_a_server_error, checks.status_code_conformance, checks.content_type_conformance),
        checks.response_schema_conformance,
    ]
    sent, bought = Counter[tuple[str, int]](), 0

    def ask(operation: Any, mode: schemathesis.GenerationMode) -> None:
        is_admin = operation.path.startswith("/admin")
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN if is_admin else key}"}
        is_invalid = mode is schemathesis.GenerationMode.NEGATIVE

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask_once(case: schemathesis.Case[Any]) -> None:
            nonlocal bought
            answer = case.call(base_url=admin_url if is_admin else url, headers=headers)
            sent[operation.path, answer.status_code] += 1
            cache = answer.headers.get("cache-status", [""])[0]
            if answer.status_code == 200 and cache.startswith("gateway; fwd"):
                completed = answer.content.count(b"event: image_generation.completed\n")
                bought += completed or len(json.loads(answer.content)["data"])
            # A query may be so long that the line is refused before its parameters are read.
            if is_invalid and answer.status_code != 431:
                case.validate_response(answer, checks=[checks.negative_data_rejection])
            case.validate_response(answer, checks=conforming)

        ask_once()

    for found in schemathesis.openapi.from_dict(document).get_all_operations():
        assert not isinstance(found, Err), found.err()
        for mode in schemathesis.GenerationMode:
            ask(found.ok(), mode)
    return sent, bought

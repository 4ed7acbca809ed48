"""The messages to webhooks in the OpenAPI document: each event, and what is really sent."""

import json
from typing import get_args

from gateway.reporting.alerts.message import headers, message
from gateway.reporting.alerts.rules import Event, trial_alert
from tests.support.rig import Rig


async def test_what_is_sent_is_as_it_is_told(rig: Rig) -> None:
    document = (await rig.admin("/openapi.json")).json
    sent = json.loads(message("json", trial_alert("ops", 0.0), "msg_1"))
    assert set(document["webhooks"]) == set(get_args(Event))
    body = document["components"]["schemas"]["Body"]
    assert set(sent) == set(body["properties"]) == set(body["required"])
    for event, item in document["webhooks"].items():
        told = item["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert told["allOf"] == [
            {"$ref": "#/components/schemas/Body"},
            {"properties": {"event": {"const": event}}},
        ]
        named = {part["name"] for part in item["post"]["parameters"]}
        assert named == {name for name in headers("", b"", 0, b"") if name.startswith("webhook-")}

"""Whether an answer is as the OpenAPI document says: its status, its type, and its body."""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema

from tests.support.raw import RawAnswer

METHODS = ("get", "post", "put", "patch", "delete")
ANYWHERE = {400, 401, 404, 405, 431}
"""Statuses of paths and methods that the document does not have."""


class Document:
    """An OpenAPI document, with its operations by method and path."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.operations = dict(_operations(document))
        self._components = document["components"]
        self._error = self._validator({"$ref": "#/components/schemas/ErrorBody"})
        self._validators = dict[tuple[str, int], Any]()

    def _validator(self, schema: dict[str, Any]) -> Any:
        return jsonschema.Draft202012Validator({**schema, "components": self._components})

    def check(self, method: str, target: str, answer: RawAnswer) -> None:
        """Check the answer to a request. Raises AssertionError."""
        path = target.partition("?")[0]
        template = next((t for m, t in self.operations if _matches(t, path) and m == method), None)
        if template is None:
            assert answer.status in ANYWHERE, (method, target, answer)
            self._check_body(self._error, method, answer)
            return
        responses = self.operations[method, template]["responses"]
        found = responses.get(str(answer.status))
        assert found is not None, (method, target, answer)
        kind = answer.headers["content-type"].partition(";")[0]
        assert kind in found["content"], (method, target, answer)
        if kind == "application/json":
            key = f"{method} {template}", answer.status
            if key not in self._validators:
                self._validators[key] = self._validator(found["content"][kind]["schema"])
            self._check_body(self._validators[key], method, answer)

    def _check_body(self, validator: Any, method: str, answer: RawAnswer) -> None:
        assert answer.headers["content-type"] == "application/json"
        faults = [fault.message for fault in validator.iter_errors(json.loads(answer.body))]
        assert not faults, (method, answer, faults)


def _operations(document: dict[str, Any]) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield (method.upper(), path), item[method]


def _matches(template: str, path: str) -> bool:
    return (
        re.fullmatch(re.sub(r"\\\{\w+\\\}", "[A-Za-z0-9._-]+", re.escape(template)), path)
        is not None
    )

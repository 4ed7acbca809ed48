"""The suite's asserts are explained like those of the test files that run it."""

import pytest

pytest.register_assert_rewrite("tests.stores.conformance")

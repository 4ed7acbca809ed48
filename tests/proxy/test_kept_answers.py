"""The answers under a name: what tells one from another."""

import random

from gateway.proxy.kept_answers import mark_of


def test_answers_of_one_length_have_marks_of_their_own() -> None:
    chance = random.Random(1)
    bodies = [b'{"data":[{"b64_json":"%b"}]}' % chance.randbytes(100_000).hex().encode()] * 2
    bodies += [bodies[0].replace(bodies[0][place : place + 9], b"x" * 9) for place in (30, 100_020)]
    assert len({len(body) for body in bodies}) == 1
    assert len({mark_of(body) for body in bodies}) == 3
    assert max(map(mark_of, bodies)) < 2**63

"""Only `reveal` shows the text of a secret."""

from gateway.core.secret import Secret

TEXT = "sk-canary-1234567890"


def test_text_of_a_secret_is_stars() -> None:
    secret = Secret(TEXT)
    assert secret.reveal() == TEXT
    assert {str(secret), repr(secret), f"{secret}", "%s" % secret} == {"Secret(***)"}  # noqa: UP031


def test_secrets_compare_by_text() -> None:
    assert Secret(TEXT) == Secret(TEXT)
    assert Secret(TEXT) != Secret("other")
    assert Secret(TEXT) != TEXT
    assert len({Secret(TEXT), Secret(TEXT)}) == 1

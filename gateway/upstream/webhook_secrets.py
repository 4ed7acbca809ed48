"""What webhooks need that stands in no configuration: out of the environment or out of files.

A file is read each time that a message is sent, so a changed one is taken up with the next.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from gateway.rules.scrub import scrub
from gateway.rules.webhooks import Webhook, check_secret, check_url


def url_of(webhook: Webhook) -> str:
    """Where its messages go. Raises ValueError, whose text has nothing of it."""
    if webhook.url is not None:
        return webhook.url.reveal()
    if webhook.url_file is not None:
        return _checked_url(webhook.url_file)
    raise ValueError(f"the environment has no variable {webhook.url_env}")


def secret_of(webhook: Webhook) -> bytes | None:
    """What its messages are signed with, None where they are not.

    Raises ValueError, whose text has nothing of it.
    """
    if webhook.secret is not None:
        return check_secret(webhook.secret.reveal())
    if webhook.secret_file is not None:
        return _checked_secret(webhook.secret_file)
    if webhook.secret_env is not None:
        raise ValueError(f"the environment has no variable {webhook.secret_env}")
    return None


def file_faults(webhooks: Iterable[Webhook]) -> Iterator[tuple[str, str, str]]:
    """A webhook's name, the option and what is wrong, for each file without what it should hold."""
    for webhook in webhooks:
        for option, read in (("url_file", _checked_url), ("secret_file", _checked_secret)):
            file = getattr(webhook, option)
            if file is not None:
                try:
                    read(file)
                except ValueError as error:
                    yield webhook.name, option, str(error)


def _checked_url(file: str) -> str:
    text = _read(file)
    try:
        return check_url(text)
    except ValueError as error:
        raise ValueError(f"what the file {_shown(file)} holds {error}") from None


def _checked_secret(file: str) -> bytes:
    text = _read(file)
    try:
        return check_secret(text)
    except ValueError as error:
        raise ValueError(f"what the file {_shown(file)} holds {error}") from None


def _read(file: str) -> str:
    try:
        return Path(file).read_bytes().strip().decode("ascii", "replace")
    except OSError as error:
        raise ValueError(f"the file {_shown(file)} cannot be read: {error.strerror}") from None


def _shown(file: str) -> str:
    """The file's name as it may be told: somebody may have put the secret itself there."""
    return "given" if "://" in file or "whsec_" in file else scrub(file.encode(), ()).decode()

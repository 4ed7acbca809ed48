"""Who comes in at the admin API: a bearer token, compared with all that are configured."""

from collections.abc import Callable, Sequence

import structlog

from gateway.errors import AdminOff, NotAdmin, RateLimited, ViewerOnly
from gateway.rules.admin_tokens import AdminToken, find
from gateway.rules.guessing import Guesses
from gateway.rules.headers import bearer, retry_after
from gateway.rules.settings import Admin

log = structlog.get_logger(source="admin")

READING = frozenset({"GET", "HEAD"})


class AdminGate:
    """`admin` gives the tokens of this moment; `clock` counts seconds and never runs backwards."""

    def __init__(self, admin: Callable[[], Admin], clock: Callable[[], float]) -> None:
        self._admin = admin
        self._guesses = Guesses(clock)

    def authenticate(self, authorization: Sequence[str]) -> AdminToken:
        """The token behind the Authorization header lines of a request.

        Raises AdminOff without any configured token, NotAdmin for a wrong one, and RateLimited
        once there were too many wrong ones.
        """
        known = self._admin().all_tokens
        if not known:
            raise AdminOff
        given = bearer(authorization)
        found = None if given is None else find(given, known)
        if found is not None:
            return found
        if given is not None and (wait := self._guesses.wrong()) is not None:
            raise RateLimited(
                "Too many wrong admin tokens were sent.", retry_after=retry_after(wait, 0.0)
            )
        if given is not None:
            log.warning("wrong admin token")
        raise NotAdmin


def require_role(token: AdminToken, method: str) -> None:
    """Raise ViewerOnly where the token's role does not allow the method."""
    if token.role != "admin" and method not in READING:
        raise ViewerOnly

"""Pictures in an S3 bucket, which all gateways share.

1. *The bucket is away.* Each call has a limit of time, and none is repeated. After one that failed,
   all further ones fail at once for some seconds: answers do not wait for each other's attempts.
2. *A lifecycle rule of the bucket removes old pictures.* A use does not change an object's time, so
   a picture that has not been written for long counts as gone before a link to it is made, and is
   written again.
3. *Somebody changes an object.* An object is trusted only by its ETag, whose bytes were checked.

Errors of obstore contain URLs, headers of answers and whatever a server sent. Only words that are
known to be harmless are taken from them.
"""

import re
from collections.abc import Iterator
from configparser import ConfigParser
from configparser import Error as SyntaxFault
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from gateway.config.images import ImagesSettings
from gateway.images.picture import HEAD_BYTES, MIME, digest_of, kind_of
from gateway.images.place import MOST_PICTURE_BYTES, USE_SECONDS, Away, Known
from gateway.telemetry.observer import NotKeptReason

if TYPE_CHECKING:
    from obstore.store import S3Credential, S3Store

log = structlog.get_logger(source="images")

CONNECT_SECONDS = 1.0
ASK_SECONDS = 1.5
MOVE_SECONDS = 10.0
"""How long a call may take: to connect, to ask about a picture, and to send or get one. An answer
waits for two seconds, so the first answer without a link already starts the rest."""

REST_SECONDS = 5.0
"""How long all calls fail at once after one that failed."""

CREDENTIALS_SECONDS = 10.0
"""How soon a changed file of credentials is used."""

PIECE_BYTES = 1_048_576

PROBE = "gateway-probe"
"""The object that a start writes and reads, to check its rights."""

_ABSENT = "gateway-absent"
"""An object that nobody writes: whoever may not list the bucket cannot see that it is absent."""

_CODE = re.compile(r"<Code>([A-Za-z]{1,64})</Code>")
_STATUS = re.compile(r"status code: ([0-9]{3})")
_METADATA = re.compile(r"/latest/(?:api|meta-data)/|security-credentials")
_CAUSES = {
    "TimedOut": "it did not answer in time",
    "dns error": "its host has no address",
    "ConnectionRefused": "it refuses connections",
    "InvalidCertificate": "its certificate is not trusted",
}
_NO_BUCKET = "<Code>NoSuchBucket</Code>"
_PROVIDER = "External AWS credential provider"
_NO_CREDENTIALS = (
    "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
    "[images] credentials_file"
)


class _Changed(Exception):
    """An object is not the one that was checked."""


class Bucket:
    """The pictures in the bucket that the settings name. `shown` is its URL.

    Raises ValueError if it cannot be used, such as without the extra's packages.
    """

    threads = 16

    def __init__(self, images: ImagesSettings) -> None:
        self.shown = images.url
        self._ask, self._move = _clients(images)
        self._rests_until = 0.0
        self._failure: tuple[NotKeptReason, str] = ("failed", "")
        self._seen = Known[float]()
        self._sound = Known[str]()

    # -- as Place -------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Check the rights to write, to read, and to learn that a picture is absent.

        Raises Away.
        """
        with self._calling("PutObject"):
            self._ask.put(PROBE, b"image-gateway\n", use_multipart=False)
        with self._calling("GetObject"):
            self._ask.get(PROBE).bytes()
        with (
            suppress(FileNotFoundError),
            self._calling("HeadObject, which needs ListBucket", may_lack=True),
        ):
            self._ask.head(_ABSENT)

    def has(self, name: str, now: float, life: float) -> bool:
        """Whether a picture was written in the last `life` seconds. Asked at most once a minute."""
        self._require_answers()
        seen = self._seen.get(name)
        if seen is not None and 0 <= now - seen < USE_SECONDS:
            return True
        try:
            with self._calling("HeadObject", may_lack=True):
                found = self._ask.head(name)
        except FileNotFoundError:
            return False
        if now - found["last_modified"].timestamp() >= life:
            return False
        self._seen.note(name, now)
        return True

    def touch(self, name: str, now: float, life: float) -> bool:
        """As `has`: a bucket has whole objects only."""
        return self.has(name, now, life)

    def write(self, name: str, data: bytes, now: float, most: int) -> None:
        """Write a picture, whatever its size: a bucket has no `most`. Raises Away."""
        kind = MIME[name.rpartition(".")[2]]
        with self._calling("PutObject"):
            self._move.put(name, data, use_multipart=False, attributes={"Content-Type": kind})
        self._seen.note(name, now)

    def size(self, name: str, now: float, life: float) -> int | None:
        """Return the bytes of a picture, however old it is: the link to it may be the last one."""
        try:
            with self._calling("HeadObject", may_lack=True):
                return self._ask.head(name)["size"]
        except FileNotFoundError:
            self._seen.forget(name)
            return None

    def read(self, name: str, start: int, length: int, now: float, life: float) -> bytes | None:
        """Return so many bytes of a picture: see `Place`."""
        known = self._sound.get(name)
        try:
            if known is None or length < 0:
                return self._checked(name, start, length)
            if not length:
                return b""
            part = (start, start + length)
            try:
                with self._calling("GetObject", may_lack=True):
                    found = self._move.get(name, options={"range": part, "if_match": known})
                    return bytes(found.bytes())
            except _Changed:
                return self._checked(name, start, length)
        except FileNotFoundError:
            self._seen.forget(name)
            return None

    # -- reading --------------------------------------------------------------------------------

    def _checked(self, name: str, start: int, length: int) -> bytes | None:
        """Get a whole picture, check its bytes, and return some of them. Memory has only those."""
        digest, head, parts, at = sha256(), b"", list[bytes](), 0
        with self._calling("GetObject", may_lack=True):
            found = self._move.get(name)
            for piece in found.stream(PIECE_BYTES):
                digest.update(piece)
                head += piece[: HEAD_BYTES - len(head)]
                end = None if length < 0 else max(0, start + length - at)
                parts.append(piece[max(0, start - at) : end])
                at += len(piece)
                if at > MOST_PICTURE_BYTES:
                    break
        if digest.hexdigest() != digest_of(name) or kind_of(head) != name.rpartition(".")[2]:
            self._remove_damaged(name)
            return None
        if version := found.meta["e_tag"]:
            self._sound.note(name, version)
        return b"".join(parts)

    def _remove_damaged(self, name: str) -> None:
        """Remove an object that is not its picture, so that it is written again."""
        log.warning("picture in the bucket is damaged", picture=name)
        self._seen.forget(name)
        self._sound.forget(name)
        with suppress(Away, FileNotFoundError), self._calling("DeleteObject", may_lack=True):
            self._ask.delete(name)

    # -- failures -------------------------------------------------------------------------------

    def _require_answers(self) -> None:
        """Raise Away if the bucket failed a moment ago."""
        if monotonic() < self._rests_until:
            raise Away(*self._failure)

    @contextmanager
    def _calling(self, call: str, *, may_lack: bool = False) -> Iterator[None]:
        """Guard a call. Raises Away if it fails, and at once for a while after that.

        With `may_lack`, FileNotFoundError says that the object is not there. Raises _Changed where
        it has another ETag than was asked for.
        """
        from obstore.exceptions import BaseError, PreconditionError

        self._require_answers()
        try:
            yield
            return
        except PreconditionError:
            raise _Changed from None
        except (BaseError, FileNotFoundError) as error:
            is_lacking = isinstance(error, FileNotFoundError) and _NO_BUCKET not in str(error)
            if may_lack and is_lacking:
                raise
            failure = _failure(error, call)
        self._failure, self._rests_until = failure, monotonic() + REST_SECONDS
        raise Away(*failure) from None


def check_bucket(images: ImagesSettings) -> None:
    """Raise ValueError if what a bucket needs on this machine is missing. The bucket is not asked.

    That is the extra's packages and, if the settings name one, the file of credentials.
    """
    _clients(images)


def _clients(images: ImagesSettings) -> "tuple[S3Store, S3Store]":
    """The clients for short and for long calls. They read AWS_... from the environment.

    Raises ValueError.
    """
    try:
        from obstore.exceptions import BaseError
        from obstore.store import S3Store
    except ModuleNotFoundError as missing:
        raise ValueError(
            f"it needs the packages of image-gateway[s3]: {missing.name} is not installed"
        ) from None
    bucket, prefix = images.bucket
    file, provider = images.credentials_file, None
    if file is not None:
        read_credentials(file)
        provider = partial(read_credentials, file)
    try:
        ask, move = (
            S3Store(
                bucket,
                prefix=prefix or None,
                # The endpoint says whether it is http; without one, S3's own is https.
                client_options={
                    "allow_http": True,
                    "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
                    "timeout": timedelta(seconds=seconds),
                },
                retry_config={"max_retries": 0},
                credential_provider=provider,
                # Not all servers have a deletion of many objects.
                disable_bulk_delete=True,
            )
            for seconds in (ASK_SECONDS, MOVE_SECONDS)
        )
    except (BaseError, ValueError):
        raise ValueError("an AWS_ variable in the environment has an invalid value") from None
    return ask, move


def read_credentials(file: str) -> "S3Credential":
    """Read the section [default] of a file in AWS's format. Raises ValueError, without content."""
    parser = ConfigParser(interpolation=None)
    try:
        parser.read_string(Path(file).read_text(encoding="utf-8"))
        found = parser["default"]
        id, secret = found["aws_access_key_id"], found["aws_secret_access_key"]
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, SyntaxFault, KeyError):
        raise ValueError(
            f"{file} must have aws_access_key_id and aws_secret_access_key in the section [default]"
        ) from None
    return {
        "access_key_id": id,
        "secret_access_key": secret,
        "token": found.get("aws_session_token"),
        "expires_at": datetime.now(UTC) + timedelta(seconds=CREDENTIALS_SECONDS),
    }


def _failure(error: Exception, call: str) -> tuple[NotKeptReason, str]:
    """Return why a call failed, and the cause for the log."""
    text = str(error)
    if _METADATA.search(text):  # obstore asks AWS's machines if nothing else has credentials
        return "not_permitted", _NO_CREDENTIALS
    if _PROVIDER in text:
        return "not_permitted", "the file of [images] credentials_file cannot be used"
    if _NO_BUCKET in text:
        return "bucket_missing", "there is no such bucket"
    answer = _CODE.search(text) or _STATUS.search(text)
    if answer is not None:
        refused = "status code: 403" in text or "status code: 401" in text
        return "not_permitted" if refused else "bucket_away", f"{call}: {answer[1]}"
    causes = (cause for mark, cause in _CAUSES.items() if mark in text)
    return "bucket_away", next(causes, "it cannot be reached")

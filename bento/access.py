"""Who may ask, and how often: API keys and a rate limit, neither of which is on a request's way unless it is set."""

import hashlib
import hmac
import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from bento.errors import UserError
from bento.schemas import ApiError

if TYPE_CHECKING:
    from bento.app import Handler, Server


OPEN = frozenset(
    (
        "/", "/static/{file}", "/livez", "/readyz", "/docs.json", "/schema.json",
        "/v2/health/live", "/v2/health/ready", "other",
    )
)  # fmt: skip
"""Routes that ask for no key: probes have none, the page has to come before it can ask for one, the API's description
says that one is needed, and `other` is where no route is. None tells anything about the model or the texts."""
MIN_KEY_CHARACTERS = 16
"""A digest of less could be found by trying."""
MAX_CALLERS = 10_000
"""Callers whose rate is remembered: about 2 MB."""
CALLER_DIGITS = 16
"""Of the digest of a key: enough to tell callers apart in the log, too little to try keys against."""
CALLER = "retort.caller"
"""Where a request's scope has the name of its key."""
DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


def key_digests(text: str, origin: str = "RETORT_API_KEYS") -> tuple[bytes, ...]:
    """SHA-256 digests of the keys in `text`, which stand between white space or commas.

    `sha256:` and 64 hexadecimal digits are taken as a digest, so that a file need not hold the key itself.
    Raises: UserError when there is none, or one that could be guessed; no message holds a key.
    """
    keys = re.split(r"[\s,]+", text.strip(" \t\r\n,"))
    if not keys[0]:
        raise UserError(f"{origin}: expected at least one API key, got none; unset it to serve everyone")
    if short := sum(len(key) < MIN_KEY_CHARACTERS for key in keys):
        raise UserError(
            f"{origin}: expected keys of at least {MIN_KEY_CHARACTERS} characters, got {short} shorter; "
            "`openssl rand -hex 32` makes one"
        )
    return tuple(_digest(key) for key in keys)


def _digest(key: str) -> bytes:
    written = DIGEST.fullmatch(key)
    return bytes.fromhex(written[1]) if written else hashlib.sha256(key.encode()).digest()


def read_digests(path: Path) -> tuple[bytes, ...]:
    """The digests of the keys in a file; the rest of a line after `#` is a remark. Raises: UserError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"RETORT_API_KEYS_FILE: expected a readable text file, got {path}: {error}") from error
    return key_digests("\n".join(line.partition("#")[0] for line in lines), f"RETORT_API_KEYS_FILE {path}")


class Keys:
    """The keys that are let in, as digests."""

    def __init__(self, digests: Sequence[bytes], auditors: Sequence[bytes] = ()) -> None:
        """`digests` are SHA-256, of at least one key; `auditors` of those that may label everyone's requests."""
        self.digests = (*digests, *auditors)
        self.auditors = frozenset(digest.hex() for digest in auditors)

    def caller(self, request: Request) -> str:
        """The name, for the rate limit, of the key that `request` carries. Raises: ApiError 401."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
        digest = hashlib.sha256(key.encode()).digest()
        # Every digest is compared, each in constant time: how long a refusal takes tells nothing about the keys.
        if not sum(hmac.compare_digest(digest, known) for known in self.digests):
            raise _unauthorized("the API key is not known here" if key else "expected an API key, got none")
        return digest.hex()

    def owner(self, request: Request) -> str | None:
        """Whose requests the key may see and label, as the log names it; None for those of everyone."""
        name = str(request.scope[CALLER])
        return None if name in self.auditors else log_name(name)


def log_name(caller: str) -> str:
    """A caller's name as the request log has it."""
    return caller[:CALLER_DIGITS]


def _unauthorized(problem: str) -> ApiError:
    message = f"{problem}; send 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"
    return ApiError(401, "unauthorized", message, headers={"WWW-Authenticate": 'Bearer realm="retort"'})


class RateLimit:
    """A token bucket a caller: `burst` requests at once, `rate` requests/s on average.

    Kept as the time at which the caller's bucket is full again (the virtual scheduling form of the generic cell rate
    algorithm, ITU-T I.371), which is one number; whose bucket is full need not be remembered.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` counts seconds."""
        self.every_s = 1 / rate
        self.tolerance_s = (burst - 1) / rate
        self.clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def admit(self, caller: str) -> None:
        """Take one token. Raises: ApiError 429 with the seconds until there is one."""
        now = self.clock()
        full_at = max(now, self._full_at.get(caller, now))
        wait_s = full_at - now - self.tolerance_s
        if wait_s > 0:
            message = f"this caller may send {1 / self.every_s:g} requests a second; the next in {wait_s:.3g} s"
            raise ApiError(429, "rate_limited", message, headers={"Retry-After": str(math.ceil(wait_s))})
        self._full_at[caller] = full_at + self.every_s
        self._full_at.move_to_end(caller)
        if len(self._full_at) > MAX_CALLERS:
            self._full_at.popitem(last=False)


def address(request: Request) -> str:
    """The client's address, which stands for the caller where no keys are set; behind a proxy that uvicorn trusts
    (`FORWARDED_ALLOW_IPS`) the one it forwards."""
    return request.client.host if request.client else "unknown"


def is_open(path: str, metrics_open: bool) -> bool:
    """Whether the route `path` is answered to everyone."""
    return path in OPEN or (path == "/metrics" and metrics_open)


def guarded(server: "Server", path: str, handler: "Handler") -> "Handler":
    """`handler` behind what is set of keys and rate limit; `handler` itself where the route `path` is open."""
    keys, limit = server.keys, server.rate_limit
    if is_open(path, server.settings.metrics_open) or (keys is None and limit is None):
        return handler
    caller = address if keys is None else keys.caller

    async def guard(server: "Server", request: Request) -> Response:
        name = caller(request)
        if limit is not None:
            limit.admit(name)
        if keys is not None:
            request.scope[CALLER] = name
        return await handler(server, request)

    return guard

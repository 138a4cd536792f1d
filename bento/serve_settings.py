"""The service's settings, from the environment."""

import math
import os
import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator, model_validator

from bento import access
from bento.cost import MAX_BATCH_TOKENS
from bento.processes import MAX_PROCESSES
from bento.redaction import LogText

ORIGIN = re.compile(r"\*|https?://[^/\s]+")


def _words(text: Any) -> Any:
    """A list in an environment variable: words between white space or commas."""
    return text.replace(",", " ").split() if isinstance(text, str) else text


def _digests(keys: Any) -> Any:
    return access.key_digests(keys) if isinstance(keys, str) else keys


class ServeSettings(BaseModel):
    """The service's settings, from the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    model: Path | None = None
    """`RETORT_MODEL`: the model folder; the one in the Bento when absent."""
    follow: str | None = None
    """`RETORT_FOLLOW`: serve the champion of this name and follow its promotions."""
    audit_rate: float = Field(default=0.05, ge=0, le=1)
    """`RETORT_AUDIT_RATE`: share of requests drawn at random for labelling. While monitoring suspects something, a
    service that follows a name draws more, as `monitor.suspect_audit_rate` says; with 0 nothing is ever drawn."""
    batch_tokens: int | None = Field(default=None, ge=1, le=MAX_BATCH_TOKENS)
    """`RETORT_BATCH_TOKENS`: padded tokens of one run, 1 for a text a run; the model's manifest says when absent."""
    workers: int | None = Field(default=None, ge=1, le=256)
    """`RETORT_WORKERS`: runs at a time; the model's manifest says when absent."""
    processes: int = Field(default=1, ge=1, le=MAX_PROCESSES)
    """`RETORT_PROCESSES`: processes behind the port, each with its queue, cache, rate limits and share of the runs."""
    cache_mb: float = Field(default=64, ge=0)
    """`RETORT_CACHE_MB`: memory for answers that may be asked for again; 0 for none."""
    redis_url: str | None = Field(default=None, repr=False)
    """`RETORT_REDIS_URL`: a Redis that replicas share answers in."""
    redis_ttl_s: int = Field(default=3600, ge=1)
    """`RETORT_REDIS_TTL_S`: how long an answer stays there."""
    redis_timeout_ms: float = Field(default=20, gt=0)
    """`RETORT_REDIS_TIMEOUT_MS`: a call that takes longer counts as failed, and Redis is left alone for a while."""
    queue_limit: int = Field(default=1024, ge=256)
    """`RETORT_QUEUE_LIMIT`: texts that may wait; beyond it the answer is 429."""
    threads: int | None = Field(default=None, ge=1)
    """`RETORT_THREADS`: ONNX Runtime threads; the model's manifest says when absent."""
    deadline_ms: float = Field(default=10_000, gt=0)
    """`RETORT_DEADLINE_MS`: a request that would not be answered within this time, or within what its `X-Deadline-Ms`
    says, is refused at once (429); one that is not gets a 503."""
    drain_ms: float = Field(default=500, ge=0)
    """`RETORT_DRAIN_MS`: from "not ready" to the closed socket at SIGTERM, for the load balancer to notice."""

    log_text: LogText = "keep"
    """`RETORT_LOG_TEXT`: what of a text is logged: all of it, all but e-mail addresses, card and phone numbers, or a
    keyed digest, or nothing."""
    log_key: SecretStr | None = Field(default=None, min_length=16)
    """`RETORT_LOG_KEY`: the key of those digests."""
    spool_mb: int = Field(default=256, ge=1)
    """`RETORT_SPOOL_MB`: MiB of disk for answered requests that wait for the database; beyond it they are dropped."""
    api_keys: Annotated[tuple[bytes, ...], BeforeValidator(_digests)] = ()
    """`RETORT_API_KEYS`: whoever has none of them gets a 401. Only their SHA-256 digests are kept."""
    api_keys_file: Path | None = None
    """`RETORT_API_KEYS_FILE`: a file with more of them, or with their digests, one a line."""
    audit_keys: Annotated[tuple[bytes, ...], BeforeValidator(_digests)] = ()
    """`RETORT_AUDIT_KEYS`: API keys that also see the whole audit queue and label everyone's requests; any other key
    sees and labels those alone that were sent with it."""
    metrics_open: bool = False
    """`RETORT_METRICS_OPEN`: /metrics asks for no key."""
    rate_limit: float | None = Field(default=None, gt=0)
    """`RETORT_RATE_LIMIT`: requests a second for each key, or for each client address where no keys are set."""
    rate_burst: int | None = Field(default=None, ge=1)
    """`RETORT_RATE_BURST`: requests that may come at once; a second's worth when absent."""
    cors_origins: Annotated[tuple[str, ...], BeforeValidator(_words)] = ()
    """`RETORT_CORS_ORIGINS`: pages of other origins that may call this service from a browser; `*` for all."""
    access_log: float = Field(default=0, ge=0, le=1)
    """`RETORT_ACCESS_LOG`: share of requests that get a line in the access log."""

    @model_validator(mode="after")
    def _has_key(self) -> Self:
        if self.log_text == "hash" and self.log_key is None:
            raise ValueError("RETORT_LOG_TEXT=hash needs RETORT_LOG_KEY: expected a secret of 16 characters, got none")
        return self

    @model_validator(mode="after")
    def _has_api_keys(self) -> Self:
        if self.audit_keys and not (self.api_keys or self.api_keys_file):
            raise ValueError("RETORT_AUDIT_KEYS needs RETORT_API_KEYS: without those everyone may label everything")
        return self

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [origin for origin in origins if not ORIGIN.fullmatch(origin)]:
            raise ValueError(f"expected origins such as https://example.org, without a path; got {', '.join(wrong)}")
        return origins

    @classmethod
    def from_env(cls) -> Self:
        """Read `RETORT_*`; empty means absent."""
        names = {field: os.environ.get(f"RETORT_{field.upper()}") for field in cls.model_fields}
        return cls.model_validate({field: value for field, value in names.items() if value})

    def keys(self) -> access.Keys | None:
        """The API keys, or None when everyone may ask. Raises: UserError for a file without keys."""
        from_file = access.read_digests(self.api_keys_file) if self.api_keys_file else ()
        digests = (*self.api_keys, *from_file)
        return access.Keys(digests, self.audit_keys) if digests else None

    def limit(self) -> access.RateLimit | None:
        """The rate limit, or None when there is none."""
        if self.rate_limit is None:
            return None
        return access.RateLimit(self.rate_limit, self.rate_burst or math.ceil(self.rate_limit))

    def model_folder(self) -> Path | None:
        """The embedded model: `RETORT_MODEL`, or `model/` beside this package inside a Bento."""
        if self.model is not None:
            return self.model
        beside = Path(__file__).resolve().parent.parent / "model"
        return beside if beside.is_dir() else None

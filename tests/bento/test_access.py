"""API keys, rate limit, CORS: what is let in, what is refused and how, and what they cost when they are not set."""

import contextlib
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.middleware.cors import CORSMiddleware

from bento import access
from bento.app import ROUTES, Server, create_app
from bento.errors import UserError
from bento.handlers import livez
from bento.schemas import ApiError
from bento.serve_settings import ServeSettings
from tests.serving import serving

KEY = "0123456789abcdef-one"
OTHER = "0123456789abcdef-two"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": f"Bearer {KEY}"}, 200),
        ({"Authorization": f"bearer  {OTHER} "}, 200),
        ({"X-API-Key": KEY}, 200),
        ({"X-API-Key": KEY[:-1]}, 401),
        ({"X-API-Key": KEY.upper()}, 401),
        ({"X-API-Key": hashlib.sha256(KEY.encode()).hexdigest()}, 401),
        ({"Authorization": f"Basic {KEY}"}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": f"Bearer {KEY} {OTHER}"}, 401),
        ({"X-API-Key": b"\xff\xfe"}, 401),
    ],
)
def test_only_who_has_a_key_is_let_in(make_server: Callable[..., Server], headers: dict[str, str], status: int) -> None:
    with serving(create_app(make_server(api_keys=f"{KEY}, {OTHER}"))) as client:
        response = client.post("/predict", json={"text": "card"}, headers=headers)
    assert response.status_code == status
    if status == 401:
        assert response.headers["www-authenticate"] == 'Bearer realm="retort"'
        assert response.json()["error"]["code"] == "unauthorized"
        assert KEY not in response.text


def test_only_probes_the_page_and_the_descriptions_are_open(make_server: Callable[..., Server]) -> None:
    for changes, also in (({}, set()), ({"metrics_open": True}, {"/metrics"})):
        with serving(create_app(make_server(api_keys=KEY, **changes))) as client:
            paths = {path for method, path, _ in ROUTES if method == "GET"}
            answers = {path: client.get(path.replace("{file}", "app.js").replace("{name}", "tiny")) for path in paths}
            assert client.get("/nope").status_code == 404
        assert {path for path, answer in answers.items() if answer.status_code == 200} == (access.OPEN | also) - {
            "other"
        }
        assert {answer.status_code for answer in answers.values()} == {200, 401}


def test_no_key_is_in_memory_messages_or_logs(
    make_server: Callable[..., Server], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("RETORT_API_KEYS", KEY)
    monkeypatch.setenv("RETORT_ACCESS_LOG", "1")
    server = make_server(**ServeSettings.from_env().model_dump(include={"api_keys", "access_log"}))
    with serving(create_app(server)) as client:
        client.post("/predict", json={"text": "card"}, headers={"X-API-Key": KEY})
        metrics = client.get("/metrics").text
    assert KEY not in repr(server.settings) + repr(vars(server.keys)) + caplog.text + metrics
    monkeypatch.setenv("RETORT_API_KEYS", "short")
    with pytest.raises(ValueError, match="at least 16 characters") as caught:
        ServeSettings.from_env()
    assert "short'" not in str(caught.value)


def test_a_file_holds_keys_or_their_digests_and_remarks(make_server: Callable[..., Server], tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# who\n{KEY}   # the first\n\nsha256:{hashlib.sha256(OTHER.encode()).hexdigest()}\n")
    with serving(create_app(make_server(api_keys_file=file))) as client:
        for key in (KEY, OTHER):
            assert client.post("/predict", json={"text": "card"}, headers={"X-API-Key": key}).status_code == 200
        assert client.get("/identity").status_code == 401


@pytest.mark.parametrize("content", ["", "# nothing\n", "short\n", None, b"\xff\xfe\x00"])
def test_a_file_without_usable_keys_stops_the_start_instead_of_letting_everyone_in(
    make_server: Callable[..., Server], tmp_path: Path, content: str | bytes | None
) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=r"RETORT_API_KEYS_FILE.*expected"):
        make_server(api_keys_file=file)


def test_keys_that_are_only_separators_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one API key"):
        ServeSettings(api_keys=" , ")


def test_a_bucket_lets_a_burst_through_then_the_rate_and_says_when_to_come_back() -> None:
    now = 100.0
    limit = access.RateLimit(rate=2, burst=3, clock=lambda: now)

    def admitted(caller: str, num: int) -> int:
        for count in range(num):
            with contextlib.suppress(ApiError):
                limit.admit(caller)
                continue
            return count
        return num

    assert admitted("a", 10) == 3
    assert admitted("b", 10) == 3
    with pytest.raises(ApiError, match="2 requests a second") as refused:
        limit.admit("a")
    assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "1"})
    now += 0.49
    assert admitted("a", 10) == 0
    now += 0.02
    assert admitted("a", 10) == 1
    now += 60
    assert admitted("a", 10) == 3


def test_over_a_long_time_a_caller_gets_the_rate_and_no_more() -> None:
    now = 0.0
    limit = access.RateLimit(rate=10, burst=5, clock=lambda: now)
    num = 0
    for _ in range(10_000):
        now += 0.01
        try:
            limit.admit("a")
        except ApiError:
            continue
        num += 1
    assert num == pytest.approx(1000, abs=10)


def test_the_memory_of_the_rate_limit_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "MAX_CALLERS", 100)
    limit = access.RateLimit(rate=1, burst=1, clock=lambda: 0.0)
    for caller in range(1000):
        limit.admit(str(caller))
    assert len(limit._full_at) == 100
    with pytest.raises(ApiError):
        limit.admit("999")


def test_each_key_has_a_rate_of_its_own_and_without_keys_each_address(make_server: Callable[..., Server]) -> None:
    with serving(create_app(make_server(api_keys=f"{KEY} {OTHER}", rate_limit=0.001, rate_burst=2))) as client:
        statuses = [client.get("/v2").status_code] + [
            client.get("/v2", headers={"X-API-Key": key}).status_code for key in (KEY, KEY, KEY, OTHER)
        ]
        assert statuses == [401, 200, 200, 429, 200]
        assert client.get("/livez").status_code == 200
    server = make_server(rate_limit=0.001, rate_burst=2)
    with serving(create_app(server)) as client:
        assert client.get("/v2").status_code == 200
        assert client.get("/v2").status_code == 200
        refused = client.get("/identity")
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limited")
        assert int(refused.headers["retry-after"]) == 1000
        assert (
            server.metrics.registry.get_sample_value("retort_requests_total", {"route": "/identity", "status": "429"})
            == 1
        )


def test_what_is_not_set_is_not_on_the_way(server: Server) -> None:
    assert access.guarded(server, "/predict", livez) is livez
    assert CORSMiddleware not in {each.cls for each in create_app(server).user_middleware}


def test_pages_of_other_origins_may_call_only_where_they_are_named(make_server: Callable[..., Server]) -> None:
    preflight = {
        "Origin": "https://a.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-api-key",
    }
    simple = {"Origin": "https://a.example"}
    with serving(create_app(make_server())) as client:
        assert client.options("/predict", headers=preflight).status_code == 405
        assert "access-control-allow-origin" not in client.get("/v2", headers=simple).headers
    with serving(create_app(make_server(cors_origins="https://a.example, https://b.example", api_keys=KEY))) as client:
        allowed = client.options("/predict", headers=preflight)
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, "https://a.example")
        assert allowed.headers["x-request-id"]
        assert client.options("/predict", headers=preflight | {"Origin": "https://c.example"}).status_code == 400
        refused = client.get("/v2", headers=simple)
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "https://a.example")


@pytest.mark.parametrize("origins", ["a.example", "https://a.example/", "https://a.example/path", "null"])
def test_what_is_no_origin_is_refused_at_the_start(origins: str) -> None:
    with pytest.raises(ValueError, match="expected origins such as"):
        ServeSettings(cors_origins=origins)


def test_the_description_says_what_asks_for_a_key(make_server: Callable[..., Server]) -> None:
    with serving(create_app(make_server(api_keys=KEY, rate_limit=5))) as client:
        document = client.get("/docs.json").json()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "header"}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            closed = path not in access.OPEN
            assert ("security" in operation, "401" in operation["responses"]) == (closed, closed)
            assert closed <= ("429" in operation["responses"])

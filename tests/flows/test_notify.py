"""People are told through Prefect blocks: what arrives, what happens when it does not, and that no secret gets out."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from prefect.blocks.core import Block
from prefect.blocks.notifications import CustomWebhookNotificationBlock, SlackWebhook
from prefect.blocks.system import Secret
from prefect.blocks.webhook import Webhook
from prefect.states import Crashed

from bento.errors import ConfigError
from flows import notify as notifying
from flows.config import load_config
from flows.notify import SmtpMail, notify, retry, tell_of_failure
from tasks import notices
from tests import receivers
from tests.terminal import SMOKE

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")  # imported by apprise

SECRET = "T0PSECRET"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RETORT_DATABASE_URL", raising=False)


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Blocks by name, without a Prefect server."""
    blocks: dict[str, Any] = {}

    def load(name: str) -> Any:
        if name not in blocks:
            raise ValueError(f"Unable to find block document named {name}")
        return blocks[name]

    monkeypatch.setattr(Block, "load", load)
    return blocks


def custom(port: int) -> CustomWebhookNotificationBlock:
    return CustomWebhookNotificationBlock(
        name="ops",
        url=f"http://127.0.0.1:{port}/{{{{token}}}}",
        json_data={"title": "{{subject}}", "text": "{{body}}"},
        secrets={"token": SECRET},
    )


def test_a_webhook_gets_what_happened(saved: dict[str, Any]) -> None:
    with receivers.web() as got:
        saved["custom-webhook/ops"] = custom(got.port)
        saved["webhook/plain"] = Webhook(url=f"http://127.0.0.1:{got.port}/{SECRET}")
        notify(["custom-webhook/ops", "webhook/plain"], "tiny", "harm", "accuracy fell to 60%")
    assert [json.loads(body) for body in got.bodies] == [
        {"title": "Retort: harm of tiny", "text": "accuracy fell to 60%"},
        {"subject": "Retort: harm of tiny", "text": "accuracy fell to 60%"},
    ]
    assert notices.pending("tiny") == []


def test_slack_gets_what_happened(saved: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from apprise.plugins.slack import NotifySlack

    with receivers.web() as got:
        monkeypatch.setattr(NotifySlack, "webhook_url", f"http://127.0.0.1:{got.port}/services")
        saved["slack-webhook/ops"] = SlackWebhook(
            url="https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
        )
        notify(["slack-webhook/ops"], "tiny", "rollback", "version 1 serves again")
    (body,) = got.bodies
    assert "Retort: rollback of tiny" in body.decode()
    assert "version 1 serves again" in body.decode()


def test_a_mail_server_gets_what_happened(saved: dict[str, Any]) -> None:
    with receivers.mail() as got:
        saved["smtp-mail/team"] = SmtpMail(
            host="127.0.0.1", port=got.port, starttls=False, sender="retort@example.org", to=["a@example.org"]
        )
        notify(["smtp-mail/team"], "tiny", "promotion", "version 2 is champion")
    (body,) = got.bodies
    mail = receivers.as_mail(body)
    assert (mail["Subject"], mail["To"]) == ("Retort: promotion of tiny", "a@example.org")
    assert "version 2 is champion" in mail.get_content()


def test_a_receiver_that_fails_is_recorded_and_tried_at_the_next(saved: dict[str, Any]) -> None:
    with receivers.web() as got:
        saved["custom-webhook/ops"] = custom(got.port)
        got.status = 503
        notify(["custom-webhook/ops"], "tiny", "harm", "it hurts")
        (row,) = notices.pending("tiny")
        assert (row["attempts"], row["error"]) == (1, "HTTPStatusError 503")
        got.status = 200
        retry("tiny")
    assert notices.pending("tiny") == []
    assert len(got.bodies) == 2


def failing(kind: str) -> Any:
    dead = {"host": "127.0.0.1", "port": 9, "starttls": False, "sender": "a@b.org", "to": ["a@b.org"]}
    return {
        "custom-webhook": lambda: custom(9),
        "webhook": lambda: Webhook(url=f"http://127.0.0.1:9/{SECRET}"),
        "slack-webhook": lambda: SlackWebhook(url=f"json://user:{SECRET}@127.0.0.1:9/"),
        "smtp-mail": lambda: SmtpMail(username="a", password=SECRET, **dead),
        "secret": lambda: Secret(value=SECRET),
    }[kind]()


@pytest.mark.parametrize("kind", ["custom-webhook", "webhook", "slack-webhook", "smtp-mail", "secret"])
def test_a_failing_receiver_fails_nothing_and_gives_no_secret_away(
    saved: dict[str, Any], kind: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    saved[f"{kind}/ops"] = failing(kind)
    notify([f"{kind}/ops"], "tiny", "harm", "it hurts")
    (row,) = notices.pending("tiny")
    assert row["error"]
    output = capfd.readouterr()
    assert SECRET not in f"{caplog.text}{output.out}{output.err}{row}"
    assert f"not told through {kind}/ops: {row['error']}" in caplog.text


def test_a_block_that_nobody_saved_is_a_failure_like_any_other(saved: dict[str, Any]) -> None:
    notify(["slack-webhook/nobody"], "tiny", "harm", "it hurts")
    (row,) = notices.pending("tiny")
    assert row["error"] == "ValueError"


def crashed_run(deployment: Any, **parameters: Any) -> Any:
    return SimpleNamespace(deployment_id=deployment, parameters=parameters)


def test_a_killed_run_of_a_deployment_is_told_and_one_by_hand_is_not(saved: dict[str, Any], tmp_path: Path) -> None:
    flow: Any = SimpleNamespace(name="monitor")
    with receivers.web() as got:
        saved["custom-webhook/ops"] = custom(got.port)
        path = tmp_path / "tiny.yaml"
        path.write_text(SMOKE.read_text(encoding="utf-8") + "notify: [custom-webhook/ops]\n", encoding="utf-8")
        tell_of_failure(flow, crashed_run(None, config=str(path)), Crashed(message="killed"))
        assert got.bodies == []
        tell_of_failure(flow, crashed_run(uuid4(), config=str(path)), Crashed(message="killed"))
        tell_of_failure(flow, crashed_run(uuid4(), name="tiny", notify=["custom-webhook/ops"]), Crashed(message="k"))
    first, second = (json.loads(body)["text"] for body in got.bodies)
    assert first == "monitor smoke ended as Crashed: killed"
    assert second == "monitor tiny ended as Crashed: k"


def test_with_the_database_away_a_failed_run_is_told_all_the_same(
    saved: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise sa.exc.OperationalError("SELECT", {}, Exception("away"))

    monkeypatch.setattr(notifying.notices, "post", away)
    flow: Any = SimpleNamespace(name="rollback")
    with receivers.web() as got:
        saved["custom-webhook/ops"] = custom(got.port)
        tell_of_failure(flow, crashed_run(uuid4(), name="tiny", notify=["custom-webhook/ops"]), Crashed(message="k"))
    assert len(got.bodies) == 1


def test_a_receiver_has_a_type_and_a_name(tmp_path: Path) -> None:
    assert load_config(SMOKE, ["notify=[slack-webhook/ops]"]).notify == ("slack-webhook/ops",)
    with pytest.raises(ConfigError, match="notify"):
        load_config(SMOKE, ["notify=[https://hooks.slack.com/services/A/B/C]"])

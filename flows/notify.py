"""Who is told: the Prefect blocks that a config names under `notify`, through the outbox, so that nothing is lost.

Any notification block of Prefect will do (`slack-webhook/ops`, `custom-webhook/pager`, `sendgrid-email/team`, ...), its
plain `webhook`, and `smtp-mail` of this module for a mail server. Addresses and passwords are in the blocks alone.
"""

import asyncio
import inspect
import logging
import smtplib
from collections.abc import Sequence
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa
from prefect import runtime
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.blocks.webhook import Webhook
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from prefect.settings import get_current_settings
from pydantic import Field, SecretStr

from bento.errors import UserError
from flows.config import load_config
from tasks import notices
from tasks.notices import Kind

log = logging.getLogger("retort.notify")

TIMEOUT_SECONDS = 10.0


class SmtpMail(NotificationBlock):
    """Notifications as e-mail through a mail server."""

    _block_type_name = "SMTP Mail"

    host: str = Field(description="Mail server")
    port: int = Field(default=587, description="Its port")
    starttls: bool = Field(default=True, description="Encrypt, before the password is sent; off only for a local relay")
    username: str = Field(default="", description="Empty logs in nowhere")
    password: SecretStr = Field(default=SecretStr(""), description="Of the user")
    sender: str = Field(description="Address that the mail is from")
    to: list[str] = Field(description="Addresses that it goes to")

    def notify(self, body: str, subject: str | None = None) -> None:  # type: ignore[override]  # async in the base class
        """Send one mail. Raises: OSError or smtplib.SMTPException when the server does not take it."""
        mail = EmailMessage()
        mail["Subject"], mail["From"], mail["To"] = subject or "", self.sender, ", ".join(self.to)
        mail.set_content(body)
        with smtplib.SMTP(self.host, self.port, timeout=TIMEOUT_SECONDS) as server:
            if self.starttls:
                server.starttls()
            if self.username:
                server.login(self.username, self.password.get_secret_value())
            server.send_message(mail)


def notify(receivers: Sequence[str], name: str, kind: Kind, text: str) -> None:
    """Tell the receivers now, and those whom an earlier notice did not reach; one that fails is tried at the next."""
    announce(receivers, name, kind, text)
    retry(name)


def announce(receivers: Sequence[str], name: str, kind: Kind, text: str) -> None:
    """Store what the receivers have to be told; `retry` sends it."""
    notices.post(name, kind, f"{text}\n{_run_url()}".strip(), receivers)


def retry(name: str) -> None:
    """Send what has not arrived yet. No failure of a receiver comes out of here."""
    failed = notices.deliver(name, _send)
    if failed:
        log.warning("%s: %d receivers were not reached; the next run tries again", name, failed)


def _send(row: dict[str, Any]) -> str | None:
    """The kind of the failure, without its text, which may hold an address with its secret; None when it arrived."""
    subject = f"Retort: {row['kind']} of {row['name']}"
    loud = [logging.getLogger(name) for name in ("httpx", "apprise")]  # they log whole addresses
    levels = [logger.level for logger in loud]
    try:
        for logger in loud:
            logger.setLevel(logging.CRITICAL)
        _hand_over(Block.load(row["receiver"]), row["text"], subject)
    except Exception as error:  # noqa: BLE001 - a receiver's code may raise anything, and is recorded
        status = f" {error.response.status_code}" if isinstance(error, httpx.HTTPStatusError) else ""
        failure = f"{type(error).__name__}{status}"
        log.warning("%s: not told through %s: %s", row["name"], row["receiver"], failure)
        return failure
    finally:
        for logger, level in zip(loud, levels, strict=True):
            logger.setLevel(level)
    return None


def _hand_over(block: Any, text: str, subject: str) -> None:
    if isinstance(block, Webhook):
        asyncio.run(block.call({"subject": subject, "text": text})).raise_for_status()
    elif isinstance(block, NotificationBlock):
        with block.raise_on_failure():
            sent: Any = block.notify(text, subject=subject)
            if inspect.isawaitable(sent):
                raise TypeError("notify has to be called outside an event loop")
    else:
        raise UserError(f"notify: expected a notification block or a webhook, got a {type(block).__name__}")


def tell_of_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Hook of the flows: a run of a deployment failed, or was killed."""
    if flow_run.deployment_id is None:
        return
    name, receivers = _told(flow_run.parameters)
    text = f"{flow.name} {name} ended as {state.name}: {state.message or 'no reason was given'}"
    try:
        notify(receivers, name, "failed run", text)
    except sa.exc.DBAPIError:  # the outbox is what failed: tell without it, once
        for receiver in receivers:
            _send({"name": name, "kind": "failed run", "text": text, "receiver": receiver})


def _told(parameters: dict[str, Any]) -> tuple[str, Sequence[str]]:
    """The model's name and who is told of it, from a run's parameters."""
    if "config" not in parameters:
        return parameters["name"], parameters.get("notify") or ()
    config = load_config(Path(parameters["config"]), parameters.get("overrides"))
    return config.name, config.notify


def _run_url() -> str:
    """The run's page in Prefect's UI, if this is in a deployment."""
    ui = get_current_settings().ui_url
    return f"{ui}/runs/flow-run/{runtime.flow_run.id}" if ui and runtime.deployment.id else ""

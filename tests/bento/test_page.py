"""The page in a real browser: try, say what was right, label by keyboard, unlock with a key."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from bento import audit_records, records
from bento.app import Server, create_app
from bento.handlers import PAGE_HEADERS
from bento.task_types import Target
from tests.browser import Page, chromium
from tests.live import live
from tests.tiny import write_tiny_model

READY = "document.getElementById('state').textContent === 'ready'"
ANSWERED = "!document.getElementById('result').hidden"
KEY = "a-key-of-the-tests-0"


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """One browser for all; each test opens its own service, so nothing is left of the one before."""
    with chromium() as page:
        page.screen(1280, 900)
        yield page


@pytest.fixture
def open_page(page: Page) -> Iterator[Callable[[Server], str]]:
    """Serve, open the page, and give the URL; nothing may have gone wrong on it at the end."""
    page.problems.clear()
    with ExitStack() as stack:

        def open_(server: Server) -> str:
            url = stack.enter_context(live(create_app(server)))
            page.open(url)
            return url

        yield open_
        page.send("Page.navigate", url="about:blank")
    assert page.problems == []


def classify(page: Page, text: str) -> None:
    page.until(READY)
    page.value("document.getElementById('text').select()")
    page.type(text)
    page.press("Enter")
    page.until(ANSWERED)


def labels_in_database(num: int, timeout_s: float = 10) -> dict[str, str]:
    """Text -> label, once so many labels are stored."""
    until = time.monotonic() + timeout_s
    while len(rows := records.labelled_rows("tiny", 0)) < num and time.monotonic() < until:
        time.sleep(0.05)
    return {row["text"]: row["true_label"] for row in rows}


def test_a_person_tries_a_text_sees_the_scores_and_says_what_was_right(
    page: Page, open_page: Callable[[Server], str], server: Server
) -> None:
    open_page(server)
    page.until("document.activeElement.id === 'text'")
    classify(page, "my card")
    assert page.text("#model-name") == "tiny"
    assert page.text("#verdict-label") in ("card_lost", "refund", "transfer")
    assert page.value("document.querySelectorAll('#bars button').length") == 3
    widths = page.value("[...document.querySelectorAll('#bars .fill')].map((e) => parseFloat(e.style.width))")
    assert widths == sorted(widths, reverse=True)
    assert sum(widths) == pytest.approx(100, abs=0.01)
    page.click("#bars li:nth-child(2) button")
    page.until("document.getElementById('feedback-note').textContent.startsWith('Thank you')")
    second = page.text("#bars li:nth-child(2) .name")
    assert labels_in_database(1) == {"my card": second}


def test_a_label_is_found_among_many_by_typing_and_a_new_one_can_be_saved(
    page: Page, open_page: Callable[[Server], str], make_server: Callable[..., Server], tmp_path: Path
) -> None:
    labels = [f"topic_{number}" for number in range(60)] + ["lost_or_stolen_card"]
    server = make_server(model=write_tiny_model(tmp_path / "many", labels=labels), audit_rate=0)
    open_page(server)
    for text, typed, wanted in (
        ("my card", "stolen card", "lost_or_stolen_card"),
        ("refund", "Brand new", "Brand new"),
    ):
        classify(page, text)
        page.until(
            "!document.getElementById('other').hidden && document.querySelector('#feedback-note').textContent === ''"
        )
        assert page.value("document.querySelectorAll('#bars li').length") == 6
        page.click("#other input")
        page.type(typed)
        page.press("Enter")
        page.until("document.getElementById('feedback-note').textContent.startsWith('Thank you')")
        assert wanted in page.text("#feedback-note")
    assert labels_in_database(2) == {"my card": "lost_or_stolen_card", "refund": "Brand new"}


def test_the_audit_queue_is_labelled_by_keyboard_and_the_last_label_can_be_undone(
    page: Page, open_page: Callable[[Server], str], server: Server
) -> None:
    url = open_page(server)
    texts = ["my card", "refund please", "transfer money", "where is my balance"]
    for text in texts:
        httpx.post(f"{url}/predict", json={"text": text})
    page.until(READY)
    page.open(url)
    page.until("document.getElementById('audit-text').textContent === 'my card'")
    page.value("document.getElementById('audit-item').focus()")
    page.press("s")
    page.until("document.getElementById('audit-text').textContent === 'refund please'")
    page.press("1", "u", "2")
    page.until("document.getElementById('audit-text').textContent === 'transfer money'")
    second = page.value("document.getElementById('audit-held-text').textContent").split("”")[0].removeprefix("“")
    page.press("/")
    page.type("trans")
    page.press("Enter")
    page.until("document.getElementById('audit-text').textContent === 'where is my balance'")
    page.press("Enter")
    first = page.value("document.getElementById('audit-held-text').textContent").split("”")[0].removeprefix("“")
    page.until("document.getElementById('audit-text').textContent === 'my card'")
    stored = labels_in_database(3)
    assert stored == {"refund please": second, "transfer money": "transfer", "where is my balance": first}
    assert audit_records.audit_queue("tiny", 10)[0]["text"] == "my card"


def test_the_queue_shows_its_stream_progress_and_proposal_and_corrects_what_was_labelled_meanwhile(
    page: Page, open_page: Callable[[Server], str], make_server: Callable[..., Server]
) -> None:
    url = open_page(make_server(audit_rate=0.5))
    ids = [httpx.post(f"{url}/predict", json={"text": "my card"}).json()["request_id"] for _ in range(30)]
    httpx.get(f"{url}/audit")
    drawn = [row["request_id"] for row in audit_records.audit_queue("tiny", 100)]
    (odd,) = [each for each in ids if each not in drawn][:1]
    audit_records.add_targets("tiny", [(odd, 0)], "low_confidence")
    audit_records.store_proposals("tiny", [((drawn[0], 0), "transfer", 0.8)], "a" * 64)
    page.open(url)
    page.until("document.getElementById('audit-proposal').textContent.includes('“transfer” (80.0 %)')")
    assert page.text("#audit-count") == f"0 of {len(drawn)} drawn · 1 targeted"
    assert page.text("#audit-stream") == "Drawn at random"
    records.add_feedback("tiny", drawn[0], 0, "refund", 1.0)
    page.value("document.getElementById('audit-item').focus()")
    page.press("t", "1")
    page.until("!document.getElementById('audit-replace').hidden")
    page.problems.clear()  # the 409
    page.click("#audit-replace")
    page.until("document.getElementById('audit-replace').hidden && document.activeElement.id === 'audit-item'")
    assert records.read_request("tiny", drawn[0])[0]["true_label"] == "transfer"
    assert [row["label"] for row in audit_records.history("tiny")] == ["refund"]
    for _ in drawn[2:]:
        page.press("1")
    page.until("document.getElementById('audit-stream').textContent === 'Picked, not drawn: low confidence'")


def test_a_label_that_is_held_back_is_sent_when_the_page_closes(
    page: Page, open_page: Callable[[Server], str], server: Server
) -> None:
    url = open_page(server)
    httpx.post(f"{url}/predict", json={"text": "refund"})
    page.open(url)
    page.until("document.getElementById('audit-text').textContent === 'refund'")
    page.value("document.getElementById('audit-item').focus()")
    page.press("1")
    page.open("about:blank")
    assert set(labels_in_database(1, 3)) == {"refund"}


def test_a_locked_service_asks_for_the_key_and_keeps_it_in_the_tab(
    page: Page, make_server: Callable[..., Server]
) -> None:
    with live(create_app(make_server(api_keys=KEY))) as url:
        page.open(url)
        page.until("document.activeElement.id === 'key'")
        assert page.value("document.querySelector('[aria-labelledby=try-title]').hidden")
        page.type("a-key-that-is-not-known")
        page.press("Enter")
        page.until("document.getElementById('key-error').textContent.includes('not known')")
        page.type(KEY)
        page.press("Enter")
        classify(page, "my card")
        assert page.value("Object.values(sessionStorage)") == [KEY]
        assert page.value("localStorage.length + document.cookie.length") == 0
        page.open(url)
        page.until(READY)
        page.click("#forget-key")
        page.until("document.activeElement.id === 'key'")
        page.send("Page.navigate", url="about:blank")
    assert {problem for problem in page.problems if "401" not in problem} == set()


@pytest.mark.parametrize(
    ("task", "labels", "shown"),
    [
        ("multi_label", ("a", "b", "c"), "document.querySelectorAll('#bars div.bar').length === 3"),
        ("score", ("score",), "/^-?[0-9.]+$/.test(document.getElementById('verdict-label').textContent)"),
        ("entities", ("O", "B-thing", "I-thing"), "document.getElementById('verdict-label').textContent.length > 0"),
    ],
)
def test_models_of_other_tasks_are_shown_as_what_they_answer(
    page: Page, open_page: Callable[[Server], str], make_server: Callable[..., Server], tmp_path: Path,
    task: str, labels: tuple[str, ...], shown: str,
) -> None:  # fmt: skip
    model = write_tiny_model(tmp_path / task, labels=labels, target=Target(task=task))
    open_page(make_server(model=model))
    classify(page, "👍 my card and my refund")
    assert page.value(shown)
    assert page.value("document.getElementById('audit').hidden && document.getElementById('other').hidden")
    for mark in page.value("[...document.querySelectorAll('mark')].map((e) => e.firstChild.textContent)"):
        assert mark.strip() in "👍 my card and my refund"


def test_a_model_of_pairs_asks_for_both_texts(
    page: Page, open_page: Callable[[Server], str], make_server: Callable[..., Server], model_of_pairs: Path
) -> None:
    open_page(make_server(model=model_of_pairs))
    page.until(READY)
    page.value("document.getElementById('text').focus()")
    page.type("my card")
    page.press("Enter")
    page.until("document.getElementById('try-error').textContent.includes('second text')")
    page.click("#text-pair")
    page.type("refund")
    page.press("Enter")
    page.until(ANSWERED)
    assert page.value("document.getElementById('try-error').textContent") == ""


def test_text_is_shown_as_text_and_never_as_markup(
    page: Page, open_page: Callable[[Server], str], server: Server
) -> None:
    url = open_page(server)
    attack = "<img src=x onerror=alert(1)><script>alert(1)</script>"
    httpx.post(f"{url}/predict", json={"text": attack})
    page.open(url)
    page.until(f"document.getElementById('audit-text').textContent === {attack!r}")
    assert page.value("document.querySelectorAll('blockquote *').length") == 0


def test_the_content_security_policy_lets_nothing_else_run(
    page: Page, open_page: Callable[[Server], str], server: Server
) -> None:
    assert "unsafe" not in PAGE_HEADERS["Content-Security-Policy"]
    open_page(server)
    page.until(READY)
    page.value("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))")
    assert page.value("window.ran") is None
    assert any("Content Security Policy" in problem for problem in page.problems)
    page.problems.clear()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_fits_a_phone_and_every_text_has_contrast(
    page: Page, open_page: Callable[[Server], str], server: Server, dark: bool
) -> None:
    open_page(server)
    page.screen(360, 740, dark=dark, phone=True)
    classify(page, "my card")
    assert page.value("document.documentElement.scrollWidth") <= 360
    assert page.value(NAMELESS) == []
    assert {name: ratio for name, ratio in page.value(CONTRASTS) if ratio < 4.5} == {}
    page.screen(1280, 900)


def test_on_a_desk_the_cards_beside_a_long_answer_stay_together(
    page: Page, open_page: Callable[[Server], str], server: Server
) -> None:
    open_page(server)
    page.screen(1280, 900)
    classify(page, "my card")
    page.value("document.querySelector('[aria-labelledby=try-title]').style.minHeight = '1500px'")
    edges = "[...document.querySelectorAll('main > .locked')].map((e) => e.getBoundingClientRect())"
    _, audit, identity = page.value(f"{edges}.map((e) => [e.top, e.bottom])")
    assert 0 < identity[0] - audit[1] <= 20


NAMELESS = """[...document.querySelectorAll('input, textarea, button, a')].filter((e) => e.checkVisibility()
  && !(e.labels?.length || e.textContent.trim() || e.getAttribute('aria-label'))).map((e) => e.outerHTML)"""
CONTRASTS = """(() => {
  const parse = (color) => color.match(/[0-9.]+/g).map(Number);
  const linear = (v) => v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4;
  const light = (c) => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const color = parse(getComputedStyle(e).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const written = (e) => e.checkVisibility() && [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  return [...document.querySelectorAll('body *')].filter(written).map((e) => {
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))];
    const name = `${e.tagName} ${e.className} ${e.textContent.trim().slice(0, 30)}`;
    return [name, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
  });
})()"""
"""Each element with text, and the contrast ratio of WCAG 2 between its text and its background."""

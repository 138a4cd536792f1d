"""The exported page in Chromium: the service's answers, also after its web server is gone."""

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bento.entities import words_of
from bento.predictor import Predictor
from bento.task_types import Task
from tasks.compress.context import Context
from tasks.compress.quantize import Quantize
from tasks.edge import check
from tasks.types import Artifact
from tests.browser import Page, chromium
from tests.tasks.edge.exports import Exporting, tiny

READY = "document.getElementById('state').textContent.startsWith('ready')"
OFFLINE = "document.getElementById('state').textContent === 'ready, works offline'"
NUM_KEPT = "caches.keys().then((names) => names.length)"
ANSWER = """
(async () => {
  const { load } = await import("./predictor.js");
  const read = async (path) => new Uint8Array(await (await fetch(path)).arrayBuffer());
  window.asked ??= await load(read);
  const answers = [];
  for (const text of TEXTS)
    answers.push({ ...(await asked.predict(text)), token_ids: asked.tokens.encode(text).ids });
  return answers;
})()
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """`python -m http.server` without its log."""

    def log_message(self, format: str, *values: object) -> None:
        """Nothing."""


@contextmanager
def web_server(folder: Path, port: int = 0) -> Iterator[str]:
    """The folder on localhost, as `python -m http.server` serves it; its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://localhost:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ask(page: Page, text: str, pair: str | None = None) -> None:
    """As a person does: write, press Enter, wait for the answer."""
    page.value("document.getElementById('result').hidden = true")
    for field, value in (("text", text), ("text-pair", pair)):
        if value is not None:
            page.value(f"document.getElementById('{field}').value = ''; document.getElementById('{field}').focus()")
            page.type(value)
    page.press("Enter")
    page.until("!document.getElementById('result').hidden")


def test_200_sentences_get_the_services_answers(
    export: Exporting, context: Context, exported: Artifact, tmp_path: Path
) -> None:
    model = Quantize(scheme="int8_static").run(exported, context).artifact.path
    export(model, tmp_path / "out")
    predictor = Predictor(model)
    texts = check.make_texts(predictor)
    found: list[dict[str, object]] = []
    with web_server(tmp_path / "out") as url, chromium() as page:
        page.open(url)
        page.until(READY, 60)
        for start in range(0, len(texts), 20):
            found += page.value(ANSWER.replace("TEXTS", json.dumps(texts[start : start + 20])))
        problems = page.problems
    done = check.agreement(texts, check.expected_answers(predictor, texts), found, predictor.manifest.target)
    assert (done.num_texts, problems) == (200, [])
    assert done.num_same >= 198


def test_it_answers_after_its_server_is_gone_and_shows_which_model_did(export: Exporting, tmp_path: Path) -> None:
    model = tiny(tmp_path / "model")
    export(model, tmp_path / "out")
    predictor = Predictor(model)
    (expected,) = predictor.answers(["my card is lost"], predictor.predict(["my card is lost"]))["label"]
    with chromium() as page:
        with web_server(tmp_path / "out") as url:
            page.open(url)
            page.until(OFFLINE, 60)
        with pytest.raises(AssertionError):
            page.value("fetch('/not-kept')")
        page.open("about:blank")
        page.open(url)
        page.until(OFFLINE, 60)
        ask(page, "my card is lost")
        assert page.text("#verdict-label") == expected
        assert "ms on this device" in page.text("#verdict-meta")
        assert predictor.sha256[:16] in page.text("#identity")
        assert len(page.value("[...document.querySelectorAll('#bars li')].map((row) => row.textContent)")) == 3


def test_a_new_export_replaces_the_kept_one(export: Exporting, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(tiny(tmp_path / "model"), out)
    with web_server(out) as url, chromium() as page:
        page.open(url)
        page.until(OFFLINE, 60)
        export(tiny(tmp_path / "other", "score"), out)
        page.open(url)
        page.until("navigator.serviceWorker.getRegistration().then((found) => found.waiting !== null)", 60)
        for _ in range(20):  # a kept export lasts until the browser lets go of the last page that uses it
            page.open("about:blank")
            page.open(url)
            page.until(READY, 60)
            if page.value(NUM_KEPT) == 1:
                break
        ask(page, "my card is lost")
        assert page.text("#verdict-label").replace(".", "").isdigit()
        assert page.value(NUM_KEPT) == 1


def test_a_page_whose_files_cannot_be_kept_says_that_it_needs_its_server(export: Exporting, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(tiny(tmp_path / "model"), out)
    (out / "icon.svg").unlink()
    with web_server(out) as url, chromium() as page:
        page.open(url)
        page.until(READY, 60)
        assert page.text("#state") == "ready, needs its web server"


@pytest.mark.parametrize("task", ["multi_label", "score", "entities"])
def test_every_task_has_its_rows(export: Exporting, tmp_path: Path, task: Task) -> None:
    model = tiny(tmp_path / "model", task, pairs=task == "score")
    export(model, tmp_path / "out")
    with web_server(tmp_path / "out") as url, chromium() as page:
        page.open(url)
        page.until(READY, 60)
        ask(page, "my card is lost", "help please" if task == "score" else None)
        assert page.text("#verdict-label")
        assert page.problems == []


def test_an_empty_text_and_a_missing_file_are_told_on_the_page(export: Exporting, tmp_path: Path) -> None:
    export(tiny(tmp_path / "model"), tmp_path / "out")
    with web_server(tmp_path / "out") as url, chromium() as page:
        page.open(url)
        page.until(READY, 60)
        page.click("#classify")
        assert page.text("#error") == "Write a text first."
    (tmp_path / "out" / "model" / "tokenizer.json").unlink()
    with web_server(tmp_path / "out") as url, chromium() as page:
        page.open(url)
        page.until("!document.getElementById('error').hidden", 60)
        assert page.text("#error").startswith("model/tokenizer.json: expected the file, got status 404")


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1280, False)])
def test_it_fits_a_phone_and_a_desk(export: Exporting, tmp_path: Path, width: int, dark: bool) -> None:
    export(tiny(tmp_path / "model"), tmp_path / "out")
    with web_server(tmp_path / "out") as url, chromium() as page:
        page.screen(width, 844, dark=dark, phone=dark)
        page.open(url)
        page.until(READY, 60)
        ask(page, " ".join(["averyveryverylongword" * 5] * 3))
        assert page.value("document.documentElement.scrollWidth") <= width
        ground = page.value("getComputedStyle(document.body).backgroundColor")
        brightness = sum(int(part) for part in ground[4:-1].split(","))
        assert (brightness < 150) == dark


def test_words_are_those_of_the_service_in_every_script(export: Exporting, tmp_path: Path) -> None:
    export(tiny(tmp_path / "model", "entities"), tmp_path / "out")
    texts = ["a_b c-d e\u0301 ½ ² ٣", "東京 タワー 한국어", "😀👩‍👧 x\u00a0y\u200bz\x1c", "Ünï–cödé’s ǅ ª"]
    with web_server(tmp_path / "out") as url, chromium() as page:
        page.open(url)
        page.until(READY, 60)
        found = page.value(f"import('./entities.js').then((m) => {json.dumps(texts)}.map(m.wordsOf))")
    assert found == [[list(word) for word in words_of(text)] for text in texts]

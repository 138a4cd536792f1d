"""The build report says what the summary says, whole or in part, and trusts no text in it."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.report import build
from tasks.report.build import picture, write_build_report
from tasks.report.details import lineage_chain
from tests.tasks.report.sample import HOSTILE, build_summary, score_summary, verdict

VOID = {"meta", "link", "br", "hr", "img", "input", "path", "line", "circle", "use", "rect"}


class Reader(HTMLParser):
    """Collects the text and the tags, and checks that they nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


def read(summary: dict[str, Any], folder: Path) -> Reader:
    return Reader(write_build_report(summary, folder).read_text(encoding="utf-8"))


def test_the_page_stands_alone_and_is_small(tmp_path: Path):
    path = write_build_report(build_summary(), tmp_path / "new")
    html = path.read_text(encoding="utf-8")
    page = Reader(html)
    assert path == tmp_path / "new" / "report.html"
    assert len(html.encode()) < 500_000
    assert page.open == []
    assert "script" not in page.tags
    assert all(address.startswith("#") or re.fullmatch(r"\w+\.csv", address) for address in page.addresses)
    assert not re.search(r"https?://|@import|url\((?!#)", html)
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_texts_of_the_data_cannot_become_markup(tmp_path: Path):
    summary = build_summary() | {"name": HOSTILE, "config_yaml": HOSTILE, "command": HOSTILE}
    summary["per_class"][0]["label"] = HOSTILE
    summary["steps"][1]["name"] = HOSTILE
    summary["verdicts"][0]["gate"] = summary["verdicts"][0]["reason"] = HOSTILE
    summary["latency_ms"][HOSTILE] = [1.0, 2.0]
    html = write_build_report(summary, tmp_path).read_text(encoding="utf-8")
    assert "<script" not in html
    assert Reader(html).text.count(HOSTILE) >= 9


def test_the_verdict_comes_first_and_the_ratios_are_right(tmp_path: Path):
    text = read(build_summary(), tmp_path).text
    assert text.index("Promoted") < text.index("Result") < text.index("Gate") < text.index("Lineage")
    assert "12× smaller" in text
    assert "20× faster" in text
    assert "−0.40 pt" in text
    assert "91.3 to 93.4" in text


def test_a_report_of_scores_tells_correlations_and_never_accuracy(tmp_path: Path):
    text = read(score_summary(), tmp_path).text
    for words in ("Spearman", "0.924", "0.913 to 0.934", "−0.004", "test Spearman, 95 % interval", "cosine of both"):
        assert words in text
    assert "this one answers scores" in text
    assert "The first of 3,076" in text
    assert "this one answers" not in read(build_summary(), tmp_path).text
    shown = text.replace("accuracy_vs_teacher", "")
    assert not [word for word in ("accuracy", "Accuracy", "logistic", "F1 by class") if word in shown]


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ("promoted", "serves as the champion"),
        ("blocked", "The champion has not moved"),
        ("inconclusive", "The evidence does not decide"),
        ("awaiting_approval", "A person has yet to approve"),
        ("failed", "did not finish"),
    ],
)
def test_each_outcome_is_told_in_words(tmp_path: Path, outcome: str, words: str):
    assert words in read({"name": "bank", "outcome": outcome}, tmp_path).text


def test_a_no_is_explained_beside_the_verdict(tmp_path: Path):
    no = verdict("size_mb", "fail", 12.3, 10.0, reason="12.3 MB is more than 10 MB")
    page = read(build_summary() | {"outcome": "blocked", "verdicts": [no]}, tmp_path)
    assert page.text.index("12.3 MB is more than 10 MB") < page.text.index("against teacher")
    assert "✗ fail" in page.text


def test_a_candidate_that_is_worse_is_not_called_better(tmp_path: Path):
    summary = build_summary()
    summary["scores"]["candidate"] |= {"size_bytes": 181_800_000, "latency_ms_p50": 12.4}
    text = read(summary, tmp_path).text
    assert "2.0× larger" in text
    assert "2.0× slower" in text


def test_steps_are_compared_with_the_one_before(tmp_path: Path):
    text = read(build_summary(), tmp_path).text
    assert "2.5× smaller" in text  # 69.9 MB to 28.0 MB
    assert "2 min 13 s" in text  # distil and export together


@pytest.mark.parametrize("key", sorted(set(build_summary())))
def test_a_missing_key_only_drops_its_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str):
    if key not in ("scores", "steps", "latency_ms"):  # nothing else is drawn
        monkeypatch.setattr(build, "_charts", lambda summary: [])
    if key not in ("per_class", "confusion"):
        monkeypatch.setattr(build, "_class_charts", lambda summary: [])
    if key not in ("reliability", "analysis"):
        monkeypatch.setattr(build, "calibration_view", lambda summary: None)
    summary = build_summary()
    del summary[key]
    page = read(summary, tmp_path)
    assert page.open == []
    assert "Made by Retort" in page.text


def test_an_empty_summary_is_still_a_page(tmp_path: Path):
    assert "Nothing was measured" in read({}, tmp_path).text


def test_what_was_not_measured_is_a_dash(tmp_path: Path):
    summary = build_summary()
    summary["scores"]["floor"] |= {"latency_ms_p50": None, "throughput_per_s": float("nan"), "accuracy_interval": None}
    text = read(summary, tmp_path).text
    assert "–" in text
    assert "nan" not in text.lower()
    assert "None" not in text


def test_the_weakest_classes_come_first(tmp_path: Path):
    text = read(build_summary(), tmp_path).text
    assert "The 12 weakest of 30 classes" in text
    assert text.index("class 0 ") < text.index("class 1 ") < text.index("The other 18 classes")


def test_parents_are_named_where_they_are_known(tmp_path: Path):
    text = read(build_summary(), tmp_path).text
    assert "e" * 16 in text
    assert re.search(r"quantize a{16} data", text)


def test_the_chain_leads_from_the_data_to_the_bento(tmp_path: Path):
    summary = build_summary()
    summary["lineage"].insert(1, {"step": "evaluate", "sha256": "c" * 64, "parents": ["d" * 64]})
    chain = lineage_chain(summary)
    assert [item["name"] for item in chain] == ["data", "quantize", "registered", "Bento"]
    assert [item["sha256"] for item in chain][2:] == ["version 3", "bank:abc"]
    assert re.search(r"data d{12} quantize a{12} registered version 3 Bento bank:abc", read(summary, tmp_path).text)


def test_every_section_can_be_reached_and_no_link_leads_nowhere(tmp_path: Path):
    html = write_build_report(build_summary(), tmp_path).read_text(encoding="utf-8")
    targets = set(re.findall(r'href="#(\w+)"', html))
    assert {"result", "gate", "classes", "flips", "slices", "labels", "behaviour", "calibration", "again"} <= targets
    assert targets <= set(re.findall(r' id="(\w+)"', html))


def test_a_build_as_large_as_they_come_stays_small(tmp_path: Path):
    summary = build_summary()
    summary["per_class"] = [summary["per_class"][at % 30] | {"label": f"class {at}"} for at in range(300)]
    summary["confusion"] = {"labels": [f"class {at}" for at in range(300)], "counts": np.ones((300, 300)).tolist()}
    assert write_build_report(summary, tmp_path).stat().st_size < 1_500_000


def test_the_picture_is_a_png_of_the_promised_size(tmp_path: Path):
    path = picture(build_summary(), tmp_path / "deep" / "picture.png")
    with Image.open(path) as image:
        assert (image.format, image.size) == ("PNG", (1200, 600))
        assert len(set(image.convert("L").resize((60, 30)).tobytes())) > 5


def test_the_picture_of_a_build_without_scores_is_drawn(tmp_path: Path):
    assert picture({"name": "empty"}, tmp_path / "picture.png").stat().st_size > 0


def test_the_same_summary_gives_the_same_page(tmp_path: Path):
    first = write_build_report(build_summary(), tmp_path / "1").read_bytes()
    assert write_build_report(build_summary(), tmp_path / "2").read_bytes() == first

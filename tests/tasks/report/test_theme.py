"""Numbers are written with their units, and what is missing is never a number."""

import pytest

from tasks.report import theme


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (theme.size(7_300_000), "7.3 MB"),
        (theme.size(412_000), "412 kB"),
        (theme.milliseconds(0.3512), "0.351 ms"),
        (theme.milliseconds(6.2), "6.20 ms"),
        (theme.milliseconds(1234.0), "1,234 ms"),
        (theme.seconds(0.21), "0.2 s"),
        (theme.seconds(212.4), "3 min 32 s"),
        (theme.percent(0.9236), "92.4 %"),
        (theme.compared(12.4, "smaller", "larger"), "12× smaller"),
        (theme.compared(0.5, "smaller", "larger"), "2.0× larger"),
        (theme.compared(1.0, "smaller", "larger"), "the same"),
        (theme.in_gate_unit("latency_p95_ms", 5), "5.00 ms"),
        (theme.in_gate_unit("size_mb", 7.31), "7.31 MB"),
        (theme.in_gate_unit("accuracy_vs_teacher", -0.01), "−1.00 pt"),
        (theme.in_gate_unit("accuracy", 0.915), "91.50 %"),
        (theme.in_gate_unit("calibration_error", 0.0351), "3.51 %"),
        (theme.in_gate_unit("unknown_words", 0.01), "1.00 %"),
        (theme.in_gate_unit("brier_vs_teacher", -0.0117), "-0.0117"),
        (theme.in_gate_unit("batch_shift", 0.0), "0"),
        (theme.in_gate_unit("holdout_uses", 3.0), "3"),
        (theme.readable_time("2026-11-24T01:00:00+00:00"), "2026-11-24 01:00 UTC"),
        (theme.readable_time("yesterday"), "yesterday"),
    ],
)
def test_numbers_have_their_units(written: str, expected: str):
    assert written == expected


@pytest.mark.parametrize("missing", [None, float("nan"), float("inf"), "x", True])
def test_what_is_no_number_is_a_dash(missing: object):
    written = {
        show(missing) for show in (theme.size, theme.milliseconds, theme.seconds, theme.percent, theme.significant)
    }
    assert written == {theme.MISSING}


def test_every_colour_of_light_has_one_of_dark_and_they_are_distinct():
    assert theme.LIGHT.keys() == theme.DARK.keys()
    assert len(set(theme.LIGHT.values())) == len(theme.LIGHT)


def relative_luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [theme.LIGHT, theme.DARK])
@pytest.mark.parametrize("name", ["ink", "muted", "good", "bad", "unsure", "teacher", "candidate"])
def test_texts_can_be_read_on_the_paper(scheme: dict[str, str], name: str):
    light, dark = sorted((relative_luminance(scheme[name]), relative_luminance(scheme["paper"])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2.1, level AA


@pytest.mark.parametrize(("text", "shown"), [("no drift", "No drift."), ("Why?", "Why?"), ("", "")])
def test_a_sentence_begins_and_ends_as_one(text: str, shown: str) -> None:
    assert theme.sentence(text) == shown

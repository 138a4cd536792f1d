"""What of a text the request log may keep: all of it, all but what finds a person, a keyed digest, or nothing.

Every expression here is linear in the text: a run of characters is entered at its start only, and what was taken of it
is not given back, or at most a bounded number of times.
"""

import hmac
import itertools
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

LogText = Literal["keep", "redact", "hash", "drop"]
"""`RETORT_LOG_TEXT`."""

HASHED = "hmac-sha256:"
"""What a stored digest begins with."""
LOCAL = r"\w.!#$%&'*+/=?^`{|}~-"
EMAIL = re.compile(rf"(?<![{LOCAL}])[{LOCAL}]++@[^\W_][\w-]*+(?:\.[\w-]++)++")
DASHES = r"\u2010-\u2015-"
CARD_RUN = re.compile(rf"\d(?:[ \u00a0\u2009\u202f{DASHES}]{{0,3}}\d){{12,}}+")
CARD_DIGITS = (13, 19)
"""ISO/IEC 7812: the fewest and most digits of a card's number."""
BETWEEN = rf"[ \u00a0\u2009\u202f().\/{DASHES}]{{0,3}}"
PHONE = re.compile(
    r"(?<![\d+])(?!\d{4}-\d\d-\d\d)"  # no date
    rf"(?:\+\(?\d(?:{BETWEEN}\d){{6,14}}|\(?\d(?:{BETWEEN}\d){{8,14}})(?!\d)"  # at most 15 digits: ITU-T E.164
)


def text_rule(mode: LogText, key: str | None = None) -> Callable[[str], str]:
    """From a text to what is stored of it; `key` is needed by `hash` alone."""
    if mode == "hash":
        if not key:
            raise ValueError("expected a key for the digests of texts, got none; set RETORT_LOG_KEY")
        return partial(hashed, key=key.encode())
    return {"keep": without_nul, "redact": redact, "drop": _dropped}[mode]


def is_readable(stored: str) -> bool:
    """Whether a stored text still is one, and not a digest or nothing. Requests with an empty text are refused."""
    return stored != "" and not stored.startswith(HASHED)


def without_nul(text: str) -> str:
    """PostgreSQL refuses NUL in text, so it is stored as the replacement character."""
    return text.replace("\0", "\ufffd")


def hashed(text: str, *, key: bytes) -> str:
    """A keyed digest: equal texts can be counted, and without the key no guess at a text can be checked."""
    return HASHED + hmac.digest(key, text.encode(), "sha256").hex()


def redact(text: str) -> str:
    """`text` with e-mail addresses, card numbers and phone numbers replaced; it rather hides too much.

    A card number has 13-19 digits and passes Luhn's check (ISO/IEC 7812). A phone number has 9-15 digits, or 7-15 after
    a plus sign. A few spaces, dashes, and in phone numbers dots, slashes and brackets may stand between digits.
    """
    text = without_nul(text)
    if "@" in text:
        text = EMAIL.sub("[email]", text)
    return PHONE.sub("[phone]", CARD_RUN.sub(_without_cards, text))


def _dropped(_text: str) -> str:
    return ""


def _without_cards(found: re.Match[str]) -> str:
    """A run of digits without the card numbers in it, each of which begins and ends with a group of digits."""
    run = found[0]
    places = [at for at, sign in enumerate(run) if sign.isdecimal()]
    kept, copied, first = [], 0, 0
    sums = _luhn_sums([int(run[at]) for at in places])
    while first < len(places):
        end = _card_end(places, sums, first)
        if end is not None:
            kept += [run[copied : places[first]], "[card]"]
            copied = places[end - 1] + 1
        first = end or first + 1
    return "".join(kept) + run[copied:]


def _luhn_sums(digits: Sequence[int]) -> tuple[list[int], list[int]]:
    """Running sums, one with the digits at even places doubled, one with those at odd places."""

    def sums(parity: int) -> list[int]:
        weighed = (2 * digit - 9 * (digit > 4) if at % 2 == parity else digit for at, digit in enumerate(digits))
        return list(itertools.accumulate(weighed, initial=0))

    return sums(0), sums(1)


def _card_end(places: Sequence[int], sums: tuple[list[int], list[int]], first: int) -> int | None:
    """Where the longest card number that begins with digit `first` ends, if there is one."""
    if first and places[first - 1] == places[first] - 1:
        return None
    fewest, most = CARD_DIGITS
    for end in range(min(first + most, len(places)), first + fewest - 1, -1):
        ends_group = end == len(places) or places[end] != places[end - 1] + 1
        if ends_group and (sums[end % 2][end] - sums[end % 2][first]) % 10 == 0:
            return end
    return None

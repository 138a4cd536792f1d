"""The demo's world: what moves in a phase is what its name says, and no message comes twice."""

from collections import Counter

from flows.demo.world import MIX_CLASSES, MIXED, MOVED, QUIET, SIGNED, Message, People
from tasks.data.synthetic import intents


def share_of_frequent(messages: list[Message]) -> float:
    return sum(message.label in intents()[:MIX_CLASSES] for message in messages) / len(messages)


def test_every_message_of_every_phase_is_new_and_the_same_for_the_same_seed() -> None:
    people, again = People(3), People(3)
    found = [message for phase in (QUIET, MIXED, MOVED, QUIET) for message in people.write(phase, 200)]
    assert max(Counter(message.text for message in found).values()) == 1
    assert found == [message for phase in (QUIET, MIXED, MOVED, QUIET) for message in again.write(phase, 200)]


def test_where_everybody_signs_there_is_a_signature_behind_each_text() -> None:
    signed, plain = People().write(SIGNED, 100), People().write(QUIET, 100)
    assert all(" - " in message.text for message in signed)
    assert 10 < sum(" - " in message.text for message in plain) < 90


def test_another_mix_makes_some_classes_far_more_frequent() -> None:
    assert share_of_frequent(People().write(MIXED, 400)) > 1.5 * share_of_frequent(People().write(QUIET, 400))

"""A user's error is told in words: on a run's page without a traceback, in a terminal once."""

import logging

import pytest

from bento.errors import DataError
from flows.stages import _UserErrors

MESSAGE = "rows.csv cannot be used:\n- training has only one label"


@pytest.fixture
def logger(caplog: pytest.LogCaptureFixture) -> logging.Logger:
    logger = logging.Logger("planted")
    logger.addHandler(caplog.handler)
    return logger


def run_that_fails(logger: logging.Logger) -> None:
    try:
        raise DataError(MESSAGE)
    except DataError:
        logger.exception("Encountered exception during execution")
    logger.info("Finished in state Failed(%r)", MESSAGE)
    logger.info("Stopping")


def test_a_page_has_the_words_and_no_traceback(logger: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    logger.addFilter(_UserErrors(told_at_the_end=False))
    run_that_fails(logger)
    assert caplog.messages[0] == MESSAGE
    assert "Traceback" not in caplog.text
    assert len(caplog.messages) == 3


def test_a_terminal_has_it_once_from_the_command_line(logger: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    logger.addFilter(_UserErrors(told_at_the_end=True))
    run_that_fails(logger)
    assert caplog.messages == ["Stopping"]


def test_an_error_of_our_own_keeps_its_traceback(logger: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    logger.addFilter(_UserErrors(told_at_the_end=True))
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        logger.exception("Encountered exception during execution")
    assert "Traceback" in caplog.text

"""The search for secrets finds one in every kind of place. Otherwise finding none would prove nothing."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from urllib.parse import quote_plus

import pytest

import pglisten
from support.fixtures.secrets import MARK, PASSWORDS, PAYLOAD, Searched

ODD = PASSWORDS["odd"]

logger = logging.getLogger("pglisten.search")


class Holder:
    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"<Holder {self.text}>"


def _raised(code: str, **variables: object) -> Exception:
    """Return what *code* raises, as if it were a part of the package."""
    try:
        exec(compile(code, pglisten.__file__, "exec"), variables)
    except Exception as error:  # noqa: BLE001 - whatever it is
        return error
    raise AssertionError(code)


def _in_a_cause() -> Exception:
    error = ValueError("harmless")
    error.__cause__ = KeyError(ODD)
    return error


def _in_a_suppressed_context() -> Exception:
    return _raised("try:\n raise KeyError(text)\nexcept KeyError:\n raise ValueError from None", text=ODD)


def _in_an_attribute() -> Exception:
    error = pglisten.ServerError("harmless")
    error.detail = ODD
    return error


def _log_in_an_argument_that_is_not_shown() -> None:
    logger.debug("%.0s", Holder(ODD))


def _log_with_a_traceback() -> None:
    try:
        raise _in_a_cause()
    except ValueError:
        logger.exception("harmless")


PLACES: dict[str, Callable[[Searched], object]] = {
    "a log": lambda searched: logger.debug("the password is %s", ODD),
    "a log of another library's": lambda searched: logging.getLogger("other").info(ODD),
    "an argument of a log": lambda searched: _log_in_an_argument_that_is_not_shown(),
    "a traceback in a log": lambda searched: _log_with_a_traceback(),
    "a repr": lambda searched: searched.show(Holder(ODD)),
    "a message": lambda searched: searched.error(ValueError(ODD)),
    "an error's cause": lambda searched: searched.error(_in_a_cause()),
    "a suppressed context": lambda searched: searched.error(_in_a_suppressed_context()),
    "an attribute of an error": lambda searched: searched.error(_in_an_attribute()),
    "a variable": lambda searched: searched.error(_raised("x = text[:9]; x + 1", text=ODD)),
    "a variable in an error that is shown": lambda searched: searched.show(
        _raised("x = [text]; 1 / 0", text=ODD)
    ),
    "standard output": lambda searched: print(ODD),
    "standard error": lambda searched: print(ODD, file=sys.stderr),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_password_is_found_in(searched: Searched, place: str) -> None:
    PLACES[place](searched)
    _found(searched)


@pytest.mark.parametrize(
    "text", [quote_plus(ODD), repr(ODD), ascii(ODD), repr(ODD.encode()), ODD.lower(), MARK, f"x{MARK}"]
)
def test_it_is_found_however_it_is_written_and_from_any_piece(searched: Searched, text: str) -> None:
    searched.show(text)
    _found(searched)


def test_a_payload_is_found_in_a_log_and_not_where_it_belongs(searched: Searched) -> None:
    print(PAYLOAD)
    searched.output(payload_allowed=True)
    searched.error(_raised("1 / 0", sql=f"NOTIFY x, '{PAYLOAD}'"))
    assert searched.leaks() == []
    logger.info("got %r", PAYLOAD)
    _found(searched)


def test_what_a_caller_has_handed_over_is_no_finding_and_a_piece_of_it_is(searched: Searched) -> None:
    searched.error(_raised("1 / 0", dsn=ODD), own=(ODD,))
    assert searched.leaks() == []
    searched.error(_raised("piece = dsn[10:20]; 1 / 0", dsn=ODD), own=(ODD,))
    _found(searched)


def _found(searched: Searched) -> None:
    assert searched.leaks()
    searched.traces.clear()
    searched.show("that there is something, and nothing in it")

from __future__ import annotations

import pytest

from pglisten._listener import states as _states
from pglisten._listener.states import TRANSITIONS, State, Trigger


def _rows() -> list[tuple[str, str, str]]:
    assert _states.__doc__ is not None
    lines = _states.__doc__.splitlines()
    start = next(n for n, line in enumerate(lines) if line.strip().startswith("-----"))
    rows = []
    for line in lines[start + 1 :]:
        if not line.strip():
            break
        state, happening, following = line.split()
        rows.append((state, happening, following))
    return rows


def test_the_table_in_the_docstring_is_the_one_that_runs() -> None:
    drawn = {}
    for state, happening, following in _rows():
        for each in State if state == "(any)" else [State[state]]:
            drawn[each, Trigger[happening]] = State[following]
    assert drawn == dict(TRANSITIONS)


def test_every_state_can_be_reached_and_closed() -> None:
    assert {State.DIALLING, *TRANSITIONS.values()} == set(State)
    assert all(TRANSITIONS[state, Trigger.CLOSE] is State.CLOSED for state in State)


def test_nothing_leads_out_of_closed() -> None:
    assert {TRANSITIONS[key] for key in TRANSITIONS if key[0] is State.CLOSED} == {State.CLOSED}


def test_what_the_table_does_not_name_cannot_happen() -> None:
    with pytest.raises(KeyError):
        TRANSITIONS[State.DIALLING, Trigger.LOST]

"""Run tests in this process under an agent: ``watched.py AGENT before|after|patched TEST...``.

The agent is started before pglisten is imported, after pglisten and the drivers are imported, or before, in a
process that gevent has patched. Each test is one unit of the agent's work. The run fails if the agent has
recorded anything that pglisten has sent or received.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gevent import monkey
from gevent.event import Event

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.agents import AGENTS, APPLICATION, Agent

MARK = "Jkwv"
"""In every payload and channel of the tests in marked.py."""

TOO_LATE = "Module already imported so cannot be rewritten"
"""pytest's warning of an agent that is a plugin of pytest as well, and was imported before it."""


class Watch:
    """The plugin: what was sent by whom, and what the agent has of it."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.ours: set[str] = set()
        """SQL that pglisten has sent."""
        self.applications = {APPLICATION}
        """SQL that the tests have sent over a connection of their own, as an application would."""
        self._news = Event()

    @pytest.fixture
    def watch(self) -> Watch:
        """Return this, for tests that look for themselves."""
        return self

    def wait_for(self, sql: str) -> None:
        """Wait until pglisten has sent *sql*."""
        while sql not in self.ours:
            self._news.clear()
            assert self._news.wait(20)

    def listen_in(self) -> None:
        """Note what each side sends."""
        from pglisten import available_backends
        from pglisten.backend import Session
        from support.servers.control import Control

        available_backends()  # Import them all.
        sessions: list[type] = [Session]
        for session in sessions:
            sessions += session.__subclasses__()
            for name in {"execute", "fetch"} & vars(session).keys():
                setattr(session, name, self._noting(getattr(session, name), self.ours))
        Control.query = self._noting(Control.query, self.applications)  # type: ignore[method-assign]

    def _noting(self, function: Callable[..., Any], noted: set[str]) -> Callable[..., Any]:
        def note(this: object, sql: str, *arguments: object) -> Any:
            noted.add(sql)
            self._news.set()
            return function(this, sql, *arguments)

        return note

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        with self.agent.unit(item.nodeid):
            return (yield)

    def failures(self) -> Iterator[str]:
        """Yield what is wrong with what the agent has recorded."""
        seen = set(self.agent.statements)
        if not self.ours:
            yield "nothing was sent by pglisten"
        if APPLICATION not in seen:
            yield "the agent has not even recorded what the application asked"
        for statement in seen - self.applications:
            whose = "pglisten's" if statement in self.ours else "not the application's"
            yield f"the agent has recorded a statement that is {whose}: {statement}"
        for record in self.agent.records:
            if MARK in record:
                at = record.index(MARK)
                yield f"the agent has recorded a channel or payload: ...{record[max(0, at - 300) : at + 100]}"

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if any(self.failures()) and not session.config.option.collectonly:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        records = len(self.agent.records)
        terminalreporter.write_line(f"{records} records, {len(self.ours)} statements of pglisten's")
        for failure in self.failures():
            terminalreporter.write_line(f"FAILED {failure}")


def main(name: str, moment: str, *arguments: str) -> int:
    agent = AGENTS[name]()
    watch = Watch(agent)
    if moment == "after":
        import pglisten

        assert pglisten.available_backends()  # Which imports the drivers.
    if moment == "patched":
        monkey.patch_all()
    agent.start()
    assert ("pglisten" in sys.modules) is (moment == "after")
    logging.getLogger("pglisten").setLevel(logging.DEBUG)
    watch.listen_in()
    options = ["-q", "-p", "no:cacheprovider", "--tb=short", "-p", "no:ddtrace", "-W", f"ignore:{TOO_LATE}"]
    return pytest.main([*options, "-m", "not slow and not sweep", *arguments], plugins=[watch])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

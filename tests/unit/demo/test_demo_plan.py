"""What can be asked of ``pglisten demo``."""

from __future__ import annotations

import argparse
import importlib.util
import re

import pytest

from pglisten import ConfigurationError
from pglisten._cli.arguments import parser
from pglisten._cli.main import main
from pglisten._demo.plan import plan
from pglisten._demo.web.address import is_loopback, listen, url
from support.fixtures.environment import installed_backends


def read(*arguments: str) -> argparse.Namespace:
    return parser(listen=None, notify=None, log=None, doctor=None, demo=None).parse_args(["demo", *arguments])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--web-port", "0"],
        ["--web-port", "65536"],
        ["--web-port", "http"],
        ["--web-port", "-1"],
        ["--web-port", "٣"],
        ["--workers", "0"],
        ["--workers", "33"],
        ["--workers", "1.5"],
        ["--web-host"],
    ],
)
def test_what_is_no_port_or_number_of_workers_shows_the_usage(
    capfd: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", *arguments])
    assert ended.value.code == 2
    assert capfd.readouterr().err.startswith("usage: pglisten demo ")


@pytest.mark.skipif(not installed_backends(), reason="no driver is installed")
@pytest.mark.parametrize("option", ["web-host", "web-port", "workers"])
def test_what_is_for_the_page_is_refused_in_the_terminal(option: str) -> None:
    with pytest.raises(ConfigurationError, match=f"--{option} is for the web page"):
        plan(read("--terminal", f"--{option}", "1"))


@pytest.mark.skipif(not installed_backends(), reason="no driver is installed")
def test_a_log_is_made_only_where_a_server_is_named() -> None:
    with pytest.raises(ConfigurationError, match="--log is for a server of yours"):
        plan(read("--terminal", "--log"))


@pytest.mark.skipif(not installed_backends(), reason="no driver is installed")
def test_the_terminal_needs_no_web_server(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "gunicorn" else found(name, *rest)
    )
    assert plan(read("--terminal")).backends
    with pytest.raises(ConfigurationError, match=r"pip install 'pglisten\[demo\]'"):
        plan(read())


@pytest.mark.parametrize(
    ("host", "shown", "only_here"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.2", "127.0.0.2", True),
        ("localhost", r"127\.0\.0\.1|\[::1\]", True),
        ("0.0.0.0", "localhost", False),
    ],
)
def test_an_address_is_one_that_a_browser_here_can_open(host: str, shown: str, only_here: bool) -> None:
    with listen(host, 0) as listener:
        port = listener.getsockname()[1]
        assert re.fullmatch(rf"http://({shown}):{port}/", url(listener))
        assert is_loopback(listener) == only_here


def test_a_host_that_is_none_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="is no address of this machine"):
        listen("not a host", 0)

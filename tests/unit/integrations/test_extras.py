"""A module whose extra is not installed says which one it needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

EXTRAS = (
    ("flask", "flask", "Flask"),
    ("flask", "click", "Flask"),
    ("metrics", "prometheus_client", "prometheus_client"),
    ("socketio", "socketio", "python-socketio"),
)


@pytest.mark.parametrize(("module", "without", "needs"), EXTRAS)
def test_without_its_package_the_error_names_the_extra(module: str, without: str, needs: str) -> None:
    program = f"import sys; sys.modules[{without!r}] = None; import pglisten.{module}"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False
    )
    remedy = f"ImportError: pglisten.{module} needs {needs}: pip install 'pglisten[{module}]'"
    assert done.stderr.endswith(f"{remedy}\n")

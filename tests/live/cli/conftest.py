from __future__ import annotations

import pytest

from support.doctor import Examine, examiner


@pytest.fixture
def examine(capfd: pytest.CaptureFixture[str], backend_name: str) -> Examine:
    """Run the doctor and return what it finds."""
    return examiner(capfd, backend_name)

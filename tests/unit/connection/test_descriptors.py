"""A descriptor is closed and diverted only while its number refers to the same file."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from pglisten.backend import OwnedDescriptor


@pytest.fixture
def owned() -> Iterator[OwnedDescriptor]:
    read_end, write_end = os.pipe()
    os.close(write_end)
    descriptor = OwnedDescriptor(read_end)
    yield descriptor
    descriptor.close()


def _replace(number: int, path: Path) -> os.stat_result:
    """Have *number* refer to another file; return that file."""
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    os.dup2(file, number)
    os.close(file)
    return os.fstat(number)


def test_it_closes_what_it_owns_once(owned: OwnedDescriptor) -> None:
    number = owned.fileno()
    owned.close()
    assert owned.fileno() == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    owned.close()


def test_it_leaves_alone_what_took_its_number(owned: OwnedDescriptor, tmp_path: Path) -> None:
    number = owned.fileno()
    theirs = _replace(number, tmp_path / "theirs")
    assert not owned.is_ours
    owned.divert()
    assert os.path.samestat(os.fstat(number), theirs)
    owned.close()
    assert os.path.samestat(os.fstat(number), theirs)
    os.close(number)


def test_it_leaves_alone_what_took_its_number_after_it_was_diverted(owned: OwnedDescriptor) -> None:
    number = owned.fileno()
    owned.divert()
    assert owned.is_ours
    # Daemons often open this file: a descriptor diverted to it could not be told from the daemon's.
    theirs = _replace(number, Path(os.devnull))
    owned.close()
    assert os.path.samestat(os.fstat(number), theirs)
    os.close(number)


def test_diverted_it_keeps_its_number_which_leads_nowhere(owned: OwnedDescriptor) -> None:
    number, before = owned.fileno(), os.fstat(owned.fileno())
    owned.divert()
    assert owned.fileno() == number
    assert not os.path.samestat(os.fstat(number), before)
    assert not os.get_inheritable(number)
    with pytest.raises(OSError, match=r"Invalid argument|not connected"):
        os.read(number, 1)


def test_without_a_descriptor_to_divert_it_with_it_is_closed(owned: OwnedDescriptor) -> None:
    number = owned.fileno()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        owned.divert()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert owned.fileno() == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)

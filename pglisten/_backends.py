"""Finds backends, which any distribution may provide in the entry-point group ``pglisten.backends``."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from importlib.metadata import EntryPoint, MetadataPathFinder, entry_points

from .backend import Backend
from .errors import BackendNotFound

GROUP = "pglisten.backends"
VARIABLE = "PGLISTEN_BACKEND"
"""Environment variable that names the backend if the program does not."""


_loaded: dict[str, EntryPoint] = {}
"""The entry points that have made a backend, by name. Finding one reads the metadata of all distributions.

A failure is not kept, so that the next call finds what was installed meanwhile.
"""


def available_backends() -> tuple[str, ...]:
    """Return the names of the backends that can be loaded, the default one first."""
    return tuple(backend.name for backend in _available(_registered()))


def load_backend(name: str | None = None) -> Backend:
    """Return the backend called *name*; ``None`` means ``PGLISTEN_BACKEND``, then the first available.

    Raises `BackendNotFound`: the name is unknown (the message lists the known), its driver is missing (the
    message has the pip line), or its installation is broken.
    """
    if name is not None and not isinstance(name, str):
        raise BackendNotFound(
            f"backend is the name of one or a Backend instance, not {name!r}", option="backend"
        )
    if name:
        try:
            return _load(name)
        except BackendNotFound as error:
            error.option = "backend"
            raise
    if chosen := os.environ.get(VARIABLE):
        return _load(chosen)
    registered = _registered()
    if available := _available(registered):
        return available[0]
    lines = [_pip_line(point) for point in registered.values()] or ["pip install --force-reinstall pglisten"]
    raise BackendNotFound(f"no database driver is installed: run {', or '.join(lines)}")


def _registered(wanted: str | None = None) -> dict[str, EntryPoint]:
    """Return the entry points by name; look twice if there is none, or none called *wanted*."""
    try:
        found = {point.name: point for point in entry_points(group=GROUP)}
        if not found or (wanted is not None and wanted not in found):
            # A process without a free descriptor finds nothing, and importlib caches that.
            with open(os.devnull, "rb"):
                # Before Python 3.12 it is no class method, and importlib does not call it.
                MetadataPathFinder().invalidate_caches()
            found = {point.name: point for point in entry_points(group=GROUP)}
    except OSError as error:
        raise BackendNotFound(f"the backends cannot be listed: {error.strerror or error}") from error
    return found


def _available(registered: dict[str, EntryPoint]) -> list[Backend]:
    found: list[Backend] = []
    for point in registered.values():
        with contextlib.suppress(BackendNotFound):
            found.append(_make(point))
    return sorted(found, key=lambda backend: (backend.rank, backend.name))


def _load(name: str) -> Backend:
    point = _loaded.pop(name, None) or _find(name)
    made = _make(point)
    _loaded[name] = point
    return made


def _find(name: str) -> EntryPoint:
    registered = _registered(name)
    point = registered.get(name)
    if point is None:
        known = ", ".join(sorted(registered)) or "none"
        # The name may be a connection string given by mistake, and hold a password.
        wanted = f"backend {name!r}" if re.fullmatch(r"[\w.-]{1,40}", name) else "backend of that name"
        raise BackendNotFound(f"there is no {wanted}; known are: {known}")
    return point


def _make(point: EntryPoint) -> Backend:
    name = point.name
    try:
        made = point.load()()
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] == point.module.partition(".")[0]:
            raise _broken(point, error) from error
        raise BackendNotFound(
            f"backend {name!r} needs {error.name!r}, which is not installed: run {_pip_line(point)}"
        ) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            raise BackendNotFound(f"backend {name!r} cannot be loaded: {error.strerror}") from error
        raise _broken(point, error) from error
    if not isinstance(made, Backend):
        raise _broken(point, TypeError(f"{point.value} makes {type(made).__name__}, which is no Backend"))
    return made


def _broken(point: EntryPoint, error: Exception) -> BackendNotFound:
    return BackendNotFound(
        f"backend {point.name!r} is installed but broken ({type(error).__name__}: {error}): "
        f"run pip install --force-reinstall {_distribution(point)}"
    )


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.module.partition(".")[0]


def _pip_line(point: EntryPoint) -> str:
    extras = None if point.dist is None else point.dist.metadata.get_all("Provides-Extra")
    extra = f"[{point.name}]" if point.name in (extras or ()) else ""
    return f"pip install '{_distribution(point)}{extra}'"

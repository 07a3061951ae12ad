"""The one setting of libpq that neither psycopg2 nor psycopg offers: messages with their SQLSTATE.

Both drivers need it. For a query or a notice, libpq gives the SQLSTATE as a field. A refused attempt to
connect has no result, and so no fields: libpq has the code in the attempt's text alone, and only with this
verbosity. Callers tell a wrong password (28P01) from a missing database (3D000) by it, in any language.
The function is libpq's public one, in the library that the driver itself is linked to.
"""

from __future__ import annotations

import ctypes
import functools
import logging

__all__ = ["show_sqlstates"]

logger = logging.getLogger("pglisten.libpq")

PQERRORS_VERBOSE = 2
"""The third of ``PGVerbosity`` in libpq-fe.h: terse, default, verbose."""


def show_sqlstates(pgconn: int, library: str) -> None:
    """Have libpq write codes into what it says of *pgconn*, the address of a ``PGconn``.

    *library* is the path of libpq or of an extension module that is linked to it. If the function cannot be
    reached there (a libpq linked in statically, its symbols hidden), texts stay without codes.
    """
    set_verbosity = _bind(library)
    if set_verbosity is not None:
        set_verbosity(pgconn, PQERRORS_VERBOSE)


@functools.cache
def _bind(library: str) -> ctypes._NamedFuncPointer | None:  # pyright: ignore[reportPrivateUsage]
    try:
        # PyDLL keeps the GIL: the function does not wait. Looking a symbol up in an extension module also
        # searches the libraries that it depends on (dlsym(3)).
        found = ctypes.PyDLL(library).PQsetErrorVerbosity
    except (AttributeError, OSError) as error:
        logger.info("libpq's functions cannot be reached, failed attempts have no SQLSTATE: %s", error)
        return None
    found.argtypes = [ctypes.c_void_p, ctypes.c_int]
    return found

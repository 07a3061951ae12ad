"""Reads a listener's options from an application's configuration: ``PGLISTEN_`` and the option's name.

The keys, the type of each value and the options that accept ``none`` come from `ListenerOptions`. A value
that cannot be converted is passed on unchanged. The listener's own check refuses it, and the message begins
with the key.
"""

from __future__ import annotations

import collections.abc
import difflib
import pkgutil
import re
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeVar

from .._conninfo.keywords import KEYWORDS
from ..errors import BackendNotFound, ConfigurationError
from .settings import ListenerOptions

__all__ = ["PREFIX", "make", "named_dsn"]

PREFIX = "PGLISTEN_"

NOT_OURS = "PGLISTEN_TEST_"
"""Keys with this prefix are ignored: test suites keep their own settings there."""

_NO_CONFIG: tuple[type, ...] = (str, bytes, int, float, list, tuple, set)
"""Types whose objects have attributes but are no configuration."""

_FUNCTION = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*:[A-Za-z_][\w.]*")
"""``package.module:function``. No connection string looks like it: each has a = or begins with a scheme."""

_TYPES: Mapping[str, Any] = typing.get_type_hints(ListenerOptions)
_KEYS = {option: f"{PREFIX}{option.upper()}" for option in _TYPES}

Made = TypeVar("Made")


def make(factory: Callable[..., Made], config: object, overrides: Mapping[str, Any]) -> Made:
    """Call *factory* with the options in *config*; *overrides* take precedence over them.

    Raises `ConfigurationError` for an unknown key, and for a wrong value, naming its key.
    """
    made = _made(factory, config, overrides)
    if isinstance(made, ConfigurationError):
        raise made
    return made


def _made(
    factory: Callable[..., Made], config: object, overrides: Mapping[str, Any]
) -> Made | ConfigurationError:
    """Return the error, not raise it: the frames of its traceback hold the connection string."""
    options: dict[str, Any] = {}
    try:
        found = dict(_entries(config))
        _check_names(found, _KEYS.values())
        for name, key in _KEYS.items():
            # An empty variable counts as unset, as in libpq.
            if name not in overrides and found.get(key, "") != "":
                options[name] = _converted(key, found[key], _TYPES[name])
        return factory(**options, **overrides)
    except ConfigurationError as error:
        kind = BackendNotFound if isinstance(error, BackendNotFound) else ConfigurationError
        key = f"{_KEYS[error.option]}: " if error.option in options else ""
        named = kind(f"{key}{error}", option=error.option)
        named.__cause__ = error.__cause__
        return named


def _entries(config: Any) -> Iterator[tuple[str, Any]]:
    """Yield the entries whose key begins with the prefix, in upper or lower case."""
    if config is None or isinstance(config, _NO_CONFIG):
        # Leave out the value: it may be a connection string.
        raise ConfigurationError(
            f"from_config() takes a mapping, such as os.environ, or an object that has {PREFIX}... for "
            f"attributes, not {type(config).__name__}: pass a connection string to the class itself"
        )
    # Some settings objects are mappings but no subclass of Mapping.
    is_mapping = hasattr(config, "keys") and hasattr(config, "__getitem__")
    for name in list(config.keys() if is_mapping else dir(config)):
        if isinstance(name, str) and name.upper().startswith(PREFIX) and not name.startswith(NOT_OURS):
            yield name, config[name] if is_mapping else getattr(config, name)


def _check_names(found: Collection[str], known: Collection[str]) -> None:
    for name in found:
        if name in known:
            continue
        right = name.upper()
        if name.startswith(PREFIX) and right not in known:
            raise ConfigurationError(f"there is no option {name}: {_what_else(name, known)}")
        # Other names in lower case belong to the application; this one would have no effect.
        if right in known and right not in found:
            raise ConfigurationError(f"there is no option {name}: write {right}, in capitals")


def _what_else(name: str, known: Collection[str]) -> str:
    rest = {key.removeprefix(PREFIX): key for key in known}
    wanted = name.removeprefix(PREFIX)
    if (keyword := KEYWORDS.get(wanted.lower())) is not None:
        variable = f", or set {keyword.variable}" if keyword.variable else ""
        return f"write {wanted.lower()} into the connection string{variable}"
    if near := difflib.get_close_matches(wanted, rest, 1):
        return f"did you mean {rest[near[0]]}?"
    return f"known are {', '.join(sorted(known))}"


def _converted(key: str, value: Any, kind: Any) -> Any:
    """Return *value*, converted to *kind* if it is a string; unchanged if that fails."""
    kinds = (kind, *typing.get_args(kind))
    if key == _KEYS["dsn"]:
        return named_dsn(key, value)
    if not isinstance(value, str) or str in kinds or typing.get_origin(kind) is typing.Literal:
        return value
    if type(None) in kinds and value.strip().lower() == "none":
        return None
    if any(typing.get_origin(each) is collections.abc.Callable for each in kinds):
        return _imported(key, value)
    number = int if int in kinds else float
    try:
        return number(value)
    except ValueError:
        return value


def named_dsn(key: str, value: Any) -> Any:
    """Return the function that *value* names if it has the form ``package.module:function``, else *value*.

    Raises `ConfigurationError`, naming *key*, if there is no such function. Its message does not repeat
    *value*, which may be a user and a password.
    """
    if not isinstance(value, str) or not _FUNCTION.fullmatch(value.strip()):
        return value
    try:
        found: object = pkgutil.resolve_name(value.strip())
    except Exception as error:  # noqa: BLE001 - whatever the import raises
        raise ConfigurationError(
            f"{key} has the form package.module:function, and cannot be imported ({type(error).__name__}): "
            "correct the name or the module, or write a connection string"
        ) from None
    if not callable(found):
        raise ConfigurationError(f"{key} names a {type(found).__name__}, not a function: correct the name")
    return found


def _imported(key: str, path: str) -> object:
    """Return what *path*, ``package.module:function``, names."""
    module, colon, function = path.strip().partition(":")
    if not (module and colon and function):
        raise ConfigurationError(f"{key} is a function or 'package.module:function', not {path!r}")
    try:
        found: object = pkgutil.resolve_name(path.strip())
    except ValueError:
        raise ConfigurationError(f"{key} is a function or 'package.module:function', not {path!r}") from None
    except AttributeError as error:
        raise ConfigurationError(
            f"{key} names {path!r}, but there is no {function!r} in that module, or not yet: "
            "correct the name, or have the module define it before it calls from_config()"
        ) from error
    except Exception as error:
        raise ConfigurationError(
            f"{key} names {path!r}, which cannot be imported ({type(error).__name__}: {error}): "
            "correct the name or the module"
        ) from error
    return found

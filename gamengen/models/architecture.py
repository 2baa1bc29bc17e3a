"""Finds an architecture by its name: one file of a package is one, with a `Config` dataclass beside its module."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any


def find(package: ModuleType, name: str) -> ModuleType:
    """Import file `name` of a package; raises ValueError that names the nearest right one."""
    known = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}."
        raise ValueError(f"unknown architecture {name!r} in {package.__name__}; {hint}")
    return importlib.import_module(f"{package.__name__}.{name}")


def configure(architecture: ModuleType, options: Mapping[str, Any]) -> Any:
    """Build the architecture's `Config` from settings; lists become tuples; raises ValueError for unknown ones."""
    known = {field.name for field in dataclasses.fields(architecture.Config)}
    for key in options:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected one of {sorted(known)}."
            raise ValueError(f"{architecture.__name__} has no setting {key!r}; {hint}")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    return architecture.Config(**values)

"""Optimisers without PyTorch's compiler, which takes a second to import and has nothing to do here."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeVar

import torch

NAME = "torch._dynamo"
Function = TypeVar("Function", bound=Callable[..., Any])


class StandIn(ModuleType):
    """The two functions of the compiler that optimisers call, which do nothing outside of compiled code.

    Whoever asks for anything else gets the compiler, and so does whoever comes after.
    """

    @staticmethod
    def disable(function: Function, *_: object, **__: object) -> Function:
        """Return the function, which nobody compiles."""
        return function

    @staticmethod
    def graph_break() -> None:
        """Break a graph that nobody records."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__") and name != "__path__":  # by which submodules are found; the rest is for inspection
            raise AttributeError(name)
        self.leave()
        found: object = getattr(importlib.import_module(NAME), name)
        return found

    def leave(self) -> None:
        """Make way for the compiler, unless it is there."""
        if sys.modules.get(NAME) is self:
            del sys.modules[NAME]
            del torch._dynamo


@contextmanager
def without_compiler() -> Iterator[None]:
    """Keep optimisers from importing PyTorch's compiler, as each does when it is made; where it is there, it stays."""
    if NAME in sys.modules:
        yield
        return
    stand_in = StandIn(NAME)
    sys.modules[NAME] = stand_in
    torch._dynamo = stand_in
    try:
        yield
    finally:
        stand_in.leave()

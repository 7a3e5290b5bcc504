"""Modules that share their name with a function say where the function is when they are called."""

import sys
from types import ModuleType
from typing import NoReturn

FUNCTIONS = {
    "jaxmf.online.fold_in": "jaxmf.fold_in.fold_in_users",
    "jaxmf.serving.explain": "jaxmf.explain.explain",
    "jaxmf.serving.recommend": "jaxmf.recommend.top_n",
}


class Named(ModuleType):
    """A module of this package that is no function."""

    def __call__(self, *_: object, **__: object) -> NoReturn:
        """Say where the function is.

        Raises:
            TypeError: Always.
        """
        raise TypeError(f"{self.__name__} is a module: call {FUNCTIONS[self.__name__]}")


def name_functions() -> None:
    """Make the modules of `FUNCTIONS` say so."""
    for name in FUNCTIONS:
        sys.modules[name].__class__ = Named

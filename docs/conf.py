"""The documentation: built offline, its notebooks executed, and refused where a public name has no place in it."""

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from types import ModuleType

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

import jaxmf

project = "jaxmf"
author = "The authors of jaxmf"
release = metadata.version("jaxmf")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "jupyter_execute"]

# A page that no longer runs is a page that no longer builds.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_execution_show_tb = True
nb_output_stderr = "remove"  # notes that libraries leave there name files of the machine that built the page
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "member-order": "bysource", "exclude-members": "replace"}
autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
add_module_names = False
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # fields are described once, in the class's own text

html_theme = "pydata_sphinx_theme"
html_title = "jaxmf"
html_theme_options = {
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_sidebars = {"index": [], "start": []}
copyright = "the authors of jaxmf; Apache-2.0"

WRITTEN = (
    (r"jaxlib\._jax\.Array", "Array"),
    (r"(~jaxtyping\.\w+)\[Array, ('[^']*')\] \| \1\[ndarray, \2\]", r"\1[Array, \2]"),  # a device's or the host's
    (
        r"~jaxtyping\.Shaped\[Array, ''\] \| ~numpy\.bool \| ~numpy\.number \| bool \| int \| float \| complex",
        "ScalarLike",
    ),
    (r"~numpy\._typing\.\w+\._Buffer \| .*?\[complex \| bytes \| str\]", "ArrayLike"),
)
"""Array types as they are written, for the many types that each evaluates to."""


def public_names() -> Iterator[str]:
    """Every module of the package, and every class, function and method written in it, but for `_private` ones."""
    for found in pkgutil.walk_packages(jaxmf.__path__, "jaxmf."):
        if not found.ispkg:
            module = importlib.import_module(found.name)
            yield found.name
            yield from (f"{found.name}.{name}" for name in _written_in(module))


def _written_in(module: ModuleType) -> Iterator[str]:
    for name, value in vars(module).items():
        # A re-exported name belongs to the module that defines it.
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(value):
            yield name
            yield from (f"{name}.{member}" for member, of in vars(value).items() if _is_method(member, of, module))
        elif callable(value):
            yield name


def _is_method(name: str, value: object, module: ModuleType) -> bool:
    if isinstance(value, property):
        value = value.fget
    value = getattr(value, "__func__", value)  # of a classmethod or staticmethod
    # What a decorator adds (such as `replace`) was written in another module.
    return not name.startswith("_") and inspect.isfunction(value) and value.__module__ == module.__name__


def refuse_undocumented(app: Sphinx, exception: Exception | None) -> None:
    """Stop the build where a public name has no docstring, or a docstring that no page shows.

    Autodoc leaves out what has no docstring (but for modules), so that one comparison with what it described finds
    both. It runs at the end of every build, since a new module touches no page and so is not seen while pages are read.
    """
    if exception is None:
        names = list(public_names())  # first, as it imports what other processes may have read the pages of
        described = app.env.domains.python_domain.objects
        shown = {name for name in described if name not in sys.modules or sys.modules[name].__doc__}
        hidden = autodoc_default_options["exclude-members"]
        missing = [name for name in names if name not in shown and name.rpartition(".")[2] != hidden]
        if missing:
            raise ExtensionError(
                f"{len(missing)} public names are undocumented: {', '.join(missing)}. Give each a docstring, "
                "and each module an `automodule` in docs/api.md."
            )


def plain_docstring(_app: Sphinx, kind: str, _name: str, _value: object, _options: object, lines: list[str]) -> None:
    """Turn `x` into a literal, wherever it stands: docstrings are read as plain text more often than as reST."""
    lines[:] = [re.sub(r"(?<!`)`([^`]+)`(?!`)", r"\\ ``\1``\\ ", line) for line in lines]
    if kind in {"attribute", "data", "property"}:
        lines[:0] = ["..", ""]  # an empty comment: napoleon takes the first line's part before a colon for a type


def plain_signature(
    _app: Sphinx, _kind: str, _name: str, value: object, _options: object, signature: str | None, result: str | None
) -> tuple[str | None, str | None]:
    """Show array types as they are written, not what they evaluate to."""
    if getattr(value, "_is_protocol", False):
        return "", None  # nobody calls a protocol

    def plain(text: str | None) -> str | None:
        for pattern, by in WRITTEN:
            text = text and re.sub(pattern, by, text)
        return text

    return plain(signature), plain(result)


def skip_generated(_app: Sphinx, _kind: str, name: str, value: object, _skip: bool, _options: object) -> bool | None:
    """Count a docstring that Python made up as none: "Alias for field number 0", or a class's bare signature."""
    return True if (inspect.getdoc(value) or "").startswith(("Alias for field number", f"{name}(")) else None


def setup(app: Sphinx) -> None:
    """Register the hooks."""
    app.connect("autodoc-skip-member", skip_generated)
    app.connect("autodoc-process-docstring", plain_docstring, priority=400)  # before napoleon, at 500
    app.connect("autodoc-process-signature", plain_signature)
    app.connect("build-finished", refuse_undocumented)

"""What a recommender is made of as arrays and plain documents, and back, checked on the way in."""

import base64
import dataclasses
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import jax
import numpy as np
import pandas as pd
from jaxtyping import PyTree

from jaxmf.data.ids import Vocabulary
from jaxmf.data.ratings import Columns, Ratings
from jaxmf.data.ratings import check as check_coordinates
from jaxmf.model import kernels
from jaxmf.model.kernels import Kernel, check_ratings
from jaxmf.model.links import Links
from jaxmf.model.model import Model
from jaxmf.model.params import Params
from jaxmf.model.posterior import Draw, Population, Posterior
from jaxmf.model.priors import Prior, Priors, check
from jaxmf.model.tables import Table
from jaxmf.training.leaves import named

Document = dict[str, Any]

KERNELS: dict[str, Any] = {
    kernel.__name__: kernel
    for kernel in (kernels.Clicks, kernels.Linear, kernels.Logistic, kernels.Polynomial, kernels.RBF)
}

LIBRARIES = ("cudf", "modin", "pandas", "polars", "pyarrow")
"""Of frames that narwhals makes."""

TEXTS: dict[str, Any] = {"uuid": UUID, "date": date, "decimal": Decimal}
"""Kinds of ids that their text says whole."""

SIDES = ("users", "items")
SETTINGS = ("columns", "scale", "frozen", "library", "measured")
ANEW = "save the checkpoint anew"


def of_fields(fields: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], Document]:
    """A recommender's fields as arrays and documents.

    Raises:
        ValueError: If an id or the kernel can't be kept, or the model is not finite.
    """
    arrays, model = of_model(fields["model"])
    broken = [name for name, array in arrays.items() if array.dtype.kind == "f" and not _finite(array)]
    if broken:
        raise ValueError(f"{broken[0]} of the model is not finite, and would not be read again: fit the model anew")
    documents: Document = {"model": model, "settings": {name: fields[name] for name in SETTINGS}}
    for side in SIDES:
        ids = of_ids(fields[side])
        (arrays if isinstance(ids, np.ndarray) else documents)[side] = ids
    return arrays | named({"ratings": fields["ratings"]}), documents


def to_fields(arrays: dict[str, np.ndarray], documents: Document) -> dict[str, Any]:
    """A recommender's fields again, and nothing that can't be a recommender's.

    Raises:
        ValueError: If an array or a setting is out of range.
    """
    users, items = (to_ids((documents | arrays)[side]) for side in SIDES)
    sizes = len(users), len(items)
    model, ratings = to_model(arrays, documents["model"], *sizes), to_ratings(arrays, *sizes)
    check_ratings(model.kernel, ratings.rating)
    settings = _to_settings(documents["settings"], sizes)
    return {"model": model, "users": users, "items": items, "ratings": ratings, **settings}


def of_model(model: Model | Posterior) -> tuple[dict[str, np.ndarray], Document]:
    """A model's arrays, and the rest of it as a document.

    Raises:
        ValueError: If its kernel is not one of the package's.
    """
    name = type(model.kernel).__name__
    if KERNELS.get(name) is not type(model.kernel):
        raise ValueError(f"kernel {model.kernel!r} is not among {sorted(KERNELS)}: a checkpoint keeps only those")
    fields = {
        field.name: np.asarray(getattr(model.kernel, field.name)).item() for field in dataclasses.fields(model.kernel)
    }
    kernel = {"name": name, **fields}
    if isinstance(model, Posterior):
        return named({"draws": model.draws, "key": jax.random.key_data(model.key)}), {"kernel": kernel}
    sides = zip(Priors._fields, model.priors, strict=True)
    priors = {side: {name: float(value) for name, value in vars(prior).items()} for side, prior in sides}
    return named({"params": model.params.uncounted(), "links": model.links}), {"kernel": kernel, "prior": priors}


def to_model(arrays: dict[str, np.ndarray], document: Document, n_users: int, n_items: int) -> Model | Posterior:
    """The model again.

    Raises:
        ValueError: If the arrays are no model of so many users and items, or a setting is out of range.
    """
    kernel = to_kernel(**document["kernel"])
    if "prior" in document:
        priors = check(Priors(**{side: Prior(**numbers) for side, numbers in document["prior"].items()}))
        params = _filled({"params": _params()}, arrays)["params"]
        _check_shapes(params, (), n_users, n_items)
        params = params.counted() if isinstance(kernel, kernels.Clicks) else params
        known = _links(arrays, n_users, n_items, params.item.rank)
        return Model(params, kernel, priors, known, (False, False) if known is None else _implicit(*known))
    found = _filled({"draws": Draw(_params(), _population(), _population(), 0), "key": 0}, arrays)
    draws = found["draws"]
    if draws.noise.ndim != 1 or not len(draws.noise):
        raise ValueError(f"the noise has shape {draws.noise.shape}, a posterior has one number a draw: {ANEW}")
    _check_shapes(draws.params, draws.noise.shape, n_users, n_items)
    for side, columns in ((draws.user, n_items), (draws.item, n_users)):
        _check_side(side, draws.noise.shape, columns, draws.params.item.rank)
    key = jax.random.wrap_key_data(found["key"])
    if key.shape:
        raise ValueError(f"there are {key.shape} keys, a posterior has one: {ANEW}")
    return Posterior(draws, kernel, key, _implicit(draws.user.link, draws.item.link))


def to_ratings(arrays: dict[str, np.ndarray], n_users: int, n_items: int) -> Ratings:
    """The history again.

    Raises:
        ValueError: If an array is missing, or one holds what no ratings are.
    """
    kinds = {"user": "i", "item": "i", "rating": "f", "weight": "f"}
    columns = [arrays.get(f"ratings.{name}", np.zeros((0, 0))) for name in kinds]
    if len({column.shape for column in columns}) > 1 or columns[0].ndim != 1:
        raise ValueError(f"the ratings have shapes {[column.shape for column in columns]}: {ANEW}")
    for (name, kind), column in zip(kinds.items(), columns, strict=True):
        _check_kind(f"ratings.{name}", column, kind)
    ratings = Ratings(*columns, n_users=n_users, n_items=n_items)
    check_coordinates(ratings)
    return ratings


def to_kernel(name: str, **fields: float | int | str) -> Kernel:
    """A kernel of the package by its name.

    Raises:
        ValueError: If there is no such kernel, or its settings are out of range.
    """
    if name not in KERNELS:
        raise ValueError(f"kernel {name!r} is not among {sorted(KERNELS)}: update jaxmf, or save with one of these")
    return KERNELS[name](**fields)


def of_ids(known: Vocabulary) -> np.ndarray | list:
    """Ids as an array where they are numbers of 64 bits, else as a list for a document, each with its kind.

    A document takes whole numbers of any size, strings, bools, bytes, dates, datetimes, decimals, UUIDs, and tuples of
    these.

    Raises:
        ValueError: With the first id that is none of these.

    Example:
        >>> of_ids(Vocabulary([("a", 1)]))
        [{'tuple': ['a', 1]}]
    """
    return known.index.to_numpy() if known.index.dtype.kind in "iuf" else [_plain(value) for value in known.index]


def to_ids(ids: np.ndarray | list) -> Vocabulary:
    """The vocabulary again.

    Raises:
        ValueError: If these are no ids, or one comes twice.
    """
    if not (isinstance(ids, list) or (ids.ndim == 1 and ids.dtype.kind in "iuf")):
        raise ValueError(f"ids must be a list, or one row of numbers, got {np.shape(ids)} {ids.dtype}: {ANEW}")
    return Vocabulary(ids if isinstance(ids, np.ndarray) else [_unplain(value) for value in ids])


def _plain(value: Any) -> Any:  # noqa: ANN401 any id
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, tuple):
        return {"tuple": [_plain(one) for one in value]}
    if isinstance(value, datetime):
        return {"datetime": [value.isoformat(), None if value.tzinfo is None else str(value.tzinfo)]}
    for name, of in TEXTS.items():
        if type(value) is of:
            return {name: str(value)}
    raise ValueError(
        f"id {value!r} of type {type(value).__name__} can't be kept in a checkpoint: "
        "convert ids to numbers, strings, bools, bytes, dates, decimals, UUIDs, or tuples of these"
    )


def _unplain(value: Any) -> Any:  # noqa: ANN401 what `_plain` gives
    if not isinstance(value, dict):
        return value
    ((name, kept),) = value.items()
    if name == "tuple":
        return tuple(map(_unplain, kept))
    if name == "datetime":
        time, zone = pd.Timestamp(kept[0]), kept[1]
        return time if zone is None else time.tz_convert(zone)
    if name == "date":
        return date.fromisoformat(kept)
    return base64.b64decode(kept) if name == "bytes" else TEXTS[name](kept)


def _params() -> Params:
    return Params(Table(0, 0), Table(0, 0), 0)


def _population() -> Population:
    return Population(Table(0, 0), Table(0, 0), Table(0, 0), 0)


def _implicit(*known: Table) -> tuple[bool, ...]:
    """Which sides have a link; a recommender's is to implicit feedback."""
    return tuple(len(link) > 0 for link in known)


def _links(arrays: dict[str, np.ndarray], n_users: int, n_items: int, k: int) -> Links | None:
    if not any(name.startswith("links.") for name in arrays):
        return None
    found = _filled({"links": Links(Table(0, 0), Table(0, 0))}, arrays)["links"]
    for link, columns in zip(found, (n_items, n_users), strict=True):
        _check_link(link, (), columns, k)
    return found if any(_implicit(*found)) else None


def _to_settings(document: Document, sizes: tuple[int, int]) -> dict[str, Any]:
    columns, library = Columns(*document["columns"]), document["library"]
    if not all(isinstance(name, str) or (at > 1 and name is None) for at, name in enumerate(columns)):
        raise ValueError(f"columns must have names, got {columns}: {ANEW}")
    low, high = document["scale"]
    if not -np.inf < low <= high < np.inf:
        raise ValueError(f"scale must be two ascending finite numbers, got {low} and {high}: {ANEW}")
    frozen = tuple(document["frozen"])
    if len(frozen) != 2 or not all(type(n) is int and 0 <= n <= size for n, size in zip(frozen, sizes, strict=True)):
        raise ValueError(f"frozen must be numbers of users and items, at most {sizes}, got {frozen}: {ANEW}")
    if library not in LIBRARIES:
        raise ValueError(f"library must be one of {LIBRARIES}, got {library!r}: {ANEW}")
    measured = document.get("measured")  # a checkpoint from before there was one has none
    if measured is not None and not 0 < measured < np.inf:
        raise ValueError(f"measured must be a positive finite number or none, got {measured}: {ANEW}")
    return {"columns": columns, "scale": (low, high), "frozen": frozen, "library": library, "measured": measured}


def _check_kind(name: str, array: np.ndarray, kind: str) -> None:
    """Refuse an array of other numbers, or of some that are not finite."""
    if array.dtype.kind != kind:
        raise ValueError(f"{name} holds {array.dtype}, which it never does: {ANEW}")
    if not _finite(array):
        raise ValueError(f"{name} holds {array[~np.isfinite(array)][0]}, and must be finite: {ANEW}")


def _finite(array: np.ndarray) -> bool:
    """Whether all numbers are, without an array of answers."""
    return bool(np.isfinite([array.min(initial=0), array.max(initial=0)]).all())


def _filled(form: PyTree, arrays: dict[str, np.ndarray]) -> PyTree:
    """The tree of this form, its leaves on the device; `arrays` gives them up, so that none is held twice for long."""
    names, treedef = list(named(form)), jax.tree.structure(form)
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ValueError(f"the checkpoint has no array {missing[0]!r}: it is none of this model; save it anew")
    for name in names:
        _check_kind(name, arrays[name], "u" if name == "key" else "f")
    return jax.tree.unflatten(treedef, [jax.block_until_ready(jax.device_put(arrays.pop(name))) for name in names])


def _check_shapes(params: Params, draws: tuple[int, ...], n_users: int, n_items: int) -> None:
    k = params.item.rank
    if params.offset.shape != draws:
        raise ValueError(f"the offset has shape {params.offset.shape}, the model needs {draws}: {ANEW}")
    for name, table, rows in (("user", params.user, n_users), ("item", params.item, n_items)):
        found, expected = (table.bias.shape, table.factors.shape), ((*draws, rows), (*draws, rows, k))
        if found != expected:
            raise ValueError(f"the {name} table has shapes {found}, the ids need {expected}: {ANEW}")


def _check_side(side: Population, draws: tuple[int, ...], columns: int, k: int) -> None:
    found = jax.tree.map(np.shape, (side.mean, side.precision, side.link_precision))
    row = Table(draws, (*draws, k))
    if found != (row, row, draws):
        raise ValueError(f"a side's prior has shapes {found} in a model of rank {k}: {ANEW}")
    _check_link(side.link, draws, columns, k)


def _check_link(link: Table, draws: tuple[int, ...], columns: int, k: int) -> None:
    found = jax.tree.map(np.shape, link)
    if found not in [Table((*draws, rows), (*draws, rows, k)) for rows in (0, columns)]:
        raise ValueError(f"a side's link has shapes {found} in a model of rank {k}: {ANEW}")

"""What a recommender is made of as arrays and plain documents, and back, checked on the way in."""

import base64
import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from jaxmf.data.features import Sides
from jaxmf.data.ratings import Ratings, Vocabulary
from jaxmf.data.ratings import check as check_coordinates
from jaxmf.model import kernels, links
from jaxmf.model.kernels import Kernel
from jaxmf.model.links import Links
from jaxmf.model.params import Params
from jaxmf.model.posterior import Draw, Side
from jaxmf.model.priors import Prior, Priors, check
from jaxmf.model.tables import Table
from jaxmf.serving.leaves import named
from jaxmf.serving.models import Point, Posterior

Document = dict[str, Any]

KERNELS: dict[str, Any] = {
    kernel.__name__: kernel for kernel in (kernels.Linear, kernels.Logistic, kernels.Polynomial, kernels.RBF)
}


def of_model(model: Point | Posterior) -> tuple[dict[str, np.ndarray], Document]:
    """A model's arrays, and the rest of it as a document.

    Raises:
        ValueError: If its kernel is not one of the package's.
    """
    name = type(model.kernel).__name__
    if KERNELS.get(name) is not type(model.kernel):
        raise ValueError(f"kernel {model.kernel!r} is not among {sorted(KERNELS)}: a checkpoint keeps only those")
    fields = {field.name: getattr(model.kernel, field.name) for field in dataclasses.fields(model.kernel)}
    kernel = {"name": name, **fields}
    if isinstance(model, Posterior):
        return named({"draws": model.draws, "key": jax.random.key_data(model.key)}), {"kernel": kernel}
    sides = zip(Priors._fields, model.prior, strict=True)
    priors = {side: {name: float(value) for name, value in vars(prior).items()} for side, prior in sides}
    return named({"params": model.params, "links": model.links}), {"kernel": kernel, "prior": priors}


def to_model(arrays: dict[str, np.ndarray], document: Document, n_users: int, n_items: int) -> Point | Posterior:
    """The model again.

    Raises:
        ValueError: If the arrays are no model of so many users and items, or a setting is out of range.
    """
    kernel = to_kernel(**document["kernel"])
    if "prior" in document:
        priors = check(Priors(**{side: Prior(**numbers) for side, numbers in document["prior"].items()}))
        params = _filled({"params": _params()}, arrays)["params"]
        _check_shapes(params, (), n_users, n_items)
        return Point(params, kernel, priors, _links(arrays, n_users, n_items, params.item.rank))
    found = _filled({"draws": Draw(_params(), _side(), _side(), 0), "key": 0}, arrays)
    draws = found["draws"]
    _check_shapes(draws.params, draws.noise.shape, n_users, n_items)
    for side, columns in ((draws.user, n_items), (draws.item, n_users)):
        _check_side(side, draws.noise.shape, columns, draws.params.item.rank)
    return Posterior(draws, kernel, jax.random.wrap_key_data(found["key"]))


def to_ratings(arrays: dict[str, np.ndarray], n_users: int, n_items: int) -> Ratings:
    """The history again.

    Raises:
        ValueError: If an array is missing, or one holds what no ratings are.
    """
    names = ("user", "item", "rating", "weight")
    columns = [arrays.get(f"ratings.{name}", np.zeros((0, 0))) for name in names]
    if len({column.shape for column in columns}) > 1 or columns[0].ndim != 1:
        raise ValueError(f"the ratings have shapes {[column.shape for column in columns]}: save the checkpoint anew")
    ratings = Ratings(*columns, n_users=n_users, n_items=n_items)
    check_coordinates(ratings)
    return ratings


def to_kernel(name: str, **fields: float | int) -> Kernel:
    """A kernel of the package by its name.

    Raises:
        ValueError: If there is no such kernel, or its settings are out of range.
    """
    if name not in KERNELS:
        raise ValueError(f"kernel {name!r} is not among {sorted(KERNELS)}: update jaxmf, or save with one of these")
    return KERNELS[name](**fields)


def of_ids(known: Vocabulary) -> np.ndarray | list:
    """Ids as an array where they are numbers, else as a list for a document: strings, bools, bytes, tuples of these.

    Raises:
        ValueError: With the first id that is none of these.

    Example:
        >>> of_ids(Vocabulary([("a", 1)]))
        [{'tuple': ['a', 1]}]
    """
    return known.index.to_numpy() if known.index.dtype.kind in "iuf" else [_plain(value) for value in known.index]


def to_ids(ids: np.ndarray | list) -> Vocabulary:
    """The vocabulary again."""
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
    raise ValueError(
        f"id {value!r} of type {type(value).__name__} can't be kept in a checkpoint: "
        "convert ids to numbers, strings, bools, bytes, or tuples of these"
    )


def _unplain(value: Any) -> Any:  # noqa: ANN401 what `_plain` gives
    if not isinstance(value, dict):
        return value
    return tuple(map(_unplain, value["tuple"])) if "tuple" in value else base64.b64decode(value["bytes"])


def _params() -> Params:
    return Params(Table(0, 0), Table(0, 0), 0)


def _side() -> Side:
    return Side(Table(0, 0), Table(0, 0), Table(0, 0), 0)


def _links(arrays: dict[str, np.ndarray], n_users: int, n_items: int, k: int) -> Links:
    if not any(name.startswith("links.") for name in arrays):  # format 1
        return links.init(Sides(), k)
    found = _filled({"links": Links(Table(0, 0), Table(0, 0))}, arrays)["links"]
    for link, columns in zip(found, (n_items, n_users), strict=True):
        _check_link(link, (), columns, k)
    return found


def _filled(form: PyTree, arrays: dict[str, np.ndarray]) -> PyTree:
    """The tree of this form, its leaves on the device; `arrays` gives them up, so that none is held twice for long."""
    names, treedef = list(named(form)), jax.tree.structure(form)
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ValueError(f"the checkpoint has no array {missing[0]!r}: it is none of this model; save it anew")
    return jax.tree.unflatten(treedef, [jax.block_until_ready(jax.device_put(arrays.pop(name))) for name in names])


def _check_shapes(params: Params, draws: tuple[int, ...], n_users: int, n_items: int) -> None:
    k = params.item.rank
    for name, table, rows in (("user", params.user, n_users), ("item", params.item, n_items)):
        found, expected = (table.bias.shape, table.factors.shape), ((*draws, rows), (*draws, rows, k))
        if found != expected:
            raise ValueError(f"the {name} table has shapes {found}, the ids need {expected}: save the checkpoint anew")


def _check_side(side: Side, draws: tuple[int, ...], columns: int, k: int) -> None:
    found = jax.tree.map(np.shape, (side.mean, side.precision))
    row = Table(draws, (*draws, k))
    if found != (row, row):
        raise ValueError(f"a side's prior has shapes {found} in a model of rank {k}: save the checkpoint anew")
    _check_link(side.link, draws, columns, k)


def _check_link(link: Table, draws: tuple[int, ...], columns: int, k: int) -> None:
    found = jax.tree.map(np.shape, link)
    if found not in [Table((*draws, rows), (*draws, rows, k)) for rows in (0, columns)]:
        raise ValueError(f"a side's link has shapes {found} in a model of rank {k}: save the checkpoint anew")

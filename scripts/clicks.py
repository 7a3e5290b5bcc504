"""Clicks for the scripts: which pairs to train on and to rank, how good a ranking is, a search of settings."""

import dataclasses
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from common import Run, say, show

import jaxmf
from jaxmf.data.ratings import Ratings
from jaxmf.model.kernels import Clicks
from jaxmf.model.params import Params
from jaxmf.model.priors import CLICKS
from jaxmf.model.tables import Table

PRIOR = CLICKS.user
BACKGROUNDS = (0.5, 1.0, 2.0)
FACTOR_REGS = (0.2, 0.3, 0.45)
"""What `--search` tries, each with each: backgrounds in units of the default one."""
SHARE = 0.2
"""Of the clicks that are hidden: for the test, and of the rest for the search."""
FILES = ("train.tsv.gz", "test.tsv.gz")
"""A folder with a split of its own: user, item, value, time, without a header."""
CUTS = (10, 20, 50, 100)
"""Where lists are cut."""
BESIDES = ("ndcg10", "recall20", "recall50", "ndcg100")


@dataclasses.dataclass
class Settings:
    """Settings of `--feedback clicks`."""

    threshold: float = 4.0
    """Clicks: ratings from here on are clicks, others are left out; of a folder with a split of its own all are."""
    background: float | None = None
    """Clicks: weight of what was not clicked, beside the 1 of a click; else it follows their density."""
    confidence: Literal["log", "linear", "once"] = "log"
    """Clicks: what a pair counts that was clicked several times: log₂(1 + count), the count, or 1."""
    factor_reg: float = float(PRIOR.factor_reg)
    """Clicks: precision of the factors, of both sides."""
    power: float = float(PRIOR.power)
    """Clicks: how it grows with a row's clicks."""
    extra: float = float(PRIOR.extra)
    """Clicks: how many a row counts besides its own."""
    search: bool = False
    """Clicks: choose the background and the factors' precision on a validation part of the training pairs."""


SETTINGS = tuple(field.name for field in dataclasses.fields(Settings))


class Pairs(NamedTuple):
    """Clicks to train on, and clicks of users and items that are among these, to be ranked high."""

    train: Ratings
    test: Ratings


NONE = Pairs(*2 * [Ratings(*np.zeros((2, 0), np.int32), *np.zeros((2, 0), np.float32), n_users=0, n_items=0)])
"""No clicks, for what is not about them."""


def load(args: Run, threshold: float, *, official: bool = False) -> Pairs:
    """The clicks of a data set: of the folder's own split, ML-100K's official one, or with a fifth of them hidden."""
    if args.data is not None and (args.data / FILES[0]).exists():
        return of_folder(args.data)
    data = args.load()
    if official:
        split = jaxmf.datasets.movielens_100k_folds(args.data or Path())["ua"]
        clicked = data.ratings.rating >= threshold
        parts = [part[clicked[part]] for part in split]
    else:
        clicked = np.flatnonzero(data.ratings.rating >= threshold)
        if not len(clicked):
            raise ValueError(f"no rating reaches --threshold {threshold}: lower it")
        parts = [clicked[part] for part in jaxmf.splits.hold_out(len(clicked), SHARE, seed=args.seed_of_splits())]
    train, test = (as_clicks(data.ratings.take(part)) for part in parts)
    return known(train, test)


def of_folder(folder: Path) -> Pairs:
    """The clicks of a folder with a split of its own."""
    names = ["user", "item", "value", "time"]
    frames = []
    for name in FILES:
        if not (folder / name).exists():
            raise ValueError(f"{folder} has no {name}: a split has both {' and '.join(FILES)}")
        frames.append(pd.read_csv(folder / name, sep="\t", header=None, names=names))
    train, test = frames
    data = jaxmf.ratings.from_frame(train, rating=None)
    test = test[test.user.isin(train.user) & test.item.isin(train.item)]
    columns = jaxmf.ratings.Columns(rating=None)
    hidden = jaxmf.ratings.from_columns(test, columns, users=data.users, items=data.items)
    return Pairs(data.ratings, hidden.ratings)


def as_clicks(ratings: Ratings) -> Ratings:
    """Each rating as one click."""
    return ratings.replace(rating=np.ones_like(ratings.rating), weight=np.ones_like(ratings.rating))


def known(train: Ratings, test: Ratings) -> Pairs:
    """The pair of them, the test part without users and items that training has not seen."""
    seen = np.isin(test.user, train.user) & np.isin(test.item, train.item)
    return Pairs(train, test.take(seen))


def kept(train: Ratings, seed: int) -> np.ndarray:
    """Which training clicks are kept where the rest is a validation part."""
    mask = np.zeros(len(train), bool)
    if not len(train):
        return mask
    mask[jaxmf.splits.hold_out(len(train), SHARE, seed=seed).train] = True
    return mask


def validation(train: Ratings, mask: np.ndarray) -> Pairs:
    """The training clicks that are kept, and the rest to be ranked."""
    return known(train.take(mask), train.take(~mask))


def judged(answer: Any, pairs: Pairs) -> Any:  # noqa: ANN401 a number or several by name
    """A library's answer, with its factors' ranking in place of the file that they are in."""
    if not isinstance(answer, dict) or "factors" not in answer:
        return answer
    file = Path(answer["factors"])
    with np.load(file) as arrays:
        users, items = (Table(jnp.zeros(len(x)), jnp.asarray(x)) for x in (arrays["users"], arrays["items"]))
    file.unlink()
    model = jaxmf.Model(Params(users, items, jnp.float32(0)), Clicks(1.0))
    found = jaxmf.judging.full_ranking(model, *pairs, cuts=CUTS[:2])
    rest = {name: value for name, value in answer.items() if name != "factors"}
    return rest | {name: float(found[name]) for name in BESIDES[:2]}


def searched(args: Any, train: Ratings, settings: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401 settings of a run
    """The settings with those of `--search` that rank a validation part of the training pairs best; shows them all."""
    scale = float(Clicks(confidence=args.confidence).measured(train).share)
    grid = jaxmf.tune.grid({"background": BACKGROUNDS, "factor_reg": FACTOR_REGS})
    grid = grid.assign(background=grid["background"] * scale, seed=args.seed)
    grid = grid.assign(**{name: value for name, value in settings.items() if name not in grid})
    fold = jaxmf.splits.hold_out(len(train), SHARE, seed=args.seed_of_splits())
    found = jaxmf.choosing.sweep(train, [fold], grid, kernel=Clicks(confidence=args.confidence), progress=args.progress)
    told = ["background", "factor_reg", *BESIDES]
    show("On a validation part", [dict(zip(told, row, strict=True)) for row in found[told].to_numpy().tolist()])
    return jaxmf.choosing.best(found)


def main(args: Any) -> None:  # noqa: ANN401 settings of a run and of clicks
    """Fit clicks and rank what was held out, then print, plot and save."""
    train, test = pairs = load(args, args.threshold, official=args.official)
    say(f"{len(train):,} clicks on {train.n_items:,} items by {train.n_users:,} users, {len(test):,} held out")
    names = ("rank", "factor_reg", "power", "extra", *([] if args.epochs is None else ["epochs"]))
    settings = {name: getattr(args, name) for name in names}
    settings = searched(args, train, settings) if args.search else settings | {"background": args.background}
    kernel = Clicks(settings["background"], args.confidence).measured(train)
    settings["background"] = float(kernel.share)
    few, watch = jaxmf.choosing.fit_settings(settings, kernel), jaxmf.Watch(progress=args.progress)
    fit = jaxmf.als.fit(jax.random.key(args.seed), train, watch=watch, **few)
    found = jaxmf.judging.full_ranking(fit.model, *pairs, cuts=CUTS)
    args.log(fit.history)
    show("Ranking of all items", [found])
    sweeps = len(fit.history["loss"])
    with args.plot("objective", f"clicks, rank {args.rank}", "sweep", "objective a click") as axes:
        axes.plot(np.arange(1, sweeps + 1), fit.history["loss"], label="objective")
    told = settings | {"confidence": args.confidence, "epochs": sweeps}
    timed = {"sweep_seconds": fit.seconds / sweeps, "compile_seconds": fit.compile_seconds}
    args.save({"feedback": "clicks", **found, "settings": told, **timed})

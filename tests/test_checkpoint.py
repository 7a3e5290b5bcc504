"""What is saved comes back as it was, or not at all."""

import dataclasses
import datetime
import json
import subprocess
import sys
import textwrap
import uuid
from decimal import Decimal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from reference import KERNELS

import jaxmf
from jaxmf import Recommender
from jaxmf.keeping import checkpoint, kept, manifests
from jaxmf.keeping.checkpoint import load_state, save_state
from jaxmf.serving.layered import Layered
from jaxmf.training import als, notebook

pytestmark = pytest.mark.optax

KEPT = Path(__file__).parent / "checkpoints"
FRAME = pd.DataFrame({"who": [1, 1, 2, 3, 3], "what": list("abacb"), "stars": [4.0, 2.0, 5.0, 1.0, 3.0]})
COLUMNS = {"user": "who", "item": "what", "rating": "stars"}
KEY = jax.random.key(3)


def fit(frame: pd.DataFrame = FRAME, **settings) -> Recommender:
    return Recommender.fit(frame, **COLUMNS, **{"rank": 2, "kernel": KERNELS[1]} | settings)


@pytest.fixture(scope="module")
def rec() -> Recommender:
    return fit()


@pytest.fixture
def saved(rec, tmp_path) -> Path:
    rec.save(tmp_path / "model")
    return tmp_path / "model"


def assert_same(one: Recommender, other: Recommender) -> None:
    jax.tree.map(np.testing.assert_array_equal, one.model.params, other.model.params)
    jax.tree.map(np.testing.assert_array_equal, one.ratings, other.ratings)
    assert (one.users, one.items) == (other.users, other.items)
    for name in ("columns", "scale", "frozen", "library", "measured"):
        assert getattr(one, name) == getattr(other, name)
    np.testing.assert_array_equal(one.predict(FRAME), other.predict(FRAME))


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: type(kernel).__name__)
def test_a_point_estimate_comes_back(tmp_path, kernel):
    rec = fit(kernel=kernel, epochs=2, prior=jaxmf.priors.Prior(3.0, 0.3, 0.25))
    rec.save(tmp_path / "model")
    back = Recommender.load(tmp_path / "model")
    assert_same(back, rec)
    assert (back.model.kernel, back.model.priors) == (rec.model.kernel, rec.model.priors)
    new = FRAME[:2].assign(who=9)
    np.testing.assert_array_equal(back.fold_in(new).predict(new), rec.fold_in(new).predict(new))


@pytest.mark.parametrize("method", ["als", "sgd"])
def test_links_come_back(tmp_path, method):
    rec = fit(method=method, implicit=True)
    for form in (rec, rec.without_users()):
        form.save(tmp_path / "model")
        back = Recommender.load(tmp_path / "model")
        assert_same(back, form)
        jax.tree.map(np.testing.assert_array_equal, back.model.links, form.model.links)
        new = FRAME[:2].assign(who=9)
        np.testing.assert_array_equal(back.fold_in(new).predict(new), form.fold_in(new).predict(new))


@pytest.mark.parametrize("implicit", [False, True])
def test_a_posterior_comes_back(tmp_path, implicit):
    rec = fit(method="gibbs", epochs=12, implicit=implicit)
    rec.save(tmp_path / "model")
    back = Recommender.load(tmp_path / "model")
    assert_same(back, rec)
    np.testing.assert_array_equal(back.predict_std(FRAME), rec.predict_std(FRAME))
    new = FRAME[:2].assign(who=9)
    np.testing.assert_array_equal(back.fold_in(new).predict(new), rec.fold_in(new).predict(new))


def test_forms_without_users_or_history_come_back(rec, tmp_path):
    for form in (rec.without_users(), rec.without_history()):
        form.save(tmp_path / "model")
        assert_same(Recommender.load(tmp_path / "model"), form)


@pytest.mark.parametrize(
    "ids",
    [
        [3, -(2**40)],
        ["ä", "\ud800"],
        [0.1, 1e300],
        [True, False],
        [b"\x00\xff", b""],
        [("a", 1), ("a", (2.5, b"x", None))],
        np.array([3, 5], np.uint64),
        np.array([0.1, 0.5], np.float32),
    ],
    ids=lambda ids: type(ids[0]).__name__,
)
def test_ids_come_back(ids):
    known = jaxmf.ratings.Vocabulary(ids)
    saved = kept.of_ids(known)
    back = kept.to_ids(saved if isinstance(saved, np.ndarray) else json.loads(json.dumps(saved)))
    assert back == known
    assert back.index.dtype == known.index.dtype
    assert [type(value) for value in back.index] == [type(value) for value in known.index]


def test_ids_that_cannot_be_kept_are_named(tmp_path):
    time = datetime.time(1)
    rec = fit(FRAME.assign(what=[time, datetime.time(2)] * 2 + [time]))
    with pytest.raises(ValueError, match=r"id datetime.time\(1, 0\) of type time can't be kept"):
        rec.save(tmp_path / "model")


def test_a_kernel_of_ones_own_is_refused(rec):
    class Mine(jaxmf.kernels.Linear):
        """Not the package's."""

    with pytest.raises(ValueError, match="is not among"):
        kept.of_model(rec.model.replace(kernel=Mine()))


def test_a_save_replaces_the_last_one_whole(rec, saved):
    other = rec.forget([1])
    other.save(saved)
    assert_same(Recommender.load(saved), other)
    assert len(list(saved.iterdir())) == 3


@pytest.mark.parametrize("step", range(1, 12, 2))
def test_a_crash_leaves_the_previous_one(rec, saved, monkeypatch, step):
    """A save that dies at any step before the manifest is replaced, and the one after it, which cleans up."""
    calls = iter(range(10**6))

    def dying(*_) -> None:
        if next(calls) == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "to_disk", dying)
    with pytest.raises(KeyboardInterrupt):
        rec.forget([1]).save(saved)
    assert_same(Recommender.load(saved), rec)
    monkeypatch.undo()
    rec.forget([1]).save(saved)
    assert_same(Recommender.load(saved), rec.forget([1]))
    assert len(list(saved.iterdir())) == 3


def test_every_damaged_byte_is_refused(rec, saved):
    """Bytes flipped, or files cut, at 500 random places."""
    rng = np.random.default_rng(0)
    files = [file for file in sorted(saved.rglob("*")) if file.is_file() and file.stat().st_size]
    size = np.array([file.stat().st_size for file in files])
    for at in range(500):
        which = rng.choice(len(files), p=size / size.sum()) if at % 2 else rng.integers(len(files))
        file, whole = files[which], files[which].read_bytes()
        place = int(rng.integers(len(whole)))
        flipped = whole[:place] + bytes([whole[place] ^ int(rng.integers(1, 256))]) + whole[place + 1 :]
        file.write_bytes(flipped if at % 4 else whole[:place])
        with pytest.raises(ValueError, match=r"truncated|altered"):
            Recommender.load(saved)
        file.write_bytes(whole)
    assert_same(Recommender.load(saved), rec)


def test_files_that_come_or_go_are_refused(saved):
    file = next(file for file in saved.rglob("settings.json"))
    (file.parent / "more.json").write_text("1")
    with pytest.raises(ValueError, match=r"more.json was not there when"):
        Recommender.load(saved)
    (file.parent / "more.json").unlink()
    file.unlink()
    with pytest.raises(ValueError, match=r"settings.json is missing, the checkpoint is truncated"):
        Recommender.load(saved)


def forged(path: Path, **changes) -> None:
    """The manifest with other contents and the right checksum."""
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["checksum"]
    (path / "manifest.json").write_text(manifests.sealed(manifest | changes))


def test_what_cannot_be_read_says_why(saved, tmp_path):
    with pytest.raises(ValueError, match=r"no checkpoint at .*there is no manifest.json"):
        Recommender.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds a recommender and not a state"):
        load_state(saved, {})
    forged(saved, format=3)
    with pytest.raises(ValueError, match="is of format 3 and this version of jaxmf reads 1 to 2: update jaxmf"):
        Recommender.load(saved)
    forged(saved, format=1, folder="../elsewhere")
    with pytest.raises(ValueError, match=r"names the folder '../elsewhere', which no save does"):
        Recommender.load(saved)


def test_nothing_else_is_overwritten(rec, tmp_path):
    (tmp_path / "thesis.txt").write_text("three years")
    with pytest.raises(ValueError, match=r"it holds 'thesis.txt'"):
        rec.save(tmp_path)
    for place in (tmp_path / "thesis.txt", tmp_path / "thesis.txt" / "model"):
        with pytest.raises(ValueError, match=r"thesis.txt is a file and no checkpoint: name a new folder"):
            rec.save(place)


@pytest.mark.parametrize("step", ["check_file", "load_arrays"])
@pytest.mark.parametrize("after", [False, True])
def test_a_save_while_reading_gives_the_new_one(rec, saved, monkeypatch, step, after):
    """Whoever reads the old one's files meanwhile finds them gone, or has read them already."""
    other, real = rec.forget([1]), getattr(checkpoint, step)

    def interrupted(*args, **kwargs):
        monkeypatch.setattr(checkpoint, step, real)
        if after:
            return real(*args, **kwargs), other.save(saved)
        other.save(saved)
        return real(*args, **kwargs)

    monkeypatch.setattr(checkpoint, step, interrupted)
    assert_same(Recommender.load(saved), other)


def test_a_reader_who_is_overtaken_again_and_again_gives_up(rec, saved, monkeypatch):
    real = checkpoint._contents

    def overtaken(*args):
        rec.save(saved)
        return real(*args)

    monkeypatch.setattr(checkpoint, "_contents", overtaken)
    with pytest.raises(ValueError, match=r"was saved anew 5 times while it was read: save it less often, or load it"):
        Recommender.load(saved)


def links_of(n):
    """Links of so many features, and of none."""
    return {
        f"links.{side}.{name}": np.zeros((rows, *shape), np.float32)
        for side, rows in (("user", n), ("item", 0))
        for name, shape in (("bias", ()), ("factors", (2,)))
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a, _: a.pop("params.user.bias"), "no array 'params.user.bias'"),
        (lambda a, _: a.update({"params.user.bias": np.zeros(7, np.float32)}), "the user table has shapes"),
        (lambda a, _: a.update(links_of(7)), "a side's link has shapes"),
        (lambda a, _: a.update({"links.user.bias": np.zeros(0, np.float32)}), "no array 'links.user.factors'"),
        (lambda a, _: a.update({"ratings.user": np.full(5, 99)}), "user row 99 is outside"),
        (lambda a, _: a.pop("ratings.user"), "the ratings have shapes"),
        (lambda _, d: d["model"]["kernel"].update(name="os.system"), "kernel 'os.system' is not among"),
        (lambda _, d: d["model"]["kernel"].update(low=9.0), "low must be below high"),
        (lambda _, d: d["model"]["prior"]["user"].update(bias_reg=-1.0), "bias_reg of the user prior must be positive"),
        (lambda _, d: d["model"]["prior"]["user"].update(bias_reg="1"), "makes no sense, Type"),
        (lambda _, d: d["model"]["prior"].pop("user"), "makes no sense, Type"),
        (lambda _, d: d["model"].update(prior=[]), "makes no sense, AttributeError"),
        (lambda _, d: d["model"].pop("kernel"), "makes no sense, KeyError: 'kernel'"),
        (lambda _, d: d.pop("settings"), "makes no sense, KeyError: 'settings'"),
        (lambda _, d: d.update(model=[]), "makes no sense, Type"),
        (lambda _, d: d.update(settings=3), "makes no sense, Type"),
        (lambda _, d: d.update(items="abc"), "makes no sense|ids must be a list"),
        (lambda _, d: d["items"].append({"bite": "?"}), "makes no sense, KeyError: 'bite'"),
        (lambda _, d: d["items"].append(["a"]), "can't be looked up"),
        (lambda a, _: a.update(users=np.zeros((3, 1))), r"ids must be a list, or one row of numbers, got \(3, 1\)"),
        (lambda _, d: d["settings"].update(scale=[5.0, 1.0]), "scale must be two ascending finite numbers"),
        (lambda _, d: d["settings"].update(scale=[1.0, np.inf]), "scale must be two ascending finite numbers"),
        (lambda _, d: d["settings"].update(scale=[np.nan, 1.0]), "scale must be two ascending finite numbers"),
        (lambda _, d: d["settings"].update(frozen=[0, 4]), r"frozen must be .*at most \(3, 3\), got \(0, 4\)"),
        (lambda _, d: d["settings"].update(frozen=[-1, 0]), "frozen must be"),
        (lambda _, d: d["settings"].update(frozen=[0]), "frozen must be"),
        (lambda _, d: d["settings"].update(library="spark"), "library must be one of .*, got 'spark'"),
        (lambda _, d: d["settings"].update(measured=-1.0), "measured must be a positive finite number or none, got -1"),
        (lambda _, d: d["settings"].update(columns=["a", 3, "c", None, None]), "columns must have names"),
        (lambda a, _: a.update({"params.user.bias": np.float32([0, np.nan, 0])}), "params.user.bias holds nan"),
        (lambda a, _: a.update({"params.item.factors": np.full((3, 2), -np.inf, np.float32)}), "factors holds -inf"),
        (lambda a, _: a.update({"params.user.factors": np.zeros((3, 2), int)}), "params.user.factors holds int64"),
        (lambda a, _: a.update({"params.offset": np.zeros(2, np.float32)}), "the offset has shape"),
        (lambda a, _: a.update({"ratings.item": np.zeros(5, np.float32)}), "ratings.item holds float32"),
        (lambda a, _: a.update({"ratings.rating": np.ones(5, int)}), "ratings.rating holds int64"),
        (lambda a, _: a.update({"ratings.rating": np.full(5, 99, np.float32)}), "outside the kernel's scale"),
    ],
)
def test_what_makes_no_sense_is_refused(saved, change, words):
    """Whole and sealed, and still no recommender."""
    found = checkpoint.read(saved, "recommender")
    change(found.arrays, found.documents)
    checkpoint.write(saved, found)
    with pytest.raises(ValueError, match=words):
        Recommender.load(saved)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.pop("key"), "no array 'key'"),
        (lambda a: a.update(key=np.zeros((3, 2), np.uint32)), "a posterior has one"),
        (lambda a: a.update(key=np.zeros(2, np.float32)), "key holds float32"),
        (lambda a: a.update({"draws.noise": np.float32(1)}), "the noise has shape"),
        (lambda a: a.update({"draws.user.link_precision": np.zeros(1, np.float32)}), "a side's prior has shapes"),
        (lambda a: a.update({name: array[:0] for name, array in a.items() if "draws" in name}), "the noise has shape"),
    ],
)
def test_what_is_no_posterior_is_refused(tmp_path, change, words):
    fit(method="gibbs", epochs=12).save(tmp_path / "model")
    found = checkpoint.read(tmp_path / "model", "recommender")
    change(found.arrays)
    checkpoint.write(tmp_path / "model", found)
    with pytest.raises(ValueError, match=words):
        Recommender.load(tmp_path / "model")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 0}, "is of format 0 and this version of jaxmf reads 1 to 2"),
        ({"format": "2"}, "is of format '2'"),
        ({"folder": 3}, "makes no sense, Type"),
        ({"kind": None}, "holds a None and not a recommender"),
        ({"files": []}, "makes no sense"),
        ({"files": {"arrays": ["1"]}}, "makes no sense|was not there"),
        ({"arrays": {"users": ["int64", [10**15]]}}, "arrays of 8000000000000000 bytes and its files of"),
        ({"arrays": {"users": ["int64", [10**400]]}}, "bytes and its files of"),
        ({"arrays": {"users": ["int64", [0, 10**400]]}}, "makes no sense|Maximum"),
        ({"arrays": {"users": ["int64", "3"]}}, "makes no sense, Type"),
        ({"arrays": {"users": ["number", [3]]}}, "makes no sense, Type"),
        ({"arrays": 7}, "makes no sense, "),
    ],
)
def test_a_forged_manifest_is_refused(saved, changes, words):
    forged(saved, **changes)
    with pytest.raises(ValueError, match=words):
        Recommender.load(saved)


def test_a_manifest_that_tells_other_shapes_is_refused(saved):
    """Orbax itself gives what is on disk."""
    arrays = json.loads((saved / "manifest.json").read_text())["arrays"]
    forged(saved, arrays=arrays | {"users": ["int64", [2]]})
    with pytest.raises(ValueError, match=r"holds users of shape \(3,\) and not \(2,\)"):
        Recommender.load(saved)


def test_nothing_nested_too_deep_is_read(saved):
    (saved / "manifest.json").write_text("[" * 10**6)
    with pytest.raises(ValueError, match="makes no sense, RecursionError"):
        Recommender.load(saved)


@pytest.mark.parametrize("progress", [{}, [], 3, {"epoch": "7"}, {"epoch": -1}, {"epoch": 1, "run": [3]}])
def test_a_forged_state_is_refused(tmp_path, progress):
    checkpoint.write(tmp_path / "run", checkpoint.Checkpoint("state", {"a": np.ones(2)}, {"progress": progress}))
    with pytest.raises(ValueError, match=r"makes no sense|which no save does"):
        load_state(tmp_path / "run", {"a": np.ones(2)}, run={"epochs": 3})


def test_a_model_that_is_not_finite_is_not_saved(rec, tmp_path):
    params = rec.model.params
    model = rec.model.replace(params=params.replace(offset=jnp.float32(jnp.nan)))
    with pytest.raises(ValueError, match=r"params.offset of the model is not finite.*fit the model anew"):
        dataclasses.replace(rec, layered=Layered.of(model)).save(tmp_path / "model")


@pytest.mark.parametrize("name", [f"format-{number + 1}" for number in range(checkpoint.FORMAT)])
def test_every_format_stays_readable(name):
    """A checkpoint in the repository, written when the format was new; `make_kept` below made it."""
    back = Recommender.load(KEPT / name)
    np.testing.assert_allclose(back.predict(FRAME), json.loads((KEPT / f"{name}.json").read_text()), rtol=1e-5)
    assert back.users.index.tolist() == [1, 2, 3]
    assert back.fold_in(FRAME.assign(who=7)).predict(FRAME).shape == (5,)


def make_kept() -> None:
    """The newest of `test_every_format_stays_readable`: `python -c "import test_checkpoint as t; t.make_kept()"`."""
    rec = fit(implicit=True)
    rec.save(KEPT / f"format-{checkpoint.FORMAT}")
    (KEPT / f"format-{checkpoint.FORMAT}.json").write_text(json.dumps(rec.predict(FRAME).tolist()))


def stop_after(epoch):
    def look(at, *_):
        if at == epoch:
            raise KeyboardInterrupt

    return look


SETTINGS = {
    "als": {"kernel": KERNELS[1], "rank": 3, "prior": jaxmf.priors.DEFAULT, "epochs": 6},
    "sgd": {"kernel": KERNELS[1], "rank": 3, "prior": jaxmf.priors.DEFAULT, "epochs": 6, "batch_size": 100},
    "gibbs": {"rank": 3, "sweeps": 6, "burn": 2, "keep": 2},
    "notebook": {"rank": 3, "epochs": 6},
}


@pytest.mark.parametrize("method", SETTINGS)
def test_a_run_that_was_stopped_ends_where_a_whole_one_does(ratings, tmp_path, method):
    train = getattr(jaxmf, method).fit
    keeper = checkpoint.Keeper(tmp_path / "run", every=2)
    whole = train(KEY, ratings, **SETTINGS[method])
    with pytest.raises(KeyboardInterrupt):
        train(KEY, ratings, watch=jaxmf.Watch(keeper=keeper, callback=stop_after(5)), **SETTINGS[method])
    rest = train(KEY, ratings, watch=jaxmf.Watch(keeper=keeper), **SETTINGS[method])
    assert len(rest.history["loss"]) == 2
    np.testing.assert_allclose(rest.history["loss"], whole.history["loss"][4:], rtol=1e-5)
    results = (fitted.posterior if method == "gibbs" else fitted.model for fitted in (rest, whole))
    for one, other in zip(*map(numbers, results), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    again = train(KEY, ratings, watch=jaxmf.Watch(keeper=keeper), **SETTINGS[method])
    assert again.history == {}
    assert_trees_equal(again[0], rest[0])


def assert_trees_equal(one, other):
    for pair in zip(*map(numbers, (one, other)), strict=True):
        np.testing.assert_array_equal(*pair)


def numbers(tree):
    """A tree's leaves, a random key as its numbers."""
    leaves = jax.tree.leaves(tree)
    return [jax.random.key_data(leaf) if getattr(leaf, "dtype", None) == KEY.dtype else leaf for leaf in leaves]


def test_a_keeper_refuses_what_it_cannot_do(ratings, tmp_path):
    keeper = checkpoint.Keeper(tmp_path / "run", settings={"epochs": 2})
    als.fit(KEY, ratings, kernel=KERNELS[0], rank=3, epochs=3, watch=jaxmf.Watch(keeper=keeper))
    mine = jaxmf.Watch(keeper=keeper._replace(settings={"seed": 1}))
    with pytest.raises(ValueError, match=r"a run with settings.seed None and this one has 1: name another folder"):
        als.fit(KEY, ratings, kernel=KERNELS[0], rank=3, epochs=3, watch=mine)
    with pytest.raises(ValueError, match=r"a run with epochs 3 and this one has 2"):
        als.fit(KEY, ratings, kernel=KERNELS[0], rank=3, epochs=2, watch=jaxmf.Watch(keeper=keeper))
    with pytest.raises(ValueError, match="is no checkpoint, it holds 'run"):
        als.fit(KEY, ratings, kernel=KERNELS[0], rank=3, watch=jaxmf.Watch(keeper=checkpoint.Keeper(tmp_path)))
    with pytest.raises(ValueError, match="every must be 1 or more, got 0"):
        als.fit(KEY, ratings, kernel=KERNELS[0], rank=3, watch=jaxmf.Watch(keeper=keeper._replace(every=0)))
    watch = jaxmf.Watch(validation=ratings, patience=2, keeper=keeper)
    with pytest.raises(ValueError, match="patience=2 with a keeper"):
        als.fit(KEY, ratings, kernel=KERNELS[0], rank=3, watch=watch)


def one_higher(ratings):
    rating = ratings.rating.copy()
    rating[7] = 5.5 - rating[7]
    return ratings.replace(rating=rating)


HARD = jaxmf.priors.DEFAULT._replace(item=jaxmf.priors.Prior(40.0))


@pytest.mark.parametrize(
    ("method", "change", "words"),
    [
        ("als", {"epochs": 7}, "epochs 6 and this one has 7"),
        ("als", {"kernel": KERNELS[0]}, r"kernel 'Logistic\(.*\)' and this one has 'Linear\(\)'"),
        ("als", {"rank": 4}, "rank 3 and this one has 4"),
        ("als", {"prior": HARD}, r"prior.item.bias_reg 3.6 and this one has 40.0"),
        ("als", {"prior": None}, "prior None and this one has 'found'"),
        ("als", {"steps": 2}, "steps 1 and this one has 2"),
        ("als", {"cg_steps": 2}, "cg_steps 3 and this one has 2"),
        ("als", {"features": "implicit"}, "features.*None and this one has 'sha256"),
        ("als", {"key": 4}, "start.params.user.factors 'sha256 .*' and this one has 'sha256"),
        ("als", {"ratings": one_higher}, "ratings.rating 'sha256 .*' and this one has 'sha256"),
        ("als", {"method": "sgd"}, "batch_size None and this one has 100"),
        ("sgd", {"batch_size": 50}, "batch_size 100 and this one has 50"),
        ("sgd", {"prior": HARD}, r"prior.item.bias_reg"),
        ("sgd", {"optimizer": optax.sgd(0.1)}, "own_optimizer False and this one has True"),
        ("gibbs", {"burn": 3}, "burn 2 and this one has 3"),
        ("gibbs", {"keep": 4}, "keep 2 and this one has 4"),
        ("gibbs", {"likelihood": "ordinal"}, "likelihood 'Gaussian' and this one has 'Ordinal'"),
        ("gibbs", {"features": "implicit"}, "features"),
        ("gibbs", {"watch": "validation"}, "start.total"),
        ("notebook", {"recipe": notebook.Recipe(alpha=0.5)}, "alpha 0.02 and this one has 0.5"),
        ("notebook", {"recipe": notebook.Recipe(learning_rate=0.1)}, "learning_rate 0.005 and this one has 0.1"),
    ],
)
def test_a_run_with_anything_else_is_refused(ratings, tmp_path, method, change, words):
    """And not resumed as if it were the one that is kept, which has not even ended."""
    watch = jaxmf.Watch(keeper=checkpoint.Keeper(tmp_path / "run"), callback=stop_after(2))
    with pytest.raises(KeyboardInterrupt):
        getattr(jaxmf, method).fit(KEY, ratings, watch=watch, **SETTINGS[method])
    other = change.get("method", method)
    settings = SETTINGS[other] | {
        name: value for name, value in change.items() if name not in ("key", "ratings", "method")
    }
    if "features" in change:
        settings["features"] = jaxmf.features.implicit_sides(ratings)
    if "likelihood" in change:
        settings["likelihood"] = jaxmf.likelihoods.Ordinal(np.unique(ratings.rating))
    settings["watch"] = watch._replace(validation=ratings if "watch" in change else None)
    key, data = jax.random.key(change.get("key", 3)), change.get("ratings", lambda same: same)(ratings)
    with pytest.raises(ValueError, match=f"keeps a run with .*{words}.*: name another folder, or remove it"):
        getattr(jaxmf, other).fit(key, data, **settings)


def test_a_run_is_known_again_in_another_process(tmp_path):
    """What tells it from others depends on nothing but the arguments."""
    code = """
        import sys, jax, numpy as np, jaxmf
        row = np.arange(12, dtype=np.int32)
        data = jaxmf.ratings.Ratings(row // 4, row % 4, 1 + row % 5 * 1.0, np.ones(12), n_users=3, n_items=4)
        features = jaxmf.features.implicit_sides(data)
        watch = jaxmf.Watch(keeper=jaxmf.checkpoint.Keeper(sys.argv[1]))
        print(len(jaxmf.als.fit(jax.random.key(0), data, kernel=jaxmf.kernels.Logistic(0.5, 5.5), rank=2, epochs=2,
                                features=features, watch=watch).history))
    """
    run = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "run")]
    lengths = [subprocess.run(run, check=True, capture_output=True, text=True).stdout.split()[-1] for _ in range(2)]
    assert lengths == ["1", "0"]


def test_a_state_may_be_a_lone_array(tmp_path):
    save_state(tmp_path / "run", jnp.arange(3.0), epoch=2)
    state, epoch = load_state(tmp_path / "run", jnp.zeros(3))
    np.testing.assert_array_equal(state, [0.0, 1.0, 2.0])
    assert epoch == 2


@pytest.mark.parametrize("shape", [(2**20 + 7,), (2, 2**18 + 3, 3), (1031, 1033)], ids=str)
def test_a_large_array_of_prime_sizes_is_stored_in_few_chunks(tmp_path, shape):
    whole = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    save_state(tmp_path / "run", whole)
    np.testing.assert_array_equal(load_state(tmp_path / "run", whole)[0], whole)
    # A chunk of a few bytes takes a hundred in the tables beside it.
    assert sum(file.stat().st_size for file in (tmp_path / "run").rglob("*") if file.is_file()) < 1.1 * whole.nbytes


def test_a_state_of_other_settings_is_refused(ratings, tmp_path):
    save_state(tmp_path / "run", als.init(KEY, ratings, kernel=KERNELS[0], rank=3))
    with pytest.raises(ValueError, match=r"params.user.factors is .*\(30, 3\).* and .*\(30, 4\).*settings"):
        load_state(tmp_path / "run", als.init(KEY, ratings, kernel=KERNELS[0], rank=4))
    with pytest.raises(ValueError, match="a is not there in the checkpoint"):
        load_state(tmp_path / "run", {"a": jnp.zeros(1)})


def test_without_orbax_the_extra_is_named(rec, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "orbax.checkpoint", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxmf\[checkpoint\]'"):
        rec.save(tmp_path / "model")


KINDS = [
    [2**63, 2**63 + 5, 1],
    [2**64, 2**64 + 1, 2],
    [uuid.UUID(int=at) for at in range(3)],
    [datetime.date(2020, 1, at) for at in (1, 2, 3)],
    [datetime.datetime(2020, 1, at) for at in (1, 2, 3)],
    [pd.Timestamp(f"2020-0{at}-01", tz="Europe/Paris") for at in (1, 7, 8)],
    [Decimal("1.50"), Decimal(2), Decimal("1e30")],
]


@pytest.mark.parametrize("ids", KINDS, ids=lambda ids: type(ids[0]).__name__)
def test_ids_of_every_kind_do_all_that_ids_do(tmp_path, ids):
    frame = pd.DataFrame(
        {"user": ids * 3, "item": [one for one in ids for _ in range(3)], "rating": 1.0 + np.arange(9) % 4}
    )
    rec = jaxmf.Recommender.fit(frame, rank=2, epochs=1)
    rec.save(tmp_path / "kept")
    back = jaxmf.Recommender.load(tmp_path / "kept")
    assert back.users == rec.users
    assert [type(one) for one in back.users.decode([0, 1, 2])] == [type(one) for one in rec.users.decode([0, 1, 2])]
    more = back.fold_in(pd.DataFrame({"user": ids[:1], "item": ids[1:2], "rating": [2.0]}))
    assert len(more.users) == len(ids)
    np.testing.assert_allclose(back.predict(frame), rec.predict(frame))
    answer = more.recommend(ids[:1], n=3, exclude_seen=False)
    assert sorted(answer["item"]) == sorted(ids)
    assert len(more.explain(ids[0], ids[1])) == 3
    assert len(more.forget(ids[:1]).users) == len(ids) - 1

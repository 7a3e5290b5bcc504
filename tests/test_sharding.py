"""Over several devices everything is what it is on one, and each has its part of the users alone."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from devices import COUNTS, NAMES
from reference import random_ratings

from jaxmf import sharding
from jaxmf.data import shards
from jaxmf.data.features import implicit_sides
from jaxmf.model.kernels import Linear
from jaxmf.training import als, gibbs, sgd
from jaxmf.training.spread import Spread


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    """What a process of eight devices found over some of them."""
    file = tmp_path_factory.mktemp("devices") / "numbers.npz"
    script = Path(__file__).with_name("devices.py")
    subprocess.run(
        [sys.executable, str(script), str(file)], check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    return np.load(file)


@pytest.mark.parametrize("count", COUNTS[1:])
@pytest.mark.parametrize("name", NAMES)
def test_over_several_devices_it_is_what_it_is_on_one(name, count, numbers):
    alone = {key: numbers[key] for key in numbers.files if key.startswith(f"1.{name}.")}
    assert alone
    for key, expected in alone.items():
        scale = np.abs(expected[np.isfinite(expected)]).max(initial=0)
        np.testing.assert_allclose(numbers[f"{count}{key[1:]}"], expected, rtol=1e-4, atol=1e-4 * scale)


@pytest.mark.parametrize("count", COUNTS)
def test_each_device_has_its_part_of_the_users(count, numbers):
    assert numbers[f"{count}.rows.0"] == -(-203 // count)


def test_a_run_goes_on_over_another_number_of_devices(numbers):
    assert numbers["later.sweeps"] == 2
    for key in (key for key in numbers.files if key.startswith("whole.")):
        scale = np.abs(numbers[key]).max()
        np.testing.assert_allclose(numbers[f"later{key[5:]}"], numbers[key], rtol=1e-4, atol=1e-4 * scale)


@pytest.mark.parametrize("count", [1, 3, 8])
@pytest.mark.parametrize("joint", [False, True])
def test_shards_hold_every_rating_once_a_side(count, joint):
    ratings = random_ratings(np.random.default_rng(0), 50, 40, 700)
    dealt = shards.deal(ratings, count)
    assert len(np.unique(dealt.row)) == 50
    after = dealt.size if joint else 0
    found = [[], []]
    for side, stacks in enumerate(shards.stacks(ratings, dealt, joint=joint)):
        for at in range(count):
            for block in (stack.of(at) for stack in stacks):
                assert block.rows.shape[1:] == stacks[0].shape[1:2]
                g, page, slot = np.nonzero(block.weight)
                row = block.rows[g, block.owner[g, page]]
                other, rating = block.other[g, page, slot], block.rating[g, page, slot]
                user, item = (row, other - after) if side == 0 else (other, row - after)
                found[side] += zip(user + at * dealt.size, item, rating, strict=True)
    expected = sorted(zip(dealt.row[ratings.user], ratings.item, ratings.rating, strict=True))
    assert sorted(found[0]) == sorted(found[1]) == expected


def test_shards_have_about_as_many_ratings():
    rng = np.random.default_rng(0)
    user = rng.zipf(1.3, 20_000) % 1000
    ratings = als.Ratings(user, user % 7, np.ones(20_000), np.ones(20_000), 1000, 7)
    dealt = shards.deal(ratings, 8)
    count = np.bincount(dealt.row[user] // dealt.size, minlength=8)
    assert count.max() <= count.mean() + np.bincount(user).max()


def test_a_mesh_of_one_device_is_none():
    assert sharding.current() is None
    with sharding.over(jax.devices()[:1]) as mesh:
        assert mesh.size == 1
        assert sharding.current() is None
    with pytest.raises(ValueError, match="mesh of no devices: give such as"), sharding.over([]):
        pass


def test_what_is_not_spread_is_refused(monkeypatch):
    ratings = random_ratings(np.random.default_rng(0), 50, 40, 700)
    key, several = jax.random.key(0), SimpleNamespace(size=2)
    monkeypatch.setattr(sharding, "current", lambda: several)
    with pytest.raises(ValueError, match="Gibbs sampling over 2 devices: it runs on one only"):
        gibbs.fit(key, ratings)
    with pytest.raises(ValueError, match="SGD over 2 devices"):
        sgd.fit(key, ratings, kernel=Linear())
    with pytest.raises(ValueError, match="features are not spread over devices yet"):
        als.fit(key, ratings, kernel=Linear(), features=implicit_sides(ratings))


def test_rows_are_dealt_out_and_gathered_again():
    ratings = random_ratings(np.random.default_rng(0), 50, 40, 700)
    state = als.init(jax.random.key(0), ratings, kernel=Linear(), rank=3)
    place = Spread(sharding.mesh_of(jax.devices()[:1]), shards.deal(ratings, 1))
    jax.tree.map(np.testing.assert_array_equal, place.gathered(place.spread(state)), state)
    assert place.pairs(ratings).n_users == 50

"""How every test runs: strict dtypes and ranks, shapes checked, one set of small ratings."""

import gc
import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import jaxtyping
import pytest
from jaxtyping import install_import_hook
from platformdirs import user_cache_dir

# The tests need no accelerator, wherever they run.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Nearly all of the tests' time is compiling: what runs for a moment need not be compiled for speed, nor twice.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
# In jaxlib 0.10 the newer emitters, which later ones have alone, double the time of compiling, and a library for sums
# and products adds a quarter.
if version("jaxlib").startswith("0.10."):
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false --xla_cpu_experimental_ynn_fusion_type="
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", user_cache_dir("jaxmf-tests"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import flax.struct  # noqa: F401 what the package imports comes first: under the hook Python would compile it anew
import jax
import numpy as np
import optax  # noqa: F401
import pandas as pd  # noqa: F401
import sklearn.metrics  # noqa: F401

with install_import_hook("jaxmf", "beartype.beartype"):
    import jaxmf

from reference import Problem, random_ratings

jax.config.update("jax_numpy_rank_promotion", "raise")
gc.collect()
gc.freeze()  # what is imported stays: a seventh of the tests' time was looking through it

MAPS = 15_000
"""Maps of memory at which a file's programs are dropped."""

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(autouse=True)
def strict_dtypes(request: pytest.FixtureRequest) -> Iterator[None]:
    """No silent change of a dtype, except where Optax, which relies on them, is part of the test."""
    with jax.numpy_dtype_promotion("standard" if request.node.get_closest_marker("optax") else "strict"):
        yield


@pytest.fixture(autouse=True, scope="module")
def few_maps() -> Iterator[None]:
    """A compiled program holds maps of memory, of which a process may have 65,530: beyond that the compiler crashes."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_bytes().splitlines()) > MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def unchecked() -> Iterator[None]:
    """No types checked, as where the package is used: what is refused there is refused by the package."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def ratings() -> jaxmf.ratings.Ratings:
    """Ratings of 30 users and 40 items with a real low-rank structure, on the half-star scale."""
    return random_ratings(np.random.default_rng(0), n_users=30, n_items=40, n=500)


@pytest.fixture
def shared() -> Path:
    """The folder of development data, which is no part of the project."""
    if not SHARED.is_dir():
        pytest.skip("the development data is not here")
    return SHARED


@pytest.fixture(params=range(3))
def problem(request: pytest.FixtureRequest) -> Problem:
    """A row with more ratings than factors, one with fewer, and one without any."""
    return Problem.random(np.random.default_rng(request.param), n=[40, 3, 0][request.param], k=5)

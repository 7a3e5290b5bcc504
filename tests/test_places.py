"""Saves to one place never lose each other, and leave alone what none of them wrote; loads open nothing odd."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from jaxmf.keeping import checkpoint, manifests, places
from jaxmf.keeping.checkpoint import Checkpoint, read, write

THEIRS = "data-" + "a" * 32


def of(number: float) -> Checkpoint:
    return Checkpoint("test", {"a": np.full(3, number)}, {"said": number})


def value(path: Path) -> float:
    return read(path, "test").documents["said"]


@pytest.fixture
def saved(tmp_path) -> Path:
    write(tmp_path / "kept", of(1.0))
    return tmp_path / "kept"


def test_a_save_waits_and_then_refuses(saved, monkeypatch):
    monkeypatch.setattr(places, "WAIT", 0.01)
    with FileLock(saved / places.LOCK), pytest.raises(ValueError, match=r"written to by others for 0.01 seconds"):
        write(saved, of(2.0))
    assert value(saved) == 1.0
    write(saved, of(2.0))
    assert value(saved) == 2.0


@pytest.mark.parametrize("step", ["claim", "write_arrays", "replace_manifest", "sweep"])
def test_a_crash_leaves_a_whole_one_and_the_next_save_cleans_up(saved, monkeypatch, step):
    def dying(*_) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, step, dying)
    with pytest.raises(KeyboardInterrupt):
        write(saved, of(2.0))
    monkeypatch.undo()
    assert value(saved) == (2.0 if step == "sweep" else 1.0)
    write(saved, of(3.0))
    assert value(saved) == 3.0
    assert len(list(saved.iterdir())) == 3


@pytest.mark.parametrize("inside", [False, True])
def test_a_folder_that_no_save_wrote_stays(saved, tmp_path, inside):
    place = saved if inside else tmp_path / "work"
    (place / THEIRS).mkdir(parents=True)
    (place / THEIRS / "thesis.txt").write_text("years")
    before = sorted(place.iterdir())
    with pytest.raises(ValueError, match="which no save of this checkpoint wrote: name a new folder"):
        write(place, of(2.0))
    assert sorted(place.iterdir()) == before
    assert (place / THEIRS / "thesis.txt").read_text() == "years"


@pytest.mark.parametrize(
    ("name", "make"),
    [
        (".", lambda path: path.symlink_to("nowhere")),
        (THEIRS, lambda path: path.write_text("")),
        (THEIRS, lambda path: path.symlink_to("/")),
        ("manifest.json", Path.mkdir),
        ("manifest.json", os.mkfifo),
        ("manifest.json.lock", lambda path: path.symlink_to("elsewhere")),
    ],
)
def test_a_save_over_odd_things_is_refused(tmp_path, name, make):
    place = tmp_path / "odd"
    if name != ".":
        place.mkdir()
    make(place / name if name != "." else place)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=r"is a .* and n"):
        write(place, of(1.0))
    assert sorted(tmp_path.rglob("*")) == before


LIMITED = """
import resource, sys
from jaxmf.keeping.checkpoint import read
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))
for path in sys.argv[1:]:
    try:
        read(path, "test")
        print("loaded")
    except ValueError as error:
        print(error)
"""


def _resealed(path: Path, name: str) -> None:
    """The manifest with a file's new size, and no checksum that could be computed in time."""
    manifest = manifests.read_manifest(path)
    manifest["files"][name] = [(path / manifest["folder"] / name).stat().st_size, "0"]
    (path / "manifest.json").write_text(manifests.sealed(manifest))


def _forged(path: Path, how: str) -> Path:
    write(path, of(1.0))
    data = next(path.glob("data-*"))
    extra = data / "extra"
    if how == "pipe":
        os.mkfifo(extra)
    elif how == "device":
        extra.symlink_to("/dev/zero")
    elif how == "outside":
        extra.symlink_to("/")
    elif how == "manifest":
        os.truncate(path / "manifest.json", 3 * 2**30)
    else:
        name = {"document": "said.json", "arrays": "arrays/state/manifest.ocdbt"}[how]
        os.truncate(data / name, 3 * 2**30)
        _resealed(path, name)
    return path


def test_forged_checkpoints_are_refused_in_little_memory(tmp_path):
    words = {
        "pipe": "is a pipe and not a file",
        "device": "is a link and not a file",
        "outside": "is a link and not a folder",
        "manifest": "no save writes more than",
        "document": "is of documents of 3221225472 bytes",
        "arrays": "and its files of 322122",
    }
    paths = [str(_forged(tmp_path / how, how)) for how in words]
    run = subprocess.run([sys.executable, "-c", LIMITED, *paths], capture_output=True, text=True, check=True)
    for line, expected in zip(run.stdout.splitlines(), words.values(), strict=True):
        assert expected in line


@pytest.mark.parametrize(
    ("chunk", "codec", "words"),
    [([10**12], "bytes", "in chunks of"), ([3], "zstd", "by 'zstd'"), ([0], "bytes", "in chunks of")],
)
def test_chunks_that_no_save_stores_are_refused(chunk, codec, words):
    from jaxmf.keeping.arrays import _check_chunks

    with pytest.raises(ValueError, match=words):
        _check_chunks("it", {"configuration": {"chunk_shape": chunk}}, [{"name": codec}], (3,))

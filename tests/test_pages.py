"""The first page: its pages in a browser, its picture, the links of the README; and options that act or are refused."""

import importlib
import json
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import check_pages
import common
import picture
import pytest

ROOT = Path(__file__).parents[1]
NEW_USERS = {"revealed": [0, 1], "curve": {"fold-in": [0.92, 0.9], "full retrain": [0.92, 0.91]}}
PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
GOOD = f"""
<!doctype html><meta name="viewport" content="width=device-width"><header><nav><ul>
<li style="display: inline"><a href="#here">One</a></li>
<li style="display: inline"><a href="b.html#%C3%A9">Two</a></li>
</ul></nav></header>
<p id="here"><a href="https://example.invalid/">elsewhere</a></p>
<div style="overflow-x: auto"><pre style="width: 3000px">wide, and scrolls</pre></div>
<div style="display: none; width: 3000px">not shown</div>
<div class="cell"><div class="cell_output"><pre>1</pre></div></div>
<div class="cell"><div class="cell_output"><img width="20" height="20" src="{PIXEL}"></div></div>
"""

LACKING = check_pages.lacking()
needs_a_browser = pytest.mark.skipif(LACKING is not None, reason=f"needs {LACKING}")


def start(script, kind, *arguments) -> None:
    """Run a script as its command line would."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"scripts/{script.__name__}.py", *map(str, arguments)])
        common.run(script.main, kind)


def pages(folder: Path, **bodies: str) -> Path:
    """A folder of pages, and one that they link to."""
    for name, body in {**bodies, "b": "<p id='é'>b</p>"}.items():
        (folder / f"{name}.html").write_text(body, encoding="utf-8-sig")
    return folder


@needs_a_browser
def test_good_pages_have_no_faults(tmp_path, capsys):
    start(check_pages, check_pages.Pages, "--pages", pages(tmp_path, a=GOOD), "--require")
    assert "2 pages are as they should be" in capsys.readouterr().out


@needs_a_browser
def test_each_fault_is_found_with_its_page_width_and_element(tmp_path):
    bad = (
        GOOD.replace("</ul>", "<li><a href='b.html'>Three, on a line of its own</a></li></ul>")
        + f"""
<div id="broad" style="width: 1000px">too wide for a telephone</div>
<a href="c.html">no file</a> <a href="b.html#there">no anchor</a> <a href="#nowhere">no anchor here</a>
<div class="cell" id="nothing"><div class="cell_output"><pre> </pre></div></div>
<img id="tiny" width="0" src="{PIXEL}"> <img id="lost" src="lost.png">
<script>null.x</script>
"""
    )
    found, count = check_pages.faults(pages(tmp_path, a=bad))
    assert count == 2
    assert {fault.page for fault in found} == {"a.html"}
    seen = {(fault.width, fault.what, fault.element.split(">")[0]) for fault in found}
    always = {
        ("an empty output", "<div#nothing.cell"),
        ("an image of no size", "<img#tiny"),
        ("an image of no size", "<img#lost"),
        ("a file is missing", "lost.png"),
        ("a script's error", "Cannot read properties of null (reading 'x')"),
    }
    only = {
        (400, "wider than the window", "<div#broad"),
        (1300, "broken link", "<a"),
    }
    bar = {one for one in seen if "two lines" in one[1]}
    assert {width for width, *_ in bar} == {1300}
    assert seen - bar == {(width, *one) for one in always for width in (1300, 400)} | only
    links = [fault.element for fault in found if fault.what == "broken link"]
    assert links == ["<a> no file → c.html", "<a> no anchor → b.html#there", "<a> no anchor here → a.html#nowhere"]
    with pytest.raises(SystemExit, match=r"a\.html  400  wider than the window: <div#broad> too wide"):
        start(check_pages, check_pages.Pages, "--pages", tmp_path)


@needs_a_browser
def test_a_folder_without_pages_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="has no pages: build them with `make docs`"):
        start(check_pages, check_pages.Pages, "--pages", tmp_path)


@pytest.mark.parametrize(("module", "browsers"), [("playwright", check_pages.BROWSERS), ("json", ())])
def test_without_a_browser_the_pages_are_skipped_aloud(monkeypatch, capsys, module, browsers):
    """Without Playwright, and without any of the programs."""
    monkeypatch.setitem(sys.modules, f"{module}.sync_api", None)
    monkeypatch.setattr(check_pages, "BROWSERS", browsers)
    start(check_pages, check_pages.Pages)
    assert "SKIPPED: the pages are not looked at in a browser, which needs" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="the pages can't be looked at without"):
        start(check_pages, check_pages.Pages, "--require")


def test_links_of_the_readme_lead_somewhere():
    links = re.findall(r'(?:\]\(|(?:src|srcset)=")([^)"#]+)', (ROOT / "README.md").read_text())
    assert len(links) > 15
    assert [link for link in links if not (ROOT / link).exists()] == []


def benchmarked(path: Path, *, quick: bool = False, **milliseconds: float) -> Path:
    """A file like `benchmark.py`'s."""
    path.write_text(json.dumps({"quick": quick, "fold_in_single_ms": milliseconds}))
    return path


def test_the_picture_has_the_numbers_of_the_files(tmp_path):
    """Both halves, light and dark; the same numbers make the same files; times that are not given anew stay."""
    measured, out = tmp_path / "picture.json", tmp_path / "out"
    picture.keep(measured, {"new_users": picture.curves([NEW_USERS, NEW_USERS])})
    times = benchmarked(tmp_path / "benchmark.json", ours=0.0512345, theirs=7.5)
    start(picture, picture.Picture, "--measured", measured, "--benchmark", times, "--out", out)
    kept = json.loads(measured.read_text())
    assert kept["one_user_ms"] == {"ours": 0.05123, "theirs": 7.5}
    assert kept["new_users"] == {
        "revealed": [0, 1],
        "seeds": 2,
        "rmse": {"fold-in": [0.92, 0.9], "full retrain": [0.92, 0.91]},
    }
    drawn = {path.name: path.read_bytes() for path in out.iterdir()}
    assert set(drawn) == {f"new_user_{half}_{theme}.svg" for half in ("rmse", "ms") for theme in ("light", "dark")}
    assert all(ET.fromstring(svg).tag.endswith("svg") for svg in drawn.values())
    assert b"<!-- 0.051 -->" in drawn["new_user_ms_light.svg"]
    assert b"<!-- 7.5 -->" in drawn["new_user_ms_dark.svg"]
    assert picture.THEMES["dark"].ours.encode() in drawn["new_user_rmse_dark.svg"]
    start(picture, picture.Picture, "--measured", measured, "--out", out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == drawn


def test_the_picture_of_errors_alone(tmp_path):
    picture.draw({"new_users": picture.curves([NEW_USERS])}, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"new_user_rmse_light.svg", "new_user_rmse_dark.svg"}


def test_a_picture_of_numbers_that_are_not_there_is_refused(tmp_path):
    measured, times = tmp_path / "picture.json", tmp_path / "benchmark.json"
    with pytest.raises(SystemExit, match=r"picture\.json is not there: `make results` measures what it has"):
        start(picture, picture.Picture, "--measured", measured, "--out", tmp_path)
    refused = r"benchmark\.json has no times of one user at full size: make it by `make benchmark`"
    for make in (lambda: None, lambda: benchmarked(times), lambda: benchmarked(times, quick=True, ours=1.0)):
        make()
        with pytest.raises(SystemExit, match=refused):
            start(picture, picture.Picture, "--measured", measured, "--benchmark", times, "--out", tmp_path)
    times.write_text("{")
    with pytest.raises(SystemExit, match=r"benchmark\.json can't be read .*: make it anew"):
        start(picture, picture.Picture, "--measured", measured, "--benchmark", times, "--out", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["benchmark.json"]


def test_the_picture_on_the_first_page_is_of_the_kept_numbers(tmp_path):
    pytest.importorskip("matplotlib")
    picture.draw(json.loads(picture.MEASURED.read_text()), tmp_path)
    words = {path.name: re.findall("<!-- .* -->", path.read_text()) for path in tmp_path.iterdir()}
    assert words == {name: re.findall("<!-- .* -->", (ROOT / "docs/_static" / name).read_text()) for name in words}


def test_results_paint_new_users_with_the_times_given(tmp_path, monkeypatch, capsys):
    """The runs themselves are `fold_in_timing.py`'s; here their numbers are given."""
    import results

    found = NEW_USERS | {"rmse": {"fold_in": 0.9, "full_retrain": 0.91}, "latency_ms": {"single_p50": 0.1}}
    monkeypatch.setattr(results, "measured", lambda *_: found | {"batch_us_per_user": 20.0})
    settings = ["--only", "new_users", "--seeds", 2, "--out", tmp_path]
    start(results, results.Results, *settings)
    assert "one user's times are those that" in capsys.readouterr().out
    assert not list(tmp_path.glob("*_ms_*.svg"))
    start(results, results.Results, *settings, "--benchmark", benchmarked(tmp_path / "b.json", ours=0.05, theirs=7.5))
    assert len(list(tmp_path.glob("*.svg"))) == 4
    assert json.loads((tmp_path / "picture.json").read_text())["one_user_ms"] == {"ours": 0.05, "theirs": 7.5}
    page = (tmp_path / "results.md").read_text()
    assert "0.9000 ± 0.0000 | 0.1 " in page
    assert "python scripts/fold_in_timing.py --method als --retrains --split-seed 0 --seed $seed" in page


def refusal(capsys, name: str, *options: str) -> str:
    """What a script says that ends at once, without the box that it is in."""
    module, kind = name.split(".")
    script = importlib.import_module(module)
    with pytest.raises(SystemExit) as end:
        start(script, getattr(script, kind), *options)
    return " ".join(re.sub("[─-╿]", " ", f"{end.value} {capsys.readouterr().err}").split())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("train.Train", "--user visitor", "--user visitor does nothing without a file of ratings: name it with"),
        ("train.Train", "--timestamp None", "--timestamp None does nothing without a file"),
        ("train.Train", "--every 9", "--every 9 does nothing where no state is kept: name a folder with --keep"),
        ("train.Train", "--official --data . --folds 3", "--folds 3 does nothing with --official"),
        ("train.Train", "--official --data . --split-seed 3", "--split-seed 3 does nothing with --official"),
        ("fold_in_timing.FoldIn", "--sweeps 300", "--sweeps 300 does nothing without Gibbs sampling"),
        ("fold_in_timing.FoldIn", "--draws 9 --method sgd", "--draws 9 does nothing without Gibbs"),
        ("fold_in_timing.FoldIn", "--repeats 0", "--repeats must be 1 or more, got 0"),
        ("benchmark.Benchmark", "--no-cache", "--no-cache does nothing here, where every system compiles"),
        ("benchmark.Benchmark", "--tensorboard", "--tensorboard does nothing here"),
        ("benchmark.Benchmark", "--no-peers --environment e", "--environment e does nothing without the oth"),
        (
            "benchmark.Benchmark",
            "--only threads --rounds 3",
            "--rounds 3 does nothing for threads, which is measured on",
        ),
        ("results.Results", "--only ratings --benchmark b", "--benchmark b does nothing for the table ratings"),
        ("results.Results", "--only search --pictures p", "--pictures p does nothing for the table search"),
        ("results.Results", "--only search --seeds 2", "--seeds 2 does nothing for the table search"),
        ("results.Results", "--only ratings --movielens-100k m", "--movielens-100k m does nothing for the tab"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(capsys, name, options, message):
    assert message in refusal(capsys, name, *options.split())


def test_films_have_no_options_of_ratings(capsys):
    assert "Unrecognized options: --seed" in refusal(capsys, "weighted_rating.Chart", "--seed", "1")

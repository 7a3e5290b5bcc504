"""Look at the built pages in a browser, wide and narrow: `python scripts/check_pages.py`."""

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urldefrag, urlsplit
from urllib.request import url2pathname

from common import run, say

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page, Playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDE, NARROW = 1300, 400
"""Widths of a laptop's window and a telephone's, in pixels."""

LOOK = """
() => {
  const scrolls = (e) => ['auto', 'scroll'].includes(getComputedStyle(e).overflowX);
  const inside = (e) => { for (let p = e.parentElement; p && p !== document.body; p = p.parentElement)
    if (scrolls(p)) return true; return false; };
  const shown = (e) => e.checkVisibility({visibilityProperty: true, opacityProperty: true});
  const name = (e) => { const classes = [...e.classList].slice(0, 3).map(c => '.' + c).join('');
    const text = (e.getAttribute('src') || e.textContent || '').trim().replace(/\\s+/g, ' ').slice(0, 40);
    return `<${e.localName}${e.id ? '#' + e.id : ''}${classes}> ${text}`.trim(); };
  const all = (selector) => [...document.querySelectorAll(selector)];

  const right = document.documentElement.clientWidth + 1;
  const beyond = (e) => e.getBoundingClientRect().right > right;
  const wide = all('body *').filter(e => shown(e) && beyond(e) && !inside(e) && !beyond(e.parentElement)).map(name);
  const scroll = document.documentElement.scrollWidth;
  if (!wide.length && scroll > right) wide.push(`<html>, ${scroll} pixels`);

  const pictures = 'img, svg, canvas, video, iframe, object, input';
  const sized = (e) => { const box = e.getBoundingClientRect(); return box.width > 1 && box.height > 1; };
  const holds = (e) => e.innerText.trim() || [...e.querySelectorAll(pictures)].some(sized);
  const empty = all('div.cell_output').filter(e => !holds(e));
  const blank = all('img').filter(e => !e.naturalWidth || (shown(e) && !sized(e)));

  const rows = (e) => { const range = document.createRange(); range.selectNodeContents(e);
    return [...range.getClientRects()].filter(box => box.width > 0).map(box => box.top + box.height / 2); };
  const bar = all('header nav li > :is(a, button)').filter(shown).flatMap(rows);

  return {
    wide, empty: empty.map(e => name(e.closest('div.cell') || e)), blank: blank.map(name),
    bar: bar.length ? Math.max(...bar) - Math.min(...bar) : 0,
    names: all('[id], a[name]').map(e => e.id || e.name),
    links: all('a[href]').map(e => [e.href, name(e)]),
  };
}
"""
"""What a page has: elements that reach beyond the window, outputs with nothing in them and images without a size, how
far apart the rows of the bar's links are, in pixels, and its anchors and links."""


class Fault(NamedTuple):
    """What is wrong with a page, at which width in pixels, and where on it."""

    page: str
    width: int
    what: str
    element: str

    def __str__(self) -> str:
        return f"{self.page}  {self.width}  {self.what}: {self.element}"


@dataclasses.dataclass
class Pages:
    """Overflow, broken links, errors of scripts, empty outputs, and a bar of links over two lines."""

    pages: Path = Path("docs/_build/html")
    """Folder of the built pages."""
    require: bool = False
    """Fail where there is no Playwright or no Chromium; else the check is skipped there."""


def browser() -> str | None:
    """The path of a Chromium that answers, if any: some systems have a stub in its place."""
    paths = filter(None, map(shutil.which, BROWSERS))
    return next((path for path in paths if _answers(path)), None)


def _answers(path: str) -> bool:
    return not subprocess.run([path, "--version"], check=False, capture_output=True).returncode


def lacking() -> str | None:
    """What the check needs and has not, if anything."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "Playwright, of the extra `docs`: pip install playwright"
    return None if browser() else f"a Chromium: install one as {' or '.join(BROWSERS)}"


def launched(playwright: "Playwright") -> "Browser":
    """A Chromium, which runs as root too."""
    root = ["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else []
    return playwright.chromium.launch(executable_path=browser(), args=root)


def faults(folder: Path) -> tuple[list[Fault], int]:
    """What is wrong with the HTML files of a folder, each looked at in both widths; and how many they are.

    Raises:
        ValueError: If there are none.
    """
    from playwright.sync_api import sync_playwright

    folder = folder.absolute()
    files = [file for file in sorted(folder.rglob("*.html")) if "_static" not in file.parts]
    if not files:
        raise ValueError(f"{folder} has no pages: build them with `make docs`, or name their folder with --pages")
    found, seen = [], {}
    with sync_playwright() as playwright:
        chromium = launched(playwright)
        for width in (WIDE, NARROW):
            context = chromium.new_context(viewport={"width": width, "height": 900})
            for file in files:
                name = file.relative_to(folder).as_posix()
                seen[file], troubles = looked_at(context, file)
                found += [Fault(name, width, *one) for one in [*troubles, *laid_out(seen[file], width)]]
        chromium.close()
    names = {file: set(page["names"]) for file, page in seen.items()}
    for file, page in seen.items():
        name = file.relative_to(folder).as_posix()
        found += [Fault(name, WIDE, "broken link", one) for one in broken(page["links"], names)]
    return found, len(files)


def looked_at(context: "BrowserContext", file: Path) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """What `LOOK` says of a page, and what failed while it was opened; nothing outside the pages is fetched."""
    page, troubles = context.new_page(), []
    page.route(lambda url: urlsplit(url).scheme in ("http", "https"), lambda route: route.abort())
    page.on("pageerror", lambda error: troubles.append(("a script's error", error.message)))
    page.on("requestfailed", lambda one: troubles.extend(missing(one.url)))
    page.goto(file.as_uri())
    result = settled(page)
    page.close()
    return result, troubles


def missing(url: str) -> Iterator[tuple[str, str]]:
    """The trouble that a file which can't be loaded is, if it is one of the pages' own."""
    if urlsplit(url).scheme == "file":
        yield "a file is missing", url.rpartition("/")[2]


def settled(page: "Page") -> dict[str, Any]:
    """What `LOOK` says once fonts and images are there, those further down too."""
    page.evaluate("""() => Promise.all([document.fonts.ready, ...[...document.images].map(
        (image) => { image.loading = 'eager'; return image.decode().catch(() => null); })]).then(() => null)""")
    return page.evaluate(LOOK)


def laid_out(page: dict[str, Any], width: int) -> Iterator[tuple[str, str]]:
    """What is wrong with how a page is laid out."""
    yield from (("wider than the window", one) for one in page["wide"])
    yield from (("an empty output", one) for one in page["empty"])
    yield from (("an image of no size", one) for one in page["blank"])
    if width == WIDE and page["bar"] > 4:
        yield "the bar of links takes two lines", f"{page['bar']:.0f} pixels apart"


def broken(links: Iterable[tuple[str, str]], names: dict[Path, set[str]]) -> Iterator[str]:
    """The links to files that are not there, and to anchors that their page has not."""
    for url, element in links:
        address, anchor = urldefrag(url)
        if urlsplit(address).scheme != "file":
            continue
        file = Path(url2pathname(urlsplit(address).path))
        if not file.is_file() or (anchor and file in names and unquote(anchor) not in names[file]):
            yield f"{element} → {file.name}{'#' * bool(anchor)}{anchor}"


def main(args: Pages) -> None:
    """Look, and list what is wrong."""
    need = lacking()
    if need is not None:
        if args.require:
            raise ValueError(f"the pages can't be looked at without {need}")
        say(f"SKIPPED: the pages are not looked at in a browser, which needs {need}")
        return
    found, count = faults(args.pages)
    if found:
        sys.exit("\n".join(map(str, dict.fromkeys(found))))
    say(f"{count} pages are as they should be, {WIDE} and {NARROW} pixels wide")


if __name__ == "__main__":
    run(main, Pages)

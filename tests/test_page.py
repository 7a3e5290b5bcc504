"""The page of a server, in Chromium: found, rated and forgotten by keyboard, on a telephone too, in light and dark."""

import contextlib
import os
import re
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import check_pages
import httpx2 as httpx
import numpy as np
import pandas as pd
import pytest
from web import served

import jaxmf
from jaxmf.live import Live
from jaxmf.live.server.keys import Keys, made

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright, of the extra `docs`")
expect = playwright.expect
expect.set_options(timeout=30_000)  # as all else has: programs are compiled meanwhile
LACKING = check_pages.lacking()
pytestmark = pytest.mark.skipif(LACKING is not None, reason=f"needs {LACKING}")

RNG = np.random.default_rng(0)
PAIRS = np.unique(RNG.integers(0, 40 * 30, 700))
FRAME = pd.DataFrame({"user": PAIRS // 30, "item": PAIRS % 30})
TASTE = np.sin(FRAME["user"]) * np.cos(FRAME["item"])
FRAME["rating"] = np.clip(np.round(3 + 2 * TASTE + RNG.normal(0, 0.5, len(PAIRS))), 1, 5)
TITLES = {item: f"Film {chr(97 + item % 26) * 3}{item // 26} ({1980 + item})" for item in range(30)}
ROWS = "#{} .film"

CONTRAST = """
() => {
  const parts = (color) => { const found = color.match(/[\\d.]+/g).map(Number);
    return color.startsWith('color(') ? found.map((one, at) => (at < 3 ? 255 * one : one)) : found; };
  const light = (color) => parts(color).slice(0, 3).map((one) => one / 255)
    .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
    .reduce((sum, one, at) => sum + one * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (e) => { for (; e; e = e.parentElement) { const color = getComputedStyle(e).backgroundColor;
    if ((parts(color)[3] ?? 1) > 0) return color; } return 'rgb(255, 255, 255)'; };
  const own = (e) => [...e.childNodes].some((one) => one.nodeType === 3 && one.textContent.trim());
  return [...document.querySelectorAll('body *')].filter((e) => own(e) && !e.closest('.unseen, .stars, noscript')
    && e.checkVisibility()).map((e) => { const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort();
      return [(b + 0.05) / (a + 0.05), e.className || e.localName, e.textContent.slice(0, 30)]; });
}
"""
"""The contrast of every text that is shown with what is behind it, by WCAG's formula."""


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as running:
        browser = check_pages.launched(running)
        yield browser
        browser.close()


@pytest.fixture
def serve():
    """Serve models until the test's pages are closed, which ask to the last."""
    with contextlib.ExitStack() as until:
        yield lambda live, **settings: f"{until.enter_context(served(live, **settings))}/"


@pytest.fixture
def visit(chromium, serve):  # noqa: ARG001 which ends after it
    """Open a page, of which every request goes to its own server and nothing fails but what is `expected` to."""
    contexts, troubles = [], []

    def opened(url, *, width=1280, height=900, scheme="light", expected=None, **settings):
        viewport = {"width": width, "height": height}
        context = chromium.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce", **settings)
        contexts.append(context)
        page = context.new_page()

        def trouble(said):
            if not (expected and re.search(expected, said)):
                troubles.append(said)

        host = urlsplit(url).netloc
        page.on("request", lambda one: None if urlsplit(one.url).netloc == host else troubles.append(one.url))
        page.on("console", lambda one: trouble(one.text) if one.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: trouble(error.message))
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert troubles == []


@pytest.fixture(scope="module")
def start():
    return jaxmf.Recommender.fit(FRAME, rank=4, epochs=6)


@pytest.fixture
def live(start, tmp_path):
    return Live.create(tmp_path / "model", start)


@pytest.fixture
def url(live, serve):
    return serve(live, titles=TITLES)


def ready(page, rows=10):
    """The page once its list is there, with what is expected of each."""
    page.locator(ROWS.format("list")).nth(rows - 1).locator(".guess b").wait_for()
    return page


def texts(page, selector):
    return page.locator(selector).all_inner_texts()


def user_of(page, kind=int):
    return kind(page.get_by_label("You are user").input_value())


def until_told(page, number=1):
    """Wait for the answers to the last event."""
    expect(page.locator("#rated .film")).to_have_count(number)
    expect(page.locator("main")).not_to_have_attribute("aria-busy", "true")


def test_by_keyboard_a_rating_changes_list_intervals_and_reasons(url, live, visit):
    page = ready(visit(url))
    assert "average user" in page.locator("#best-hint").inner_text()
    assert page.locator("#list details:visible").count() == 0
    before = texts(page, "#list .range")
    page.keyboard.press("/")
    page.keyboard.type("sss")
    expect(page.locator("#found .film")).to_have_count(1)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("5")
    until_told(page)
    user, item = user_of(page), 18
    assert [(one.item, one.rating) for one in live.ratings(user)] == [(item, 5.0)]
    found = live.recommend(user)
    assert texts(page, "#list .head .title") == [TITLES[one.item] for one in found]
    expected = live.predict(user, [one.item for one in found])
    assert texts(page, "#list .guess b") == [f"{one.rating:.1f}" for one in expected]
    once = texts(page, "#list .range")
    assert once != before
    assert set(texts(page, "#list summary .title")) == {TITLES[item]}
    said = page.get_by_role("status").first.inner_text()
    first = re.escape(TITLES[found[0].item])
    assert re.fullmatch(rf"★ 5 for “.*sss0.*”. Learnt in \d+ ms, .* after \d+ ms. First is now “{first}”.", said)

    page.keyboard.press("ArrowLeft")  # from five stars to four, where the focus still is
    page.keyboard.press("ArrowLeft")  # and to three, before four were told
    expect(page.locator("#news")).to_contain_text("★ 3 for")
    assert live.ratings(user)[0].rating == 3
    assert texts(page, "#list .range") != once
    page.keyboard.press("Delete")
    until_told(page, 0)
    assert live.ratings(user) == []
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "search"


def test_what_is_rated_in_the_list_leaves_it_and_the_focus_goes_on(url, live, visit):
    page = ready(visit(url))
    first, second = texts(page, "#list .head .title")[:2]
    page.get_by_role("list", name="Recommendations").get_by_role("radio", name="1 of 5").first.focus()
    page.keyboard.press("1")
    until_told(page)
    assert first not in texts(page, "#list .head .title")
    assert page.evaluate("document.activeElement.closest('#list .film') !== null")
    page.get_by_role("group", name=f"Rate {second}").first.get_by_role("radio", name="5 of 5").click()
    until_told(page, 2)
    assert {one.rating for one in live.ratings(user_of(page))} == {1.0, 5.0}
    page.locator("#list summary").first.click()
    reasons = page.locator("#list details").first.locator("li").all_inner_texts()
    contributions = [one.contribution for one in live.explain(user_of(page), live.recommend(user_of(page))[0].item)]
    shown = [f"{one:+.2f}" for at, one in enumerate(contributions) if not at or abs(one) >= 0.005]
    assert [one.split()[0].replace("−", "-") for one in reasons] == shown
    page.get_by_role("button", name=f"Remove the rating of {first}").click()
    until_told(page, 1)
    assert texts(page, "#rated .title") == [second]


def test_whoever_is_forgotten_is_somebody_new(url, live, visit):
    page = ready(visit(url))
    page.locator("#found .stars").first.get_by_role("radio", name="4 of 5").click()
    until_told(page)
    user = user_of(page)
    assert user in set(live.snapshot().users.index)
    page.reload()
    until_told(page)  # the tab remembers who it is, and the server what they rated
    page.get_by_role("button", name="Forget me").click()
    page.get_by_text("You are forgotten").wait_for()
    until_told(page, 0)
    assert user not in set(live.snapshot().users.index)
    assert user_of(page) != user


def test_somebody_who_is_known_is_met_and_not_forgotten_by_mistake(url, live, visit):
    page = ready(visit(url))
    page.get_by_label("You are user").fill("3")
    page.keyboard.press("Enter")
    until_told(page, len(live.ratings(3)))
    asked = []
    page.on("dialog", lambda dialog: asked.append(dialog.message) or dialog.dismiss())
    page.get_by_role("button", name="Forget me").click()
    page.wait_for_timeout(100)
    assert asked[0].startswith("Forget user 3, whom this page did not make?")
    assert live.ratings(3)
    page.get_by_label("You are user").fill("ann")
    page.keyboard.press("Enter")
    assert "whole numbers" in page.get_by_role("alert").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_telephone_nothing_is_too_wide_and_all_can_be_read(url, visit, scheme):
    page = ready(visit(url, width=360, height=740, scheme=scheme, has_touch=True))
    page.locator("#found .stars").first.get_by_role("radio", name="5 of 5").tap()
    until_told(page)
    page.locator("#list summary").first.tap()
    look = page.evaluate(check_pages.LOOK)
    assert (look["wide"], look["blank"]) == ([], [])
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) < 200) == (scheme == "dark")
    found = page.evaluate(CONTRAST)
    assert len(found) > 60
    assert [one for one in found if one[0] < 4.5] == []
    small = "[...document.querySelectorAll('button, .stars label, summary')].filter((e) => e.checkVisibility())"
    assert page.evaluate(f"Math.min(...{small}.map((e) => e.getBoundingClientRect().height))") >= 24


def test_the_stream_is_shown_as_it_goes(url, live, visit):
    page = ready(visit(url))
    ratings = page.locator("#ratings").inner_text()
    assert ratings == str(len(FRAME))
    assert page.locator("#last").inner_text() == "–"
    asked = page.request.post(
        f"{url}events",
        data=[{"id": f"e{at}", "kind": "rating", "user": 7, "item": at, "rating": 4.0} for at in range(30)],
    )
    assert asked.ok
    expect(page.locator("#ratings")).not_to_have_text(ratings)
    assert page.locator("#last").inner_text() == f"{live.drift.last:.3f}"
    expect(page.locator("#events")).not_to_have_text("0")
    assert re.fullmatch(r"[\d.]+ ms", page.locator("#median").inner_text())
    page.locator("#events-line svg").wait_for()


def test_without_its_server_it_says_so_until_that_is_back(url, visit):
    page = ready(visit(url, expected="ERR_FAILED"))
    page.route("**/state", lambda route: route.abort())
    page.get_by_text("The server can't be reached.").wait_for()
    page.unroute("**/state")
    page.get_by_text("The server can't be reached.").wait_for(state="hidden")


def test_a_server_with_keys_asks_for_one(live, serve, visit):
    key, line = made("ann", ["read", "write"])
    url = serve(live, titles=TITLES, keys=Keys([line]))
    page = visit(url, expected="401")
    field = page.get_by_label("This server asks for a key")
    field.wait_for()
    field.fill("a guess")
    page.keyboard.press("Enter")
    page.get_by_text("This key is not known.").wait_for()
    field.fill(key)
    page.keyboard.press("Enter")
    ready(page)
    assert not field.is_visible()
    page.locator("#found .stars").first.get_by_role("radio", name="2 of 5").click()
    until_told(page)
    assert key not in page.evaluate("JSON.stringify(localStorage) + document.cookie + location.href")


def test_of_clicks_one_likes(tmp_path, serve, visit):
    live = Live.create(tmp_path / "model", jaxmf.Recommender.fit(FRAME.drop(columns="rating"), rating=None, rank=4))
    url = serve(live, titles=TITLES)
    page = ready(visit(url))
    liked = page.locator("#found .film").first
    liked.get_by_role("button", name="I like").click()
    until_told(page)
    user = user_of(page)
    assert [one.weight for one in live.ratings(user)] == [1.0]
    assert texts(page, "#list .range:visible") == []
    expected = live.predict(user, [one.item for one in live.recommend(user)])
    assert texts(page, "#list .guess b") == [f"{one.rating:.2f}" for one in expected]
    assert "Because you liked" in page.locator("#list summary").first.inner_text()
    liked.get_by_role("button", name="I like", pressed=True).click()
    until_told(page, 0)
    assert live.ratings(user) == []


@pytest.mark.parametrize("items", ["texts", "large"])
def test_without_titles_items_go_by_their_ids(tmp_path, serve, visit, items):
    """Texts that need quotes in a path, and numbers that JavaScript would round; a posterior gives no reasons."""
    names = {item: f"a/{item}?&" if items == "texts" else 2**62 + item for item in range(30)}
    method = {"method": "gibbs", "epochs": 12} if items == "large" else {"epochs": 6}
    frame = FRAME.assign(item=FRAME["item"].map(names), user=FRAME["user"].map("u/{}".format))
    live = Live.create(tmp_path / "model", jaxmf.Recommender.fit(frame, rank=4, **method))
    url = serve(live)
    page = ready(visit(url))
    page.get_by_label("Search").fill(str(names[12]))
    expect(page.locator("#found .film")).to_have_count(1)
    page.locator("#found .stars").get_by_role("radio", name="5 of 5").click()
    until_told(page)
    user = user_of(page, str)
    assert [(one.item, one.rating) for one in live.ratings(user)] == [(names[12], 5.0)]
    assert texts(page, "#list .head .title") == [str(one.item) for one in live.recommend(user)]
    assert page.locator("#list details:visible").count() == (10 if items == "texts" else 0)


@pytest.mark.parametrize(("scale", "inputs"), [((0, 1), "radio"), ((-10, 10), "number"), ((0.5, 5), "radio")])
def test_a_scale_has_stars_where_they_are_few(tmp_path, serve, visit, scale, inputs):
    low, high = scale
    values = low + (FRAME["rating"] - 1) / 4 * (high - low)
    live = Live.create(tmp_path / "model", jaxmf.Recommender.fit(FRAME.assign(rating=values), rank=4, epochs=6))
    url = serve(live, titles=TITLES)
    page = ready(visit(url))
    first = page.locator("#found .film").first
    if inputs == "number":
        first.get_by_role("spinbutton").fill("-3.5")
        page.keyboard.press("Enter")
    else:
        first.get_by_role("radio").last.click()
    until_told(page)
    assert live.ratings(user_of(page))[0].rating == (-3.5 if inputs == "number" else high)


SCREENSHOTS = os.environ.get("JAXMF_SCREENSHOT")


@contextlib.contextmanager
def streaming(url, events, seconds=0.04):
    """While others rate as well, one after the other."""
    ended = threading.Event()

    def tell():
        with httpx.Client(timeout=60) as client:
            for event in events:
                client.post(f"{url}events", json=[event])
                if ended.wait(seconds):
                    return

    thread = threading.Thread(target=tell)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.skipif(not SCREENSHOTS, reason="pictures are made where JAXMF_SCREENSHOT names their folder")
def test_the_pictures_of_the_documentation(tmp_path, serve, visit):
    """Of the embedded films, while the last tenth of the ratings comes in: wide and light, narrow and dark."""
    frame = jaxmf.datasets.movielens_small_frame().sort_values("timestamp", kind="stable")
    titles = frame.drop_duplicates("movieId").set_index("movieId")["title"].to_dict()
    known, rest = frame[: len(frame) * 9 // 10], frame[len(frame) * 9 // 10 :]
    rec = jaxmf.Recommender.fit(known, user="userId", item="movieId", rating="rating", rank=32)
    live = Live.create(tmp_path / "model", rec)
    live.warm()
    columns = rest[["userId", "movieId", "rating"]].set_axis(["user", "item", "rating"], axis=1)
    events = [{"id": f"e{at}", "kind": "rating"} | row for at, row in enumerate(columns.to_dict("records"))]
    liked = [("star wars", 5), ("princess bride", 5), ("alien", 4), ("titanic", 2), ("matrix", 4)]
    url = serve(live, titles=titles)
    with streaming(url, events):
        time.sleep(80)  # until the last minute has no first event, which takes longer
        for name, scheme, width, height in (("page_light", "light", 1280, 900), ("page_dark", "dark", 360, 780)):
            page = ready(visit(url, scheme=scheme, width=width, height=height, device_scale_factor=1.25))
            for told, (text, stars) in enumerate(liked, 1):
                page.get_by_label("Search").fill(text)
                expect(page.locator("#found .title").first).to_contain_text(text.split()[0], ignore_case=True)
                page.locator("#found .film").first.get_by_role("radio", name=f"{stars} of 5").click()
                until_told(page, told)
            page.locator("#list summary").first.click()
            page.wait_for_timeout(20_000 if width > 400 else 0)  # until the stream has a line
            page.evaluate("scrollTo(0, innerWidth < 400 ? document.querySelector('#best').offsetTop - 100 : 0)")
            page.mouse.move(0, 0)
            page.screenshot(path=Path(SCREENSHOTS or "") / f"{name}.png")

// The page: who you are, what you rated, and what the model makes of it, which is asked anew after every event.

import { KeyError, ask, idOf, path, random, textOf, use } from "./ask.js";
import { $, List, film, given, line, short, steps, target } from "./parts.js";

const FOUND = 6, BEST = 10, RATED = 30, REASONS = 4, POLL = 2000, POINTS = 90, TYPING = 150;

const titles = new Map(), lines = { events: [], error: [] };
let about = null, user = null, ratings = [], best = [], found = [], known = { predictions: new Map(), reasons: new Map() };
let changes = new Map(), searched = 0, refreshed = 0, foreseen = 0, sending = Promise.resolve(), typing = null, begun = false;

const of = (removable) => (listed) => film(listed, about, {
  removable, rate: (rating) => tell(listed.item, rating), remove: () => tell(listed.item, null) });
const lists = { found: new List($("found"), of(false)), best: new List($("list"), of(false)),
  rated: new List($("rated"), of(true)) };

const say = (text) => { if ($("alert").textContent !== text) $("alert").textContent = text; };
const titled = (item) => titles.get(textOf(item)) ?? { item, title: null, ratings: 0 };
const titleOf = (item) => titled(item).title ?? textOf(item);
const ratingOf = (item) => ratings.find((one) => textOf(one.item) === textOf(item))?.rating;

// Whatever goes wrong is said; without a key one is asked for.
async function trying(work) {
  try {
    await work();
    return true;
  } catch (error) {
    if (error instanceof KeyError) {
      $("unlock").hidden = false;
      $("key").focus();
    }
    say(error.message);
    return false;
  }
}

// The items that a text fits, or those with most ratings.
async function search() {
  const turn = ++searched, asked = new URLSearchParams({ search: $("search").value.trim(), n: FOUND });
  const listed = await ask("GET", `items?${asked}`);
  if (turn !== searched) return;
  for (const one of listed) titles.set(textOf(one.item), one);
  found = listed.map((one) => one.item);
  $("nothing").hidden = Boolean(found.length);
  await foresee();
}

// The user's ratings and list, and then all that is said of both.
async function refresh() {
  const turn = ++refreshed, before = best.map(textOf), who = path("users", user);
  const [mine, list] = await Promise.all([ask("GET", `${who}/ratings`), ask("GET", `${who}/recommendations?n=${BEST}`)]);
  if (turn !== refreshed) return;
  const at = new Map(mine.map((one) => [textOf(one.item), one])), kept = ratings.filter((one) => at.has(textOf(one.item)));
  const there = new Set(kept.map((one) => textOf(one.item)));
  ratings = [...mine.filter((one) => !there.has(textOf(one.item))).reverse(), ...kept.map((one) => at.get(textOf(one.item)))];
  best = list.map((one) => one.item);
  changes = new Map(best.map((item, place) => [textOf(item), change(before.indexOf(textOf(item)), place)]));
  if (!before.length) changes.clear();
  await foresee();
}

function change(before, now) {
  if (before === now) return null;
  if (before < 0) return { up: true, sign: "new", words: "new to the list" };
  const up = before > now, places = Math.abs(before - now);
  return { up, sign: `${up ? "▲" : "▼"} ${places}`, words: `${places} ${places > 1 ? "places" : "place"} ${up ? "up" : "down"}` };
}

// What is expected of the items shown, and why: the answers of one moment are shown together.
async function foresee() {
  const turn = ++foreseen, items = [...new Map([...best, ...found].map((item) => [textOf(item), item])).values()];
  const explained = about.explains && ratings.length ? best : [];
  const reasons = explained.map((item) => ask("GET", `${path("users", user)}/reasons/${path(item)}`));
  const [predictions, why] = await Promise.all([
    items.length ? ask("POST", "predictions", { user, items }) : [], Promise.all(reasons), name([...items, ...shownRatings()])]);
  const picked = why.map(telling);
  await name(picked.flat().map((one) => one.item));
  if (turn !== foreseen) return;
  known.predictions = new Map(predictions.map((one) => [textOf(one.item), one]));
  known.reasons = new Map(explained.map((item, at) => [textOf(item), picked[at].map((one) => ({ ...one, title: titleOf(one.item) }))]));
  show();
}

const shownRatings = () => ratings.slice(0, RATED).map((one) => one.item);

// The reasons that speak most for it, and the one that speaks most against it; but for the first none that is nothing.
function telling(reasons) {
  const something = reasons.filter((one, at) => !at || Math.abs(one.contribution) >= 0.005);
  const against = something.at(-1), some = something.slice(0, REASONS);
  return something.length > REASONS && against.contribution < 0 ? [...some.slice(0, -1), against] : some;
}

// Titles of items that have not come up yet.
async function name(items) {
  const lacking = [...new Map(items.filter((item) => !titles.has(textOf(item))).map((item) => [textOf(item), item])).values()];
  for (let at = 0; at < lacking.length; at += 100) {
    const listed = await ask("POST", "titles", { items: lacking.slice(at, at + 100) });
    for (const one of listed) titles.set(textOf(one.item), one);
  }
}

function show() {
  const row = (item) => ({ listed: titled(item), rating: ratingOf(item), prediction: known.predictions.get(textOf(item)) });
  lists.found.show(found.map(row));
  lists.best.show(best.map((item) => (
    { ...row(item), reasons: known.reasons.get(textOf(item)), change: changes.get(textOf(item)) })));
  lists.rated.show(shownRatings().map((item) => ({ listed: titled(item), rating: ratingOf(item) })));
  $("none").hidden = Boolean(ratings.length);
  $("more").hidden = ratings.length <= RATED;
  $("more").textContent = `And ${ratings.length - RATED} more.`;
  $("best-hint").textContent = !ratings.length ? "What the average user would like best: nothing is known of you yet."
    : about.clicked ? "What you may like best." : "The rating that is expected of you, and what 90 % of such ratings lie within.";
}

// Tell of a rating, or of the removal of one, and ask for all that follows from it.
function tell(item, rating) {
  $("main").ariaBusy = "true";
  const told = () => trying(async () => {
    if (rating === null && ratingOf(item) === undefined) return;
    const kind = rating === null ? "removal" : about.clicked ? "click" : "rating";
    const event = { id: `page-${random()}`, kind, user, item, ...(kind === "rating" && { rating }) };
    const began = performance.now(), [ack] = await ask("POST", "events", [event]), learnt = performance.now();
    if (ack.status === "refused") say(`Refused: ${ack.reason}.`);
    else say("");
    await refresh();
    if (ack.status !== "refused") {
      const what = rating === null ? "Taken back: " : `${given(about, rating)} for `, first = best[0];
      $("news").textContent = `${what}“${titleOf(item)}”. Learnt in ${(learnt - began).toFixed(0)} ms, all answers new after `
        + `${(performance.now() - began).toFixed(0)} ms.${first === undefined ? "" : ` First is now “${titleOf(first)}”.`}`;
    }
    await poll();
  });
  sending = sending.then(told).then((well) => {
    if (!well) show(); // as it is, and not as it was chosen
    $("main").ariaBusy = "false";
  });
}

// The model and its stream just now.
async function poll() {
  const { model, stream } = await ask("GET", "state"), number = new Intl.NumberFormat("en");
  about = model;
  const ms = (value) => (value === null ? "–" : `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ms`);
  const error = (value) => (value === null ? "–" : value.toFixed(3));
  const rate = stream.events_a_second;
  const shown = { events: rate && rate < 10 ? rate.toFixed(2) : number.format(Math.round(rate)), median: ms(stream.median_ms),
    p99: ms(stream.p99_ms), last: error(stream.rmse_last), first: error(stream.rmse_first),
    waiting: number.format(stream.waiting), users: number.format(model.users), items: number.format(model.items),
    ratings: number.format(model.ratings), batches: number.format(model.batches) };
  for (const [id, text] of Object.entries(shown)) $(id).textContent = text;
  $("ratings-name").textContent = model.clicked ? "Pairs clicked" : "Ratings";
  for (const [node, values, value] of [["events-line", lines.events, rate], ["error-line", lines.error, stream.rmse_last]]) {
    values.push(value);
    if (values.length > POINTS) values.shift();
    line($(node), values);
  }
}

function become(id) {
  user = id;
  sessionStorage.setItem("user", textOf(id));
  $("user").value = textOf(id);
  [ratings, best] = [[], []];
  refreshed++; // what is on its way is another's
  foreseen++;
  for (const list of Object.values(lists)) list.clear();
}

// Somebody new, of whom nothing is known.
function stranger() {
  const digits = random().slice(0, 10);
  const id = about.user_ids === "int" ? 10 ** 11 + Number.parseInt(digits, 16) : `visitor-${digits}`;
  sessionStorage.setItem("own", id);
  return id;
}

async function begin() {
  await poll();
  const values = about.clicked ? [] : steps(about), kept = sessionStorage.getItem("user");
  $("keys").textContent = values.length ? `Tab to a title, then ${values[0]}–${Math.min(9, values.at(-1))} rates it and Delete takes that back; Esc returns here.`
    : "Tab to a title to rate it; Delete takes that back, Esc returns here.";
  become((kept && idOf(kept, about.user_ids)) ?? stranger());
  await Promise.all([search(), refresh()]);
  begun = true;
}

async function again() {
  if (!document.hidden && $("unlock").hidden) {
    const well = await trying(begun ? poll : begin);
    if (well && $("alert").textContent === "The server can't be reached.") say("");
  }
  setTimeout(again, POLL);
}

$("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => trying(search), TYPING);
});
$("search").addEventListener("keydown", (event) => {
  const first = target($("found").firstElementChild);
  if (event.key !== "ArrowDown" || !first) return;
  event.preventDefault();
  first.focus();
});
document.addEventListener("keydown", (event) => {
  const typed = event.target.matches("input:not([type=radio])");
  if ((event.key === "/" && !typed) || (event.key === "Escape" && event.target.closest(".film"))) {
    event.preventDefault();
    $("search").focus();
  }
});
$("who").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = idOf($("user").value.trim(), about?.user_ids);
  if (id === null || id === "") return say("The ids of users are whole numbers here: name one.");
  say("");
  become(id);
  return trying(() => Promise.all([refresh(), search()]));
});
$("forget").addEventListener("click", () => trying(async () => {
  const own = sessionStorage.getItem("own") === textOf(user);
  if (!own && !confirm(`Forget user ${textOf(user)}, whom this page did not make? All that they ever rated goes.`)) return;
  await sending;
  await ask("DELETE", path("users", user));
  become(stranger());
  await Promise.all([refresh(), search()]);
  $("news").textContent = "You are forgotten: nothing of you is kept, in no file. You are somebody new.";
  await poll();
}));
$("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  use($("key").value);
  $("unlock").hidden = true;
  say("");
  trying(begin);
});
document.addEventListener("visibilitychange", () => { if (!document.hidden && begun) trying(poll); });
again();

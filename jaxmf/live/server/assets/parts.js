// What the page is made of. Whatever the server sends becomes text, never markup.

import { textOf } from "./ask.js";

const SVG = "http://www.w3.org/2000/svg";
const PATIENCE = 450; // milliseconds after an arrow key, of which the last of several counts

export const $ = (id) => document.getElementById(id);

export function make(tag, settings = {}, ...children) {
  const node = Object.assign(document.createElement(tag), settings);
  node.append(...children);
  return node;
}

const unseen = (text) => make("span", { className: "unseen" }, text);
export const short = (number) => String(Math.round(number * 10) / 10);
const signed = (number) => `${number < 0 ? "−" : "+"}${Math.abs(number).toFixed(2)}`;
export const given = (about, rating) => (about.clicked ? "♥" : `★ ${short(rating)}`);

// The whole numbers of a scale, where they are few enough for a star each.
export function steps({ low, high }) {
  const first = Math.ceil(low), count = Math.floor(high) - first + 1;
  return count >= 2 && count <= 10 ? Array.from({ length: count }, (_, at) => first + at) : [];
}

let groups = 0;

function stars(title, values, rate) {
  const name = `stars-${groups++}`, legend = make("legend", { className: "unseen" }, `Rate ${title}`);
  const inputs = values.map((value) => make("input", { type: "radio", name, value }));
  const labels = inputs.map((input, at) =>
    make("label", {}, input, make("span", { ariaHidden: "true" }, "★"), unseen(`${values[at]} of ${values.at(-1)}`)));
  const node = make("fieldset", { className: "stars" }, legend, ...labels);
  let pointed = false, waiting = null;
  const paint = (rating) => labels.forEach((label, at) => {
    label.classList.toggle("on", rating >= values[at]);
    label.classList.toggle("half", rating < values[at] && rating >= values[at] - 0.5);
  });
  const set = (rating) => {
    if (waiting !== null) return; // a choice that is not told yet
    inputs.forEach((input, at) => { input.checked = values[at] === rating; });
    paint(rating);
  };
  const choose = (rating, patience) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { waiting = null; rate(rating); }, patience);
    paint(rating);
  };
  node.addEventListener("pointerdown", () => { pointed = true; });
  node.addEventListener("keydown", (event) => {
    pointed = false;
    const at = event.ctrlKey || event.metaKey || event.altKey ? -1 : values.findIndex((value) => String(value) === event.key);
    if (at < 0) return;
    event.preventDefault();
    inputs[at].checked = true;
    inputs[at].focus();
    choose(values[at], 0);
  });
  node.addEventListener("change", (event) => choose(Number(event.target.value), pointed ? 0 : PATIENCE));
  return { node, set };
}

function number(title, { low, high }, rate) {
  const input = make("input", { type: "number", min: low, max: high, step: "any", className: "number" });
  input.addEventListener("change", () => { if (input.value !== "" && input.checkValidity()) rate(input.valueAsNumber); });
  const node = make("label", {}, unseen(`Rate ${title}, `), `${short(low)} to ${short(high)} `, input);
  return { node, set: (rating) => { if (document.activeElement !== input) input.value = rating ?? ""; } };
}

function like(title, rate, remove) {
  const node = make("button", { type: "button", className: "like" }, "♥ ", unseen(`I like ${title}`));
  node.addEventListener("click", () => (node.ariaPressed === "true" ? remove() : rate(1)));
  return { node, set: (rating) => { node.ariaPressed = String(rating > 0); } };
}

// An item, how to rate it, what is expected of it and why: `show` takes what is known of it now.
export function film(listed, about, { rate, remove, removable = false }) {
  const title = listed.title ?? textOf(listed.item), values = about.clicked ? [] : steps(about);
  const control = about.clicked ? like(title, rate, remove)
    : values.length ? stars(title, values, rate) : number(title, about, rate);
  const moved = make("span", { className: "moved" }), guess = expectation(about);
  const why = make("details", { hidden: true }), node = make("li", { className: "film" },
    make("div", { className: "head" }, make("span", { className: "title" }, title), moved), control.node, guess.node, why);
  if (removable) {
    const button = make("button", { type: "button", className: "remove" }, "×", unseen(` Remove the rating of ${title}`));
    button.addEventListener("click", remove);
    node.append(button);
  }
  node.dataset.item = textOf(listed.item);
  node.addEventListener("keydown", (event) => {
    if (event.target.type === "number" || !["Delete", "Backspace"].includes(event.key)) return;
    event.preventDefault();
    remove();
  });
  const show = ({ rating, prediction, reasons, change }) => {
    control.set(rating);
    moved.classList.toggle("up", Boolean(change?.up));
    moved.replaceChildren(...change ? [make("span", { ariaHidden: "true" }, change.sign), unseen(change.words)] : []);
    guess.show(prediction);
    reason(why, reasons ?? [], about);
  };
  return { node, show };
}

// The rating that is expected, and what 90 % of such ratings lie within, as far as the scale goes.
function expectation(about) {
  const [least, most] = about.clicked ? [0, 1] : [about.low, about.high], span = most - least || 1;
  const on = (value) => Math.min(most, Math.max(least, value)), part = (value) => `${100 * value / span}%`;
  const number = make("b"), range = make("span", { className: "range" });
  const band = make("i", { className: "band" }), dot = make("i", { className: "dot" });
  const sure = make("span", {}, unseen(", 90 % of such ratings from "), range);
  const node = make("div", { className: "guess", hidden: true },
    unseen("Expected "), number, make("span", { className: "bar", ariaHidden: "true" }, band, dot), sure);
  const show = (prediction) => {
    node.hidden = !prediction;
    if (!prediction) return;
    const { rating, low, high } = prediction;
    number.textContent = rating.toFixed(about.clicked ? 2 : 1);
    dot.style.left = part(on(rating) - least);
    band.hidden = sure.hidden = low === null;
    if (low === null) return;
    range.textContent = `${on(low).toFixed(1)}–${on(high).toFixed(1)}`;
    band.style.left = part(on(low) - least);
    band.style.width = part(on(high) - on(low));
  };
  return { node, show };
}

// The ratings that speak most for an item, and the one that speaks most against it.
function reason(node, reasons, about) {
  node.hidden = !reasons.length;
  if (node.hidden) return;
  const told = about.clicked ? "liked" : "rated", [first] = reasons;
  const stars = about.clicked ? "" : ` ${given(about, first.rating)}`;
  node.replaceChildren(
    make("summary", {}, first.contribution > 0 ? `Because you ${told} ` : `Despite that you ${told} `,
      make("span", { className: "title" }, first.title), stars),
    make("ul", {}, ...reasons.map((one) => make("li", { className: one.contribution < 0 ? "against" : "for" },
      make("b", {}, signed(one.contribution)), " ", make("span", {}, one.title), ` ${given(about, one.rating)}`))));
}

// A list that keeps what stays, with the focus in it where it was, or at what took its place.
export class List {
  constructor(node, of) { Object.assign(this, { node, of, parts: new Map() }); }

  clear() { this.parts.clear(); this.node.replaceChildren(); }

  show(rows) {
    const focused = document.activeElement, held = focused?.closest("li.film"), inside = held?.parentNode === this.node;
    const place = [...this.node.children].indexOf(held), names = new Set(rows.map((row) => textOf(row.listed.item)));
    for (const [name, part] of this.parts) {
      if (names.has(name)) continue;
      part.node.remove();
      this.parts.delete(name);
    }
    rows.forEach((row, at) => {
      const name = textOf(row.listed.item), part = this.parts.get(name) ?? this.of(row.listed);
      this.parts.set(name, part);
      part.show(row);
      if (this.node.children[at] !== part.node) this.node.insertBefore(part.node, this.node.children[at] ?? null);
    });
    if (!inside || document.activeElement === focused) return;
    const next = focused.isConnected ? focused : target(this.node.children[Math.min(place, rows.length - 1)]);
    (next ?? $("search")).focus({ preventScroll: true });
  }
}

// Where the focus goes in an item: to its chosen star, else its first.
export const target = (node) => node?.querySelector("input:checked") ?? node?.querySelector("input, button");

export function line(node, values) {
  const known = values.filter((value) => value !== null), svg = document.createElementNS(SVG, "svg");
  if (known.length < 2) return node.replaceChildren();
  const least = Math.min(...known), span = Math.max(...known) - least;
  const points = known.map((value, at) =>
    `${(100 * at / (known.length - 1)).toFixed(1)},${(span ? 22 - 20 * (value - least) / span : 12).toFixed(1)}`);
  const path = document.createElementNS(SVG, "polyline");
  path.setAttribute("points", points.join(" "));
  svg.setAttribute("viewBox", "0 0 100 24");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  svg.append(path);
  return node.replaceChildren(svg);
}

// The server's routes, asked with the key that this tab has, if any.

let key = sessionStorage.getItem("key");

// Ids of 64 bits, which JavaScript's numbers would round, stay as they are written.
const read = (text) => JSON.parse(text, (_, value, context) =>
  Number.isInteger(value) && !Number.isSafeInteger(value) && JSON.rawJSON ? JSON.rawJSON(context.source) : value);

export const textOf = (id) => id?.rawJSON ?? String(id);

// What a text that somebody typed names, where ids are of a kind.
export function idOf(text, kind) {
  if (kind !== "int") return text;
  if (!/^-?\d{1,19}$/.test(text)) return null;
  const number = Number(text);
  return Number.isSafeInteger(number) || !JSON.rawJSON ? number : JSON.rawJSON(String(BigInt(text)));
}

export const random = () =>
  [...crypto.getRandomValues(new Uint8Array(16))].map((one) => one.toString(16).padStart(2, "0")).join("");

export class KeyError extends Error {}

export function use(given) {
  key = given;
  sessionStorage.setItem("key", given);
}

export async function ask(method, path, body) {
  const headers = key ? { authorization: `Bearer ${key}` } : {};
  if (body) headers["content-type"] = "application/json";
  const settings = { method, headers, body: body && JSON.stringify(body), cache: "no-store", credentials: "omit" };
  let answer;
  try {
    answer = await fetch(path, settings);
  } catch {
    throw new Error("The server can't be reached.");
  }
  const found = read((await answer.text()) || "null");
  if (answer.status === 401) throw new KeyError(key ? "This key is not known." : "");
  if (!answer.ok) throw new Error(`${found?.detail ?? `The server answered ${answer.status}`}.`);
  return found;
}

export const path = (...parts) => parts.map((part) => encodeURIComponent(textOf(part))).join("/");

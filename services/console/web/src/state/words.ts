/** What people read for the names of the interface. */

const WORDS: { [part: string]: string } = { max: "maximum", llm: "LLM", ffn: "FFN" };
const UNITS = ["s", "ms"];

/** A name in words, with its unit: `max_calls` is "maximum calls", `timeout_s` "timeout (s)". */
export function worded(name: string): string {
  const parts = name.split("_");
  return parts.map((part, place) => (place > 0 && place === parts.length - 1 && UNITS.includes(part) ? `(${part})` : (WORDS[part] ?? part))).join(" ");
}

/** A dotted path in words, with places counted from 1: `agents.0.brain` is "agents › 1 › brain". */
export function wordedPath(path: string): string {
  return path
    .split(".")
    .map((part) => (/^\d+$/.test(part) ? String(Number(part) + 1) : worded(part)))
    .join(" › ");
}

/** As a line begins. */
export function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

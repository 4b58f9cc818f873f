/** What belongs to this visit: the key, the theme, whether shortcuts are on. */

import { Value } from "./value";

const KEY = "steerline.key";
const THEME = "steerline.theme";
const SHORTCUTS = "steerline.shortcuts";

/** The API key; it lives as long as the tab, and only there. */
export const key = new Value<string>(sessionStorage.getItem(KEY) ?? "");
const NO_KEY = "none";
/** Why a key is asked for; null while the endpoint is content. */
export const keyWanted = new Value<string | null>(key.now ? null : "Calls of this endpoint carry a key. Enter yours to begin.");

/** Waits for a key in place of one that was refused.
 * @returns whether there is one; not where the refused one is forgotten instead. */
export async function keyInsteadOf(refused: string, why: string): Promise<boolean> {
  if (key.now !== refused) return key.now !== ""; // It was entered, or forgotten, while the call was on its way.
  keyWanted.set(why);
  await new Promise<void>((resume) => {
    const unfollow = keyWanted.follow(() => {
      if (keyWanted.now !== null && key.now) return;
      unfollow();
      resume();
    });
  });
  return key.now !== "";
}

export function useKey(text: string): void {
  sessionStorage.setItem(KEY, text);
  key.set(text);
  keyWanted.set(null);
}

/** Goes on as nobody, at an endpoint that asks for no key. */
export function goWithoutKey(): void {
  useKey(NO_KEY);
}

export function forgetKey(): void {
  sessionStorage.removeItem(KEY);
  key.set("");
  keyWanted.set("The key is forgotten. Enter one to go on.");
}

export type Theme = "auto" | "light" | "dark";
export const theme = new Value<Theme>((document.documentElement.dataset.theme as Theme | undefined) ?? "auto");

export function chooseTheme(next: Theme): void {
  if (next === "auto") {
    localStorage.removeItem(THEME);
    delete document.documentElement.dataset.theme;
  } else {
    localStorage.setItem(THEME, next);
    document.documentElement.dataset.theme = next;
  }
  theme.set(next);
}

export const shortcutsOn = new Value<boolean>(localStorage.getItem(SHORTCUTS) !== "off");

export function switchShortcuts(on: boolean): void {
  localStorage.setItem(SHORTCUTS, on ? "on" : "off");
  shortcutsOn.set(on);
}

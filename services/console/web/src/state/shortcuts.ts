/** Keys that do something wherever the focus is, but in fields. They can be switched off. */

import { useLayoutEffect } from "preact/hooks";

import { shortcutsOn } from "./session";

export function useShortcuts(keys: Record<string, () => void>): void {
  // With the page and not a frame after it: a key that is pressed as soon as something is seen must not be lost.
  useLayoutEffect(() => {
    const press = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement;
      const typing = target.closest("input:not([type=range]):not([type=checkbox]):not([type=radio]), textarea, select");
      if (event.ctrlKey || event.metaKey || event.altKey || !shortcutsOn.now || typing) return;
      if (document.querySelector("dialog[open]")) return;
      const act = keys[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  });
}

/** What the dialog tells. */
export const SHORTCUTS: [key: string, what: string][] = [
  ["l", "List of simulations"],
  ["x", "List of experiments"],
  ["n", "New simulation"],
  ["d", "Compare two"],
  ["c", "Chat"],
  ["p", "Pause or resume what is watched"],
  ["s", "Play one tick"],
  ["f", "Fork at the tick that is looked at"],
  ["[", "One tick back"],
  ["]", "One tick on"],
  ["e", "Follow the newest tick"],
  ["t", "Light, dark or the system's theme"],
  ["?", "This list"],
];

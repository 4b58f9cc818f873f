/** What the endpoint refuses in a form, each at the field that is meant. */

import { ApiFailure } from "../api/http";
import type { Json } from "../api/types";
import type { Draft } from "./draft";

export interface Wrong {
  /** Dotted path of the field, e.g. `agents.0.memory`; empty where all of it is meant. */
  path: string;
  text: string;
}

/** A draft that was refused, and how. */
export interface Refusal {
  error: unknown;
  draft: Draft;
}

/** What is still as it was when it was refused. */
export function standing({ error, draft }: Refusal, now: Draft): Wrong[] {
  if (!(error instanceof ApiFailure)) return [];
  const wrongs = error.problems.map(({ path, message }): Wrong => ({ path: path.replace(/^simulation\./, ""), text: message }));
  return wrongs.filter(({ path }) => at(draft, path) === at(now, path));
}

/** Those at a path, or below it. */
export function within(wrongs: readonly Wrong[], path: string): Wrong[] {
  return wrongs.filter((one) => one.path === path || one.path.startsWith(`${path}.`));
}

/** In one text; undefined where there are none. */
export function told(wrongs: readonly Wrong[]): string | undefined {
  return wrongs.map((one) => one.text).join(" ") || undefined;
}

/** What stands at a path; drafts are never changed in place, so that the same object has the same in it. */
function at({ spec, plan }: Draft, path: string): unknown {
  if (/^(grid|seeds)\b/.test(path)) return plan;
  const step = (value: Json | undefined, name: string) => (value === null || value === undefined ? undefined : (value as { [name: string]: Json })[name]);
  return path ? path.split(".").reduce<Json | undefined>(step, spec as Json) : spec;
}

/** Where two histories part. */

import type { Event } from "../api/types";

export interface Difference {
  /** Events that are the same in both. */
  shared: number;
  one: Event | null;
  other: Event | null;
}

/** The first event that is not the same in both; the first of all, which names the spec, is left out. */
export function firstDifference(one: readonly Event[], other: readonly Event[]): Difference | null {
  const [mine, yours] = [happened(one), happened(other)];
  const most = Math.max(mine.length, yours.length);
  for (let place = 0; place < most; place += 1) {
    const [a, b] = [mine[place] ?? null, yours[place] ?? null];
    if (!a || !b || content(a) !== content(b)) return { shared: place, one: a, other: b };
  }
  return null;
}

function happened(events: readonly Event[]): Event[] {
  return events.filter((event) => event.kind !== "sim.created");
}

function content(event: Event): string {
  return JSON.stringify([event.tick, event.phase, event.kind, event.agent, event.payload]);
}

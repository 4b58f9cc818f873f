/** How many simulations of an experiment stand how: a bar, and the same in words. */

import type { States } from "../api/types";

const ORDER = ["ended", "running", "waiting", "queued", "paused", "created", "stopped", "failed"];

export function Progress({ states, of }: { states: States; of: number }) {
  const there = ORDER.filter((status) => states[status]);
  const words = there.map((status) => `${states[status]} ${status}`).join(", ");
  return (
    <div class="progress">
      <div class="states" aria-hidden="true">
        {there.map((status) => (
          <span key={status} class={`is-${status}`} style={{ width: `${(100 * states[status]!) / of}%` }} />
        ))}
      </div>
      <p class="quiet">
        {words || "none yet"} of {of}
      </p>
    </div>
  );
}

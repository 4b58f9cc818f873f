/** Another simulation that shares this one's history up to a tick. */

import { useState } from "preact/hooks";

import * as api from "../api/simulations";
import type { AgentSpec } from "../api/types";
import { Dialog, Field, Problem, Slider, useLoaded, useTask } from "../parts/basics";
import { BrainSelect } from "../parts/brain_select";
import { brainOf } from "../state/draft";
import type { Member } from "../state/history";
import { go } from "../state/router";
import type { Run } from "../state/run";
import { decides, MOST, withStrength } from "../state/steering";
import { useValue } from "../state/value";

/** What becomes of an agent: another brain, where one is named; another strength. */
interface Change {
  brain: string;
  strength: number;
}

/** Beyond it the dialog would be longer than anybody reads. */
const LISTED = 24;

export function ForkDialog({ run, close }: { run: Run; close: () => void }) {
  const { at, detail, history } = useValue(run.seen);
  const [tick, setTick] = useState(String(Math.max(1, at ?? run.ticks)));
  const [name, setName] = useState("");
  const [changes, setChanges] = useState<Record<string, Change>>({});
  const [start, setStart] = useState(true);
  const scenario = useLoaded(() => api.scenario(detail!.scenario), [detail!.scenario]);
  const task = useTask();
  const members = [...(history?.members.values() ?? [])].filter((one) => one.spec && !one.gone);
  const fork = () =>
    void task.run(async () => {
      const agents = members.filter((one) => changes[one.id]).map((one): [string, AgentSpec] => [one.id, changed(one, changes[one.id]!)]);
      const made = await api.fork(run.id, { at: Number(tick), name: name || undefined, agents: Object.fromEntries(agents), start });
      close();
      go(["run", made.id]);
    });
  return (
    <Dialog title="Fork" close={close}>
      <form class="stack fork" onSubmit={(event) => (event.preventDefault(), fork())}>
        <p class="quiet">The new simulation shares this one's history up to a tick and goes its own way from there. This one stays as it is.</p>
        <div class="row">
          <Field label="After tick">
            {(ids) => <input {...ids} type="number" required min={1} max={run.ticks} value={tick} onInput={(event) => setTick(event.currentTarget.value)} />}
          </Field>
          <Field label="Name">
            {(ids) => <input {...ids} type="text" pattern="[A-Za-z0-9][A-Za-z0-9._\-]{0,62}" placeholder={`${detail!.name}-fork-at-${tick}`} value={name} onInput={(event) => setName(event.currentTarget.value)} />}
          </Field>
          <label class="check">
            <input type="checkbox" checked={start} onChange={(event) => setStart(event.currentTarget.checked)} />
            play it at once
          </label>
        </div>
        <h3>What is different from there on</h3>
        <ul class="changes">
          {members.slice(0, LISTED).map((one) => {
            const now = changes[one.id] ?? { brain: "", strength: one.strength ?? 0 };
            const set = (some: Partial<Change>) => setChanges({ ...changes, [one.id]: { ...now, ...some } });
            const model = now.brain ? now.brain.startsWith("model:") : one.strength !== null;
            return (
              <li key={one.id}>
                <span class="who">{one.id}</span>
                <BrainSelect
                  label={`Who decides for ${one.id}`}
                  none={`as it is: ${decides(one.spec?.brain)}`}
                  value={now.brain}
                  policies={scenario.value?.policies ?? []}
                  models={Object.keys(detail?.spec.models ?? {})}
                  change={(brain) => set({ brain })}
                />
                {model && <Slider label={`Steering of ${one.id}`} most={MOST} value={now.strength} change={(strength) => set({ strength })} />}
              </li>
            );
          })}
        </ul>
        {(task.problem || scenario.problem) && <Problem text={task.problem || scenario.problem} />}
        <footer>
          <button type="button" onClick={close}>
            Cancel
          </button>
          <button type="submit" class="main" disabled={task.busy}>
            Fork
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

function changed(member: Member, change: Change): AgentSpec {
  const spec = member.spec!;
  return { ...spec, brain: change.brain ? brainOf(change.brain, change.strength) : withStrength(spec.brain, change.strength) };
}

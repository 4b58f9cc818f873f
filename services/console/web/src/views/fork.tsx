/** Another simulation that shares this one's history up to a tick. */

import { useState } from "preact/hooks";

import * as api from "../api/simulations";
import type { AgentSpec } from "../api/types";
import { Dialog, Field, Problem, Slider, useTask } from "../parts/basics";
import { go } from "../state/router";
import type { Run } from "../state/run";
import { MOST, withStrength } from "../state/steering";
import { useValue } from "../state/value";

export function ForkDialog({ run, close }: { run: Run; close: () => void }) {
  const { at, history } = useValue(run.seen);
  const [tick, setTick] = useState(String(Math.max(1, at ?? run.ticks)));
  const [strengths, setStrengths] = useState<Record<string, number>>({});
  const [text, setText] = useState("");
  const [start, setStart] = useState(true);
  const task = useTask();
  const steerable = [...(history?.members.values() ?? [])].filter((one) => one.strength !== null && one.spec);
  const fork = () =>
    void task.run(async () => {
      const written = text.trim() ? (JSON.parse(text) as Record<string, AgentSpec>) : {};
      const steered = Object.entries(strengths).map(([id, strength]): [string, AgentSpec] => {
        const spec = history!.members.get(id)!.spec!;
        return [id, { ...spec, brain: withStrength(spec.brain, strength) }];
      });
      const made = await api.fork(run.id, { at: Number(tick), agents: { ...Object.fromEntries(steered), ...written }, start });
      close();
      go(["run", made.id]);
    });
  return (
    <Dialog title="Fork" close={close}>
      <form class="stack" onSubmit={(event) => (event.preventDefault(), fork())}>
        <p>The new simulation shares this one's history up to a tick and goes its own way from there. This one stays as it is.</p>
        <div class="row">
          <Field label="After tick">
            {(ids) => <input {...ids} type="number" required min={1} max={run.ticks} value={tick} onInput={(event) => setTick(event.currentTarget.value)} />}
          </Field>
          <label class="check">
            <input type="checkbox" checked={start} onChange={(event) => setStart(event.currentTarget.checked)} />
            play it at once
          </label>
        </div>
        {steerable.map((one) => (
          <Slider
            key={one.id}
            label={`Steering of ${one.id}`}
            most={MOST}
            value={strengths[one.id] ?? one.strength ?? 0}
            change={(strength) => setStrengths({ ...strengths, [one.id]: strength })}
          />
        ))}
        <details>
          <summary>Other agents, as JSON</summary>
          <Field label="Agents by name" help='For example {"ann": {"id": "ann", "brain": {"kind": "scripted", "policy": "free_rider"}}}' wide>
            {(ids) => <textarea {...ids} rows={4} class="code" value={text} onInput={(event) => setText(event.currentTarget.value)} />}
          </Field>
        </details>
        {task.problem && <Problem text={task.problem} />}
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

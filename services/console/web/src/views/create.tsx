/** The form that starts a simulation. */

import { useEffect, useMemo, useState } from "preact/hooks";

import { isPlayed, models } from "../api/chat";
import * as api from "../api/simulations";
import type { Model, Scenario, ScenarioDetail } from "../api/types";
import { Field, Loading, Problem, useLoaded, useTask } from "../parts/basics";
import { Icon } from "../parts/icon";
import { SchemaForm } from "../parts/schema_form";
import { draftOf, MEMORIES, specOf, TOPOLOGIES, type Draft } from "../state/draft";
import { go, place } from "../state/router";
import { useValue } from "../state/value";
import { Seats } from "./seats";

export function Create() {
  const loaded = useLoaded(api.scenarios, []);
  const served = useLoaded(models, []);
  const asked = useValue(place).query.get("scenario");
  const [name, setName] = useState("");
  const chosen = name || asked || "public_goods";
  const scenario = useLoaded(() => api.scenario(chosen), [chosen]);
  useEffect(() => {
    document.title = "New simulation · Steerline";
  }, []);
  const problem = loaded.problem || scenario.problem;
  return (
    <div class="page create">
      <header class="page-head">
        <h1>New simulation</h1>
      </header>
      {problem && <Problem text={problem} again={() => (loaded.again(), scenario.again())} />}
      {!loaded.value && !problem && <Loading rows={10} label="Loading the scenarios" />}
      {loaded.value && <Choose scenarios={loaded.value} chosen={chosen} choose={setName} />}
      {scenario.value && loaded.value && (
        <Form key={scenario.value.name} scenario={scenario.value} models={(served.value ?? []).filter((model) => !isPlayed(model.id))} />
      )}
    </div>
  );
}

function Choose({ scenarios, chosen, choose }: { scenarios: Scenario[]; chosen: string; choose: (name: string) => void }) {
  return (
    <fieldset class="scenarios">
      <legend>Scenario</legend>
      <div class="cards">
        {scenarios.map((one) => (
          <label key={one.name} class="card">
            <input type="radio" name="scenario" value={one.name} checked={one.name === chosen} onChange={() => choose(one.name)} />
            <strong>{one.name.replaceAll("_", " ")}</strong>
            <span>{one.about}</span>
          </label>
        ))}
      </div>
    </fieldset>
  );
}

function Form({ scenario, models: served }: { scenario: ScenarioDetail; models: Model[] }) {
  const [draft, setDraft] = useState<Draft>(() => draftOf(scenario));
  const change = (some: Partial<Draft>) => setDraft((old) => ({ ...old, ...some }));
  const task = useTask();
  const once = useMemo(() => newId(), [draft]);
  const spec = specOf(draft);
  const begin = () =>
    void task.run(async () => {
      const made = await api.create(spec, !draft.paused, once);
      go(["run", made.id]);
    });
  return (
    <form class="settings" onSubmit={(event) => (event.preventDefault(), begin())}>
      <Seats draft={draft} scenario={scenario} models={served} change={change} />
      <fieldset>
        <legend>Rules of {scenario.name.replaceAll("_", " ")}</legend>
        <SchemaForm key={scenario.name} schema={scenario.params} value={draft.params} change={(params) => change({ params })} />
      </fieldset>
      <fieldset>
        <legend>The run</legend>
        <div class="grid">
          <Field label="Who hears whom">
            {(ids) => (
              <select {...ids} value={draft.topology} onChange={(event) => change({ topology: event.currentTarget.value })}>
                {TOPOLOGIES.map(([kind, what]) => (
                  <option key={kind} value={kind}>
                    {what}
                  </option>
                ))}
              </select>
            )}
          </Field>
          <Field label="Memory">
            {(ids) => (
              <select {...ids} value={draft.memory} onChange={(event) => change({ memory: event.currentTarget.value })}>
                {MEMORIES.map(([kind, what]) => (
                  <option key={kind} value={kind}>
                    {what}
                  </option>
                ))}
              </select>
            )}
          </Field>
          <Field label="Ticks, at most">
            {(ids) => <input {...ids} type="number" required min={1} step={1} value={draft.ticks} onInput={(event) => change({ ticks: Number(event.currentTarget.value) })} />}
          </Field>
          <Field label="Seed" help="The same seed draws the same world.">
            {(ids) => <input {...ids} type="number" required min={0} step={1} value={draft.seed} onInput={(event) => change({ seed: Number(event.currentTarget.value) })} />}
          </Field>
          <Field label="Name" wide>
            {(ids) => <input {...ids} type="text" required pattern="[A-Za-z0-9][A-Za-z0-9._\-]{0,62}" value={draft.name} onInput={(event) => change({ name: event.currentTarget.value })} />}
          </Field>
          <Field label="Begin paused" help="It stands at its beginning, to be played tick by tick.">
            {(ids) => <input {...ids} type="checkbox" checked={draft.paused} onChange={(event) => change({ paused: event.currentTarget.checked })} />}
          </Field>
        </div>
      </fieldset>
      <details class="written">
        <summary>What is sent, as JSON</summary>
        <pre tabIndex={0}>{JSON.stringify(spec, null, 2)}</pre>
      </details>
      <footer class="start">
        {task.problem && <Problem text={task.problem} />}
        <p class="quiet">
          {scenario.name.replaceAll("_", " ")}, {draft.seats.length} agents, at most {draft.ticks} ticks
        </p>
        <button type="submit" class="main" disabled={task.busy}>
          <Icon name="play" /> {task.busy ? "Starting…" : "Start"}
        </button>
      </footer>
    </form>
  );
}

/** A name that nobody else has; `randomUUID` is there on secure pages alone, and a laboratory's own network seldom is. */
function newId(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

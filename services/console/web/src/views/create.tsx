/** The form that starts a simulation, or an experiment of many. */

import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import { isPlayed, models } from "../api/chat";
import * as experiments from "../api/experiments";
import { words } from "../api/http";
import * as api from "../api/simulations";
import type { Fields, Json, Model, Scenario, ScenarioDetail } from "../api/types";
import { counted, Field, Loading, Problem, useLoaded } from "../parts/basics";
import { Fold } from "../parts/fold";
import { Icon } from "../parts/icon";
import { FormContext, Property, SchemaFields } from "../parts/schema_form";
import { Written } from "../parts/written";
import { draftOf, headcount, likeIt, type Draft, type Spec } from "../state/draft";
import { countOf, gridOf, planOf, seedsOf, type Plan } from "../state/plan";
import { go, place } from "../state/router";
import { flawOf } from "../state/schema";
import { useValue } from "../state/value";
import { capital, worded, wordedPath } from "../state/words";
import { standing, type Refusal, type Wrong } from "../state/wrongs";
import { PlanForm } from "./plan";
import { Crowd, Seats } from "./seats";

export function Create() {
  const { query } = useValue(place);
  const [like, experiment] = [query.get("like"), query.get("experiment")];
  const begun = useLoaded(() => begin(like, experiment), [like, experiment]);
  const loaded = useLoaded(api.scenarios, []);
  const served = useLoaded(models, []);
  const [name, setName] = useState("");
  const chosen = name || query.get("scenario") || begun.value?.spec?.scenario || "public_goods";
  const ready = begun.value !== null;
  // Whoever looks at another scenario and comes back finds what was written.
  const drafts = useRef(new Map<string, Draft>());
  const scenario = useLoaded(async () => (ready ? await api.scenario(chosen) : null), [chosen, ready]);
  const many = experiment !== null;
  useEffect(() => {
    document.title = `${many ? "New experiment" : "New simulation"} · Steerline`;
  }, [many]);
  const form = `${scenario.value?.name} ${begun.value?.key}`;
  const problem = loaded.problem || scenario.problem || begun.problem;
  return (
    <div class="page create">
      <header class="page-head">
        <h1>{many ? "New experiment" : "New simulation"}</h1>
      </header>
      {problem && <Problem text={problem} again={() => (loaded.again(), scenario.again(), begun.again())} />}
      {!loaded.value && !problem && <Loading rows={10} label="Loading the scenarios" />}
      {loaded.value && <Choose scenarios={loaded.value} chosen={chosen} choose={setName} />}
      {loaded.value && !begun.value && !problem && <Loading rows={10} label="Loading what it is made of" />}
      {scenario.value && begun.value && loaded.value && served.value && (
        <Form
          key={form}
          name={form}
          drafts={drafts.current}
          scenario={scenario.value}
          begun={begun.value}
          models={served.value.filter((one) => !isPlayed(one.id))}
        />
      )}
    </div>
  );
}

function Choose({ scenarios, chosen, choose }: { scenarios: Scenario[]; chosen: string; choose: (name: string) => void }) {
  return (
    <fieldset class="scenarios">
      <legend>
        Scenario: <em>{worded(chosen)}</em>
      </legend>
      <div class="cards">
        {scenarios.map((one) => (
          <label key={one.name} class="card">
            <input type="radio" name="scenario" value={one.name} checked={one.name === chosen} onChange={() => choose(one.name)} />
            <strong>{worded(one.name)}</strong>
            <span>{one.about}</span>
          </label>
        ))}
      </div>
    </fieldset>
  );
}

/** What the form begins with. */
interface Begun {
  /** Differs where what it begins with does. */
  key: string;
  /** A simulation that is there; null takes the scenario's example. */
  spec: Spec | null;
  /** What an experiment varies; null is none. */
  plan: Plan | null;
}

const PLAN: Plan = { axes: [], seeds: "0-4" };

/** @param like a simulation; @param experiment one that is there, or the empty name for a new one */
async function begin(like: string | null, experiment: string | null): Promise<Begun> {
  const key = `${like} ${experiment}`;
  if (experiment) {
    const found = await experiments.find(experiment);
    const member = await api.find(found.points[0]!.simulations[0]!);
    return { key, spec: { ...likeIt(member.spec), name: found.name }, plan: planOf(found) };
  }
  return { key, spec: like ? likeIt((await api.find(like)).spec) : null, plan: experiment === null ? null : PLAN };
}

interface FormProps {
  /** Under which its draft is kept. */
  name: string;
  drafts: Map<string, Draft>;
  scenario: ScenarioDetail;
  begun: Begun;
  models: Model[];
}

function Form({ name, drafts, scenario, begun, models: served }: FormProps) {
  const [draft, setDraft] = useState<Draft>(() => {
    const own = draftOf(scenario);
    return drafts.get(name) ?? { ...own, spec: begun.spec?.scenario === scenario.name ? begun.spec : own.spec, plan: begun.plan };
  });
  drafts.set(name, draft);
  const [busy, setBusy] = useState(false);
  const [refusal, setRefusal] = useState<Refusal | null>(null);
  const form = useRef<HTMLFormElement>(null);
  const once = useMemo(() => newId(), [draft]);
  const { spec, plan } = draft;
  const change = (some: Partial<Draft>) => setDraft((old) => ({ ...old, ...some }));
  const set = (some: Spec) => change({ spec: { ...spec, ...some } });
  const wrongs = useMemo(() => (refusal ? standing(refusal, draft) : []), [refusal, draft]);
  const unsent = refusal?.draft === draft && !wrongs.length ? words(refusal.error) : mending(wrongs);
  useEffect(() => {
    form.current?.querySelector<HTMLElement>("[aria-invalid], .wrong[tabindex]")?.focus();
  }, [refusal]);
  const send = async () => {
    setBusy(true);
    setRefusal(null);
    try {
      go(await started(draft, once));
    } catch (error) {
      setRefusal({ error, draft });
      setBusy(false);
    }
  };
  const names = {
    model: served.map((one) => one.id),
    policy: scenario.policies.map((one) => one.name),
    hub: (spec.agents ?? []).map((agent) => agent.id),
  };
  return (
    <FormContext.Provider value={{ root: scenario.form, wrongs, names }}>
      <form ref={form} class="settings" onSubmit={(event) => (event.preventDefault(), void send())}>
        <Seats spec={spec} scenario={scenario} models={served} change={set} />
        <fieldset>
          <legend>Rules of {worded(scenario.name)}</legend>
          {!Object.keys(scenario.params.properties ?? {}).length && <p class="quiet">This scenario has no settings.</p>}
          <FormContext.Provider value={{ root: scenario.params, wrongs, names: {} }}>
            <SchemaFields schema={scenario.params} value={spec.params ?? {}} path="params" change={(params) => set({ params })} />
          </FormContext.Provider>
        </fieldset>
        <Rest spec={spec} scenario={scenario} models={served} change={set} />
        <fieldset>
          <legend>How it is played</legend>
          <div class="grid">
            {["max_ticks", "seed", "name"].map((name) => (
              <Of key={name} name={name} spec={spec} scenario={scenario} change={set} />
            ))}
            <Field label="Begin paused" help={plan ? "Not for an experiment, which plays all of its simulations at once." : "It stands at its beginning, to be played tick by tick."}>
              {(ids) => <input {...ids} type="checkbox" disabled={plan !== null} checked={draft.paused && !plan} onChange={(event) => change({ paused: event.currentTarget.checked })} />}
            </Field>
            <Field label="As an experiment" help="Many times: over values of whatever you like, and over seeds.">
              {(ids) => <input {...ids} type="checkbox" checked={plan !== null} onChange={(event) => change({ plan: event.currentTarget.checked ? PLAN : null })} />}
            </Field>
          </div>
          {plan && <PlanForm plan={plan} spec={spec} params={Object.keys(scenario.params.properties ?? {})} wrongs={wrongs} change={(next) => change({ plan: next })} />}
        </fieldset>
        <Fold title="As JSON" note="all of it, as it is sent" paths={[]}>
          <Written label="Simulation" help="What is written here is in the fields above, and the other way round." rows={18} value={spec as Fields} flaw={(next) => flawOf(next ?? {}, scenario.form, scenario.form)} set={(next) => change({ spec: (next ?? {}) as Spec })} />
        </Fold>
        <footer class="start">
          <Problem text={unsent} />
          <p class="quiet">{summary(draft)}</p>
          <button type="submit" class="main" disabled={busy}>
            <Icon name="play" /> {busy ? "Starting…" : "Start"}
          </button>
        </footer>
      </form>
    </FormContext.Provider>
  );
}

interface PartProps {
  spec: Spec;
  scenario: ScenarioDetail;
  change: (some: Spec) => void;
}

/** A field of the simulation itself. */
function Of({ name, spec, scenario, change }: PartProps & { name: string }) {
  const required = scenario.form.required?.includes(name) ?? false;
  return <Property name={name} path={name} schema={scenario.form.properties![name]!} required={required} value={(spec as Fields)[name]} set={(next) => change({ [name]: next })} />;
}

/** Fields that stand in a place of their own, or are the endpoint's business. */
const ELSEWHERE = ["schema_version", "scenario", "params", "agents", "population", "topology", "interceptors", "workflow", "imitation", "max_ticks", "seed", "name", "durability", "replay"];

/** What most leave as it is. */
function Rest({ spec, scenario, models: served, change }: PartProps & { models: Model[] }) {
  const shared = { spec, scenario, change };
  const kindOf = (part: Json | undefined) => worded(String((part as Fields | null | undefined)?.kind ?? ""));
  const count = (part: Json | undefined) => (Array.isArray(part) && part.length ? `${part.length}` : "none");
  const limits = Object.values((spec.budgets as Fields | undefined) ?? {}).filter((one) => one !== null).length;
  const others = Object.keys(scenario.form.properties ?? {}).filter((name) => !ELSEWHERE.includes(name));
  const population = spec.population as { kind?: string; count?: number } | null | undefined;
  return (
    <div class="folds">
      <Fold title="Crowd" note={population?.kind ? `${population.count ?? 0} more agents` : "no agents but those above"} paths={["population"]}>
        <Crowd spec={spec} scenario={scenario} models={served} change={change} />
      </Fold>
      <Fold title="Who hears whom" note={kindOf(spec.topology)} paths={["topology", "interceptors"]}>
        <div class="grid">
          <Of name="topology" {...shared} />
          <Of name="interceptors" {...shared} />
        </div>
      </Fold>
      <Fold title="Between ticks" note={`${count(spec.workflow as Json)} planned`} paths={["workflow", "imitation"]}>
        <div class="grid">
          <Of name="workflow" {...shared} />
          <Of name="imitation" {...shared} />
        </div>
      </Fold>
      <Fold title="Limits and late answers" note={limits ? counted(limits, "limit") : "no limits"} paths={others}>
        <div class="grid">
          {others.map((name) => (
            <Of key={name} name={name} {...shared} />
          ))}
        </div>
      </Fold>
    </div>
  );
}

/** Sends it, and says where it can be seen. */
async function started({ spec, paused, plan }: Draft, once: string): Promise<string[]> {
  if (!plan) return ["run", (await api.create(spec, !paused, once)).id];
  const form = { name: spec.name ?? "experiment", simulation: spec, grid: gridOf(plan.axes), seeds: seedsOf(plan.seeds) ?? [] };
  return ["experiments", (await experiments.create(form, once)).id];
}

/** Beyond it the list would hide the form. */
const MENDED_NEXT = 4;

/** What is to be done before it can be sent. */
function mending(wrongs: readonly Wrong[]): string {
  const lines = wrongs.slice(0, MENDED_NEXT).map(({ path, text }) => (path ? `${capital(wordedPath(path))}: ${text}` : text));
  if (wrongs.length < 2) return lines.join("");
  const more = wrongs.length > MENDED_NEXT ? [`and ${wrongs.length - MENDED_NEXT} more`] : [];
  return [`${wrongs.length} things to mend:`, ...lines, ...more].join("\n");
}

function summary({ spec, plan }: Draft): string {
  const of = `${worded(spec.scenario ?? "no scenario")}, ${headcount(spec)} agents, at most ${spec.max_ticks ?? "?"} ticks`;
  return plan ? `${countOf(plan)} times ${of}` : of;
}

/** A name that nobody else has; `randomUUID` is there on secure pages alone, and a laboratory's own network seldom is. */
function newId(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

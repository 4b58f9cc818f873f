/** A simulation or an experiment that is being put together: what is posted, as far as it is written. */

import type { AgentSpec, BrainSpec, Fields, GroupSpec, Json, ScenarioDetail, SimulationSpec } from "../api/types";
import type { Plan } from "./plan";
import { decides, strengthOf, withStrength } from "./steering";

export type Spec = Partial<SimulationSpec>;

export interface Draft {
  spec: Spec;
  /** Whether it stands at its beginning until somebody lets it go. */
  paused: boolean;
  /** Over what an experiment varies it; null plays it once. */
  plan: Plan | null;
}

const NAMES = ["ann", "bob", "cleo", "dan", "eve", "finn", "gus", "hana", "ida", "jon", "kim", "leo"];

export function nameFor(place: number): string {
  return NAMES[place] ?? `agent-${String(place + 1).padStart(2, "0")}`;
}

/** A brain as one choice: `policy:<name>`, `model:<name>` or `human`; empty for one that has more to it. */
export function choiceOf(brain: BrainSpec | undefined): string {
  switch (brain?.kind) {
    case "scripted":
      return `policy:${brain.policy}`;
    case "llm":
      return `model:${brain.model}`;
    case "human":
      return "human";
    default:
      return "";
  }
}

/** The brain of a choice. */
export function brainOf(choice: string, strength = 0): BrainSpec {
  const [kind, ...rest] = choice.split(":");
  const named = rest.join(":");
  if (kind === "human") return { kind: "human" };
  if (kind === "policy") return { kind: "scripted", policy: named };
  return { kind: "llm", model: named, steering: { boost: { strength } } };
}

/** The same agent with another brain; a strength that it has had stays. */
export function rebrained<T extends GroupSpec>(agent: T, choice: string): T {
  const before = strengthOf(agent.brain, {});
  const brain = brainOf(choice, before ?? 0);
  return { ...agent, brain: before === null ? brain : withStrength(brain, before) };
}

export function roleOf(agent: GroupSpec): string {
  const role = agent.profile?.role;
  return typeof role === "string" ? role : "";
}

export function withRole<T extends GroupSpec>(agent: T, role: string): T {
  return { ...agent, profile: { ...agent.profile, role } };
}

const AGENTS = 4;
const MEMORY = { kind: "window" };

/** A first draft: the scenario's own example, or policies dealt to a few agents in turn. */
export function draftOf(scenario: ScenarioDetail): Draft {
  const name = `${scenario.name.replaceAll("_", "-")}-${Math.random().toString(36).slice(2, 6)}`;
  const { agents, ...example } = scenario.example ?? {};
  const cast = agents?.length ? agents : dealt(scenario);
  const spec: Spec = {
    topology: { kind: "full" },
    max_ticks: 10,
    seed: 0,
    params: {},
    ...example,
    scenario: scenario.name,
    name,
    agents: cast.map((agent) => ({ memory: MEMORY, ...agent })),
  };
  return { spec, paused: false, plan: null };
}

function dealt(scenario: ScenarioDetail): AgentSpec[] {
  const policies = scenario.policies.map((policy) => policy.name);
  return Array.from({ length: AGENTS }, (_, place) => ({
    id: nameFor(place),
    brain: { kind: "scripted", policy: policies[place % Math.max(1, policies.length)] ?? "" },
  }));
}

/** Another agent like the last one, under a name that is free. */
export function another(spec: Spec, scenario: ScenarioDetail): AgentSpec {
  const agents = spec.agents ?? [];
  const taken = new Set(agents.map((agent) => agent.id));
  let place = 0;
  while (taken.has(nameFor(place))) place += 1;
  const last = agents.at(-1) ?? { brain: brainOf(`policy:${scenario.policies[0]?.name ?? ""}`), memory: MEMORY };
  return { ...last, id: nameFor(place) };
}

export interface Mix {
  kind: "mix";
  count: number;
  prefix?: string;
  /** Undefined in one that is still being written. */
  groups?: GroupSpec[];
}

const CROWD = 12;

/** A population of one group to begin with. */
export function crowd(scenario: ScenarioDetail): Mix {
  return { kind: "mix", count: CROWD, prefix: "agent", groups: [group(scenario, 0)] };
}

export function group(scenario: ScenarioDetail, place: number): GroupSpec {
  const policies = scenario.policies.map((policy) => policy.name);
  return { weight: 1, brain: brainOf(`policy:${policies[place % Math.max(1, policies.length)] ?? ""}`), memory: MEMORY };
}

/** How many take part, as far as it is written. */
export function headcount(spec: Spec): number {
  const population = spec.population as unknown as { count?: number } | null | undefined;
  return (spec.agents?.length ?? 0) + (population?.count ?? 0);
}

/** A simulation that is there, as it would be posted: its models are served ones, by name. */
export function likeIt(spec: SimulationSpec): Spec {
  const models = Object.entries(spec.models).map(([alias, ref]): [string, Fields] => {
    const { backend, steering, prompt_price, completion_price } = ref as { [name: string]: Json };
    const name = (backend as Fields | undefined)?.name;
    return [alias, { model: name ?? alias, steering: steering ?? null, prompt_price: prompt_price ?? 0, completion_price: completion_price ?? 0 }];
  });
  const { durability: _, replay: __, ...rest } = spec;
  return { ...rest, models: Object.fromEntries(models) };
}

/** Who decides, where one choice does not say it. */
export function elsewhere(brain: BrainSpec | undefined): string | undefined {
  if (!brain?.kind) return "choose…";
  return choiceOf(brain) ? undefined : `${decides(brain)}, as written below`;
}

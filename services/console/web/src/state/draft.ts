/** A simulation that is being put together in the form. */

import type { AgentSpec, BrainSpec, Fields, ScenarioDetail, SimulationSpec } from "../api/types";

export interface Seat {
  /** Stays when the name is changed, so that the focus does. */
  row: number;
  id: string;
  /** `policy:<name>`, `model:<id>` or `human`. */
  brain: string;
  strength: number;
  role: string;
  /** What the scenario's example says of it besides. */
  profile: Fields;
}

export interface Draft {
  scenario: string;
  name: string;
  params: Fields;
  seats: Seat[];
  memory: string;
  topology: string;
  ticks: number;
  seed: number;
  /** Whether it stands at its beginning until somebody lets it go. */
  paused: boolean;
}

export const TOPOLOGIES: [kind: string, what: string][] = [
  ["full", "Everybody hears everybody"],
  ["none", "Nobody hears anybody"],
  ["ring", "A ring: neighbours hear each other"],
  ["chain", "A chain: each is heard by the next"],
  ["star", "A star: the first agent in the middle"],
  ["tree", "A tree: parents and children"],
  ["pool", "A shared pool of messages"],
  ["small_world", "A small world"],
  ["scale_free", "Scale-free: a few are heard by many"],
  ["random_regular", "Random, the same number of links each"],
  ["rewiring", "Links that move over time"],
  ["pruned", "The least agreed with fall silent"],
];

export const MEMORIES: [kind: string, what: string][] = [
  ["none", "None: they know what the scenario tells"],
  ["window", "The last things, in order"],
  ["retrieval", "What is recent, important and to the point"],
  ["summary", "A running summary"],
  ["belief", "The last heard of each other agent"],
];

const NAMES = ["ann", "bob", "cleo", "dan", "eve", "finn", "gus", "hana", "ida", "jon", "kim", "leo"];

export function nameFor(place: number): string {
  return NAMES[place] ?? `agent-${String(place + 1).padStart(2, "0")}`;
}

export function brainOf({ brain, strength }: Pick<Seat, "brain" | "strength">): BrainSpec {
  const [kind, ...rest] = brain.split(":");
  const named = rest.join(":");
  if (kind === "human") return { kind: "human" };
  if (kind === "policy") return { kind: "scripted", policy: named };
  return { kind: "llm", model: named, steering: { boost: { strength } } };
}

/** The spec that is sent. Models are served ones, by their names. */
export function specOf(draft: Draft): Partial<SimulationSpec> {
  const agents = draft.seats.map((seat): AgentSpec => {
    const profile = { ...seat.profile, ...(seat.role ? { role: seat.role } : {}) };
    return { id: seat.id, brain: brainOf(seat), memory: { kind: draft.memory }, ...(Object.keys(profile).length ? { profile } : {}) };
  });
  return {
    name: draft.name,
    scenario: draft.scenario,
    params: draft.params,
    agents,
    topology: topologyOf(draft),
    max_ticks: draft.ticks,
    seed: draft.seed,
  };
}

function topologyOf(draft: Draft): SimulationSpec["topology"] {
  if (draft.topology === "star") return { kind: "star", hub: draft.seats[0]?.id ?? "" };
  return { kind: draft.topology };
}

const AGENTS = 4;

/** A first draft: the scenario's own example, or policies dealt to a few seats in turn. */
export function draftOf(scenario: ScenarioDetail): Draft {
  const name = `${scenario.name.replaceAll("_", "-")}-${Math.random().toString(36).slice(2, 6)}`;
  const example = scenario.example;
  const rest = { scenario: scenario.name, name, memory: "window", seed: 0, paused: false };
  if (example?.agents.length) {
    const seats = example.agents.map((agent, row): Seat => ({ row, ...seatOf(agent) }));
    return { ...rest, params: example.params ?? {}, seats, topology: example.topology?.kind ?? "full", ticks: example.max_ticks };
  }
  const policies = scenario.policies.map((policy) => policy.name);
  const seats = Array.from({ length: AGENTS }, (_, row): Seat => {
    return { row, id: nameFor(row), brain: `policy:${policies[row % Math.max(1, policies.length)] ?? ""}`, strength: 0, role: "", profile: {} };
  });
  return { ...rest, params: {}, seats, topology: "full", ticks: 10 };
}

function seatOf(agent: AgentSpec): Omit<Seat, "row"> {
  const { role, ...profile } = (agent.profile ?? {}) as Fields;
  const policy = agent.brain.policy;
  const brain = agent.brain.kind === "llm" ? `model:${agent.brain.model}` : policy ? `policy:${policy}` : "human";
  return { id: agent.id, brain, strength: 0, role: typeof role === "string" ? role : "", profile };
}

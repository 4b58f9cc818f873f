/** What the events of a simulation amount to at a tick: who said what, who hears whom, the metrics. */

import type { AgentSpec, Event, Fields, Json, SimulationSpec } from "../api/types";
import { decides, strengthIn, strengthOf } from "./steering";

export interface Entry {
  seq: number;
  tick: number;
  kind: "act" | "say" | "world" | "control" | "interview" | "change" | "end";
  agent: string | null;
  /** What was done, in short. */
  what: string;
  /** What was said. */
  text: string;
  /** Who was told. */
  to: string[];
  /** Why the answer was not read as it stands. */
  warning: string;
  /** Steering strength that acted on the agent, where a model answers for it. */
  strength: number | null;
}

export interface Edge {
  from: string;
  to: string;
  messages: number;
}

export interface Member {
  id: string;
  spec: AgentSpec | null;
  strength: number | null;
  turns: number;
  said: number;
  last: string;
  earned: number | null;
  gone: boolean;
}

export interface History {
  ticks: number;
  entries: Entry[];
  edges: Map<string, Edge>;
  members: Map<string, Member>;
  metrics: Map<string, [tick: number, value: number][]>;
  /** Messages of the newest tick, for the pulses. */
  lately: Edge[];
  /** Ticks before which somebody stepped in. */
  marks: { tick: number; what: string }[];
  ended: string | null;
  models: SimulationSpec["models"];
}

/** Beyond it the oldest are let go. */
const MOST_ENTRIES = 20_000;
/** Where thousands talk to thousands, nobody can follow all lines. */
const MOST_EDGES = 20_000;
const MOST_LATELY = 2_000;

export const WORLD = "environment";

export function start(spec: SimulationSpec): History {
  const models = spec.models ?? {};
  const members = spec.agents.map((agent): [string, Member] => [agent.id, member(agent.id, agent, models)]);
  return {
    ticks: 0,
    entries: [],
    edges: new Map(),
    members: new Map(members),
    metrics: new Map(),
    lately: [],
    marks: [],
    ended: null,
    models,
  };
}

function member(id: string, spec: AgentSpec | null, models: SimulationSpec["models"]): Member {
  const strength = spec ? strengthOf(spec.brain, models) : null;
  return { id, spec, strength, turns: 0, said: 0, last: "", earned: null, gone: false };
}

/** Adds an event, in place. */
export function add(history: History, event: Event): void {
  const payload = event.payload;
  switch (event.kind) {
    case "tick.started":
      history.lately = [];
      break;
    case "tick.committed":
      history.ticks = event.tick + 1;
      break;
    case "action.taken":
    case "action.invalid":
      act(history, event);
      break;
    case "msg.sent":
      sent(history, event);
      break;
    case "msg.blocked":
    case "msg.changed":
      note(history, event, "world", event.kind === "msg.blocked" ? "A message was blocked" : "A message was changed");
      break;
    case "env.changed":
      note(history, event, "world", brief(payload));
      break;
    case "feedback.given":
      feedback(history, event);
      break;
    case "agent.adjusted":
      note(history, event, "change", adjusted(payload), text(payload.text));
      break;
    case "agent.spawned":
      join(history, event);
      break;
    case "agent.retired":
      depart(history, event);
      break;
    case "interview.answered":
      note(history, event, "interview", text(payload.question), text(payload.text) || text(payload.answer));
      break;
    case "control.applied":
      control(history, event);
      break;
    case "control.refused":
      note(history, event, "control", `Refused: ${text(payload.why)}`);
      break;
    case "metric.recorded":
      measure(history, event.tick, payload.values);
      break;
    case "sim.ended":
      history.ended = text(payload.reason);
      note(history, event, "end", `The simulation ended: ${text(payload.reason)}`);
      break;
  }
}

function known(history: History, agent: string): Member {
  const there = history.members.get(agent) ?? member(agent, null, history.models);
  history.members.set(agent, there);
  return there;
}

function act(history: History, event: Event): void {
  const { payload } = event;
  const agent = event.agent ?? "?";
  const who = known(history, agent);
  who.turns += 1;
  who.last = deed(payload.payload);
  const warning = payload.parse && payload.parse !== "ok" ? text(payload.reason) || text(payload.parse) : "";
  push(history, event, "act", { what: who.last, text: text(payload.text), warning, strength: who.strength });
}

function deed(value: Json | undefined): string {
  const nothing = value && typeof value === "object" && !Object.keys(value).length;
  return nothing ? "nothing" : shown(value);
}

function sent(history: History, event: Event): void {
  const { payload } = event;
  const from = text(payload.sender);
  const to = (payload.recipients as string[] | undefined) ?? [];
  const said = words(payload);
  for (const one of to) link(history, from, one);
  if (from !== WORLD) known(history, from).said += 1;
  const own = latest(history, from, event.tick);
  if (own?.kind === "act" && !own.to.length && (own.text.includes(said) || said.includes(own.text))) {
    own.to = to;
    if (said.length > own.text.length) own.text = said;
  } else push(history, event, "say", { agent: from, text: said, to });
}

/** The agent's newest entry of a tick. */
function latest(history: History, agent: string, tick: number): Entry | undefined {
  for (let place = history.entries.length - 1; place >= 0; place -= 1) {
    const entry = history.entries[place]!;
    if (entry.tick !== tick) return undefined;
    if (entry.agent === agent) return entry;
  }
  return undefined;
}

function link(history: History, from: string, to: string): void {
  const name = `${from}\n${to}`;
  const known = history.edges.get(name);
  if (!known && history.edges.size >= MOST_EDGES) return;
  const edge = known ?? { from, to, messages: 0 };
  edge.messages += 1;
  history.edges.set(name, edge);
  if (history.lately.length < MOST_LATELY) history.lately.push(edge);
}

function words(payload: Fields): string {
  const blocks = (payload.blocks as Fields[] | undefined) ?? [];
  return blocks.map((block) => (block.kind === "text" ? text(block.text) : "")).filter(Boolean).join("\n");
}

function feedback(history: History, event: Event): void {
  const target = text(event.payload.target) || event.agent || "";
  const value = event.payload.value;
  if (typeof value === "number" && target) {
    const who = known(history, target);
    who.earned = (who.earned ?? 0) + value;
  }
}

function adjusted(payload: Fields): string {
  if (payload.adjustment === "imitation") return `takes over the strategy of ${text(payload.of)}`;
  if (payload.adjustment === "memory") return "sums up what it remembers";
  return "reflects on itself";
}

function join(history: History, event: Event): void {
  if (!event.agent) return;
  const spec = event.payload.agent as unknown as AgentSpec;
  history.members.set(event.agent, member(event.agent, spec, history.models));
  note(history, event, "change", `comes in, created by ${text(event.payload.parent)}`);
}

function depart(history: History, event: Event): void {
  if (!event.agent) return;
  known(history, event.agent).gone = true;
  note(history, event, "change", "leaves");
}

function control(history: History, event: Event): void {
  const kind = text(event.payload.kind);
  const inner = (event.payload.payload ?? {}) as Fields;
  const mark = (what: string) => history.marks.push({ tick: event.tick, what });
  if (kind === "agents") {
    const agents = (inner.agents ?? {}) as unknown as Record<string, AgentSpec>;
    for (const [id, spec] of Object.entries(agents)) {
      const who = known(history, id);
      const before = who.strength;
      Object.assign(who, { spec, strength: strengthOf(spec.brain, history.models) });
      const moved = before !== who.strength && who.strength !== null;
      const what = moved ? steeredWith(who) : `${id} is played by ${decides(spec.brain)} from here on`;
      mark(what);
      push(history, event, "control", { agent: id, what });
    }
  } else if (kind === "steering") {
    const who = known(history, (inner.agents as string[])[0] ?? "?");
    who.strength = typeof inner.strength === "number" ? inner.strength : strengthIn((inner.steering ?? {}) as Fields);
    mark(steeredWith(who));
    push(history, event, "control", { agent: who.id, what: steeredWith(who) });
  } else if (kind === "message") {
    const to = (inner.recipients as string[] | null) ?? [];
    mark("a message from outside");
    push(history, event, "control", { what: `Told ${to.length ? to.join(", ") : "everybody"}`, text: text(inner.text) });
  } else if (kind === "state") {
    mark("the state was set");
    push(history, event, "control", { what: `Set ${brief((inner.fields ?? {}) as Fields)}` });
  } else if (kind === "interview" || kind === "survey") {
    mark("an interview");
  }
}

function steeredWith(who: Member): string {
  return `${who.id} is ${who.strength ? `steered with ${who.strength}` : "the plain model"} from here on`;
}

function measure(history: History, tick: number, values: Json | undefined): void {
  for (const [name, value] of Object.entries((values ?? {}) as Fields)) {
    if (typeof value !== "number" || !Number.isFinite(value)) continue;
    const series = history.metrics.get(name) ?? [];
    series.push([tick + 1, value]);
    history.metrics.set(name, series);
  }
}

function note(history: History, event: Event, kind: Entry["kind"], what: string, said = ""): void {
  push(history, event, kind, { what, text: said });
}

function push(history: History, event: Event, kind: Entry["kind"], rest: Partial<Entry>): void {
  const bare = { agent: event.agent, what: "", text: "", to: [], warning: "", strength: null };
  history.entries.push({ ...bare, ...rest, seq: event.seq, tick: event.tick, kind });
  if (history.entries.length > MOST_ENTRIES) history.entries.splice(0, MOST_ENTRIES / 10);
}

/** A JSON value as people read it. */
export function shown(value: Json | undefined): string {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return number(value);
  if (typeof value === "object") return Array.isArray(value) ? value.map(shown).join(", ") : brief(value);
  return String(value);
}

/** Fields in one line. */
export function brief(fields: Fields): string {
  return Object.entries(fields)
    .map(([name, value]) => {
      const inner = value && typeof value === "object" && !Array.isArray(value);
      return inner ? `${name} (${brief(value) || "none"})` : `${name} ${shown(value)}`;
    })
    .join(" · ");
}

export function number(value: number): string {
  if (Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  return size >= 100 ? value.toFixed(1) : size >= 1 ? value.toFixed(2) : value.toPrecision(3).replace(/\.?0+$/, "");
}

function text(value: Json | undefined): string {
  return value === null || value === undefined ? "" : typeof value === "string" ? value : shown(value);
}

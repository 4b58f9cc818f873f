/** Simulations over HTTP. */

import { call, send } from "./http";
import { messages } from "./sse";
import type {
  AgentSpec,
  Event,
  Fields,
  MemoryRecord,
  Question,
  Scenario,
  ScenarioDetail,
  Simulation,
  SimulationDetail,
  SimulationSpec,
} from "./types";

const at = (id: string, rest = "") => `v1/simulations/${encodeURIComponent(id)}${rest}`;

export async function scenarios(): Promise<Scenario[]> {
  return (await call<{ data: Scenario[] }>("GET", "v1/scenarios")).data;
}

export async function scenario(name: string): Promise<ScenarioDetail> {
  return await call("GET", `v1/scenarios/${encodeURIComponent(name)}`);
}

export interface Page {
  data: Simulation[];
  /** What the next page is asked for with; null after the last. */
  next: string | null;
}

export async function list(limit = 100): Promise<Page> {
  return await call("GET", `v1/simulations?limit=${limit}`);
}

export async function find(id: string): Promise<SimulationDetail> {
  return await call("GET", at(id));
}

/** Starts a simulation; sending it twice under one key starts it once. */
export async function create(spec: Partial<SimulationSpec>, once: string): Promise<Simulation> {
  return await call("POST", "v1/simulations", spec, { headers: { "Idempotency-Key": once } });
}

export type Order = "pause" | "resume" | "step" | "stop";

export async function order(id: string, what: Order): Promise<void> {
  await call("POST", at(id, `:${what}`), {});
}

export interface Fork {
  at: number;
  agents: Record<string, AgentSpec>;
  start: boolean;
}

export async function fork(id: string, how: Fork): Promise<Simulation> {
  return await call("POST", at(id, ":fork"), how);
}

export async function inject(id: string, message: string, recipients: string[] | null): Promise<void> {
  await call("POST", at(id, ":inject"), { message, recipients });
}

const agentAt = (id: string, agent: string, rest: string) => at(id, `/agents/${encodeURIComponent(agent)}/${rest}`);

export async function steer(id: string, agent: string, strength: number): Promise<void> {
  await call("POST", agentAt(id, agent, "steering"), { strength });
}

export async function interview(id: string, agent: string, question: string, remember: boolean): Promise<void> {
  await call("POST", agentAt(id, agent, "interview"), { question, remember });
}

export async function memory(id: string, agent: string, tick: number | null): Promise<MemoryRecord[]> {
  const when = tick === null ? "" : `?tick=${tick}`;
  return (await call<{ records: MemoryRecord[] }>("GET", agentAt(id, agent, `memory${when}`))).records;
}

export interface State {
  tick: number;
  state: Fields;
  agents: AgentSpec[];
}

export async function state(id: string, tick: number | null): Promise<State> {
  return await call("GET", at(id, `/state${tick === null ? "" : `?tick=${tick}`}`));
}

export async function questions(id: string): Promise<Question[]> {
  return (await call<{ data: Question[] }>("GET", at(id, "/questions"))).data;
}

export async function answer(id: string, question: string, text: string): Promise<void> {
  await call("POST", at(id, `/questions/${encodeURIComponent(question)}`), { text });
}

/** All events so far. */
export async function events(id: string, signal?: AbortSignal): Promise<Event[]> {
  const response = await send("GET", at(id, "/events"), { accept: "application/x-ndjson", signal });
  const text = await response.text();
  return text.split("\n").filter(Boolean).map((line) => JSON.parse(line) as Event);
}

export type Followed = { kind: "event"; event: Event } | { kind: "status" } | { kind: "end" };

/** The events after number `after`, and those to come. */
export async function* follow(
  id: string,
  after: number,
  signal: AbortSignal,
  opened: () => void,
): AsyncGenerator<Followed> {
  const headers: Record<string, string> = after ? { "Last-Event-ID": String(after) } : {};
  const response = await send("GET", at(id, "/events"), { accept: "text/event-stream", headers, signal });
  opened();
  for await (const message of messages(response)) {
    if (message.event === "end") yield { kind: "end" };
    else if (message.event === "status") yield { kind: "status" };
    else yield { kind: "event", event: JSON.parse(message.data) as Event };
  }
}

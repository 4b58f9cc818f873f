/** Simulations over HTTP. */

import { broken, call, paged, send } from "./http";
import { messages } from "./sse";
import type {
  AgentSpec,
  Event,
  Fields,
  MemoryRecord,
  Page,
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

/** The newest ones, `pages` times 100 at most; of one status, if it is named. */
export async function list(pages = 1, status = ""): Promise<Page<Simulation>> {
  return await paged("v1/simulations", pages, status ? { status } : {});
}

export async function find(id: string): Promise<SimulationDetail> {
  return await call("GET", at(id));
}

/** Starts a simulation; sending it twice under one key starts it once. */
export async function create(spec: Partial<SimulationSpec>, begin: boolean, once: string): Promise<Simulation> {
  return await call("POST", `v1/simulations?start=${begin}`, spec, { headers: { "Idempotency-Key": once } });
}

/** Whether nothing can be done to a simulation that stands so. */
export function isOver(status: string): boolean {
  return ["ended", "stopped"].includes(status);
}

export type Order = "pause" | "resume" | "step" | "stop";

export async function order(id: string, what: Order): Promise<void> {
  await call("POST", at(id, `:${what}`));
}

export interface Fork {
  at: number;
  /** Undefined takes a name after the one that is forked. */
  name?: string;
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
  return await call("GET", at(id, "/questions"));
}

export async function answer(id: string, question: string, text: string): Promise<void> {
  const path = question.split("/").map(encodeURIComponent).join("/");
  await call("POST", at(id, `/questions/${path}:answer`), { text });
}

/** All events so far. */
export async function events(id: string, signal?: AbortSignal): Promise<Event[]> {
  const found: Event[] = [];
  for (;;) {
    // One answer carries some megabytes; an empty one says that nothing is left.
    const path = at(id, `/events?after=${found.at(-1)?.seq ?? 0}`);
    const text = await (await send("GET", path, { accept: "application/x-ndjson", signal })).text();
    const lines = text.split("\n").filter(Boolean);
    if (!lines.length) return found;
    for (const line of lines) found.push(JSON.parse(line) as Event);
  }
}

/** The bundle: spec, log, journal and manifest. */
export async function bundle(id: string): Promise<Blob> {
  return await (await send("GET", at(id, "/export"), { accept: "application/zip" })).blob();
}

export type Followed = { kind: "event"; event: Event } | { kind: "end" };

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
    if (message.event === "error") throw broken(message.data);
    if (message.event === "end") yield { kind: "end" };
    if (message.event === "message") yield { kind: "event", event: JSON.parse(message.data) as Event };
  }
}

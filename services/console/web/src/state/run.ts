/** One simulation that is being watched: its events as they come, its status, the moment that is looked at. */

import { ApiFailure, words } from "../api/http";
import * as api from "../api/simulations";
import type { AgentSpec, Event, Question, SimulationDetail, SimulationSpec } from "../api/types";
import { add, start, type History } from "./history";
import { Value } from "./value";

/** Beyond it the oldest events are let go; the log in the store keeps all of them. */
const MOST_EVENTS = 50_000;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;
const POLL_MS = 1500;

export type Connection = "connecting" | "live" | "lost" | "over";

export interface Watched {
  detail: SimulationDetail | null;
  history: History | null;
  /** The tick that is looked at; null follows the newest. */
  at: number | null;
  questions: Question[];
  connection: Connection;
  problem: string;
}

export class Run {
  readonly seen = new Value<Watched>({
    detail: null,
    history: null,
    at: null,
    questions: [],
    connection: "connecting",
    problem: "",
  });
  #events: Event[] = [];
  #newest: History | null = null;
  #last = 0;
  #drawing = 0;
  #over = new AbortController();

  readonly #poll: ReturnType<typeof setInterval>;

  constructor(readonly id: string) {
    void this.#follow();
    // What stands still has no events, and may be moved from elsewhere.
    this.#poll = setInterval(() => document.visibilityState === "visible" && this.seen.now.connection === "live" && this.#ask(), POLL_MS);
  }

  close(): void {
    this.#over.abort();
    clearInterval(this.#poll);
    cancelAnimationFrame(this.#drawing);
  }

  /** Looks at the world after a tick, or follows the newest. */
  look(at: number | null): void {
    const detail = this.seen.now.detail;
    if (!detail || !this.#newest) return;
    this.#set({ at, history: at === null ? this.#newest : this.#told(detail.spec, at) });
  }

  #looks = 0;
  #shown = 0;

  /** Reads status and open questions anew. */
  async refresh(): Promise<void> {
    const look = ++this.#looks;
    try {
      const detail = await api.find(this.id);
      if (detail.spec.population) await this.#cast(detail);
      this.#newest ??= this.#told(detail.spec);
      const questions = detail.status === "waiting" ? await api.questions(this.id) : [];
      if (look < this.#shown) return; // What began later and came first is newer.
      this.#shown = look;
      this.#set({ detail, questions, history: this.seen.now.at === null ? this.#newest : this.seen.now.history, problem: "" });
    } catch (error) {
      if (look > this.#shown) this.#set({ problem: words(error) });
      throw error;
    }
  }

  #born: AgentSpec[] | null = null;

  /** Agents of a population are made when the simulation begins; the spec does not name them. */
  async #cast(detail: SimulationDetail): Promise<void> {
    if (!this.#born && detail.events > 0) {
      this.#born = (await api.state(this.id, 0)).agents;
      this.#newest = this.#told({ ...detail.spec, agents: this.#born }); // It was begun without them.
    }
    if (this.#born) detail.spec = { ...detail.spec, agents: this.#born };
  }

  /** What has happened before a tick, by the events that have come. */
  #told(spec: SimulationSpec, before = Infinity): History {
    const history = start(spec);
    for (const event of this.#events) if (event.tick < before) add(history, event);
    return history;
  }

  async #follow(): Promise<void> {
    let pause = FIRST_PAUSE_MS;
    while (!this.#over.signal.aborted) {
      let came = 0;
      try {
        await this.refresh();
        for await (const message of api.follow(this.id, this.#last, this.#over.signal, () => this.#set({ connection: "live" }))) {
          pause = FIRST_PAUSE_MS;
          came += 1;
          if (message.kind === "event") this.#take(message.event);
          else {
            await this.refresh();
            this.#set({ connection: "over" });
            return;
          }
        }
      } catch (error) {
        if (this.#over.signal.aborted) return;
        this.#set({ problem: words(error) });
        if (error instanceof ApiFailure && [401, 403, 404].includes(error.status)) return;
      }
      if (came && !this.seen.now.problem) continue; // A long history comes in several answers.
      this.#set({ connection: "lost" });
      await new Promise((resume) => setTimeout(resume, pause));
      pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
    }
  }

  #take(event: Event): void {
    if (event.seq <= this.#last || !this.#newest) return;
    this.#last = event.seq;
    this.#events.push(event);
    if (this.#events.length > MOST_EVENTS) this.#events.splice(0, MOST_EVENTS / 10);
    add(this.#newest, event);
    if (["human.requested", "sim.ended", "tick.committed"].includes(event.kind)) this.#ask();
    // Many events come at once; the page is drawn once for all of them.
    this.#drawing ||= requestAnimationFrame(() => {
      this.#drawing = 0;
      if (this.seen.now.at === null && this.#newest) this.#set({ history: { ...this.#newest } });
      else this.#set({});
    });
  }

  #asking = false;

  /** Status and questions, at most one call at a time. */
  #ask(): void {
    if (this.#asking) return;
    this.#asking = true;
    void this.refresh()
      .catch(() => undefined) // It has shown the problem already.
      .finally(() => {
        this.#asking = false;
      });
  }

  #set(change: Partial<Watched>): void {
    this.seen.set({ ...this.seen.now, ...change });
  }

  /** Ticks that have been played. */
  get ticks(): number {
    return this.#newest?.ticks ?? 0;
  }
}

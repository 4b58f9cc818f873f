/** Experiments over HTTP. */

import { ApiFailure, call, paged } from "./http";
import * as simulations from "./simulations";
import type { Experiment, ExperimentDetail, Json, Page, SimulationSpec } from "./types";

export interface ExperimentForm {
  name: string;
  simulation: Partial<SimulationSpec>;
  /** Dotted paths of the simulation and the values that each takes. */
  grid: { [path: string]: Json[] };
  seeds: number[];
}

/** Starts an experiment; sending it twice under one key starts it once. */
export async function create(form: ExperimentForm, once: string): Promise<ExperimentDetail> {
  return await call("POST", "v1/experiments", form, { headers: { "Idempotency-Key": once } });
}

/** The newest ones, `pages` times 100 at most. */
export async function list(pages = 1): Promise<Page<Experiment>> {
  return await paged("v1/experiments", pages);
}

export async function find(id: string): Promise<ExperimentDetail> {
  return await call("GET", `v1/experiments/${encodeURIComponent(id)}`);
}

const AT_ONCE = 4;

/** Ends for good what is not over, a few at a time; `told` hears after each few how many are done. */
export async function stop(ids: readonly string[], told: (done: number) => void): Promise<void> {
  for (let from = 0; from < ids.length; from += AT_ONCE) {
    await Promise.all(ids.slice(from, from + AT_ONCE).map(stopOne));
    told(Math.min(ids.length, from + AT_ONCE));
  }
}

async function stopOne(id: string): Promise<void> {
  if (simulations.isOver((await simulations.find(id)).status)) return;
  try {
    await simulations.order(id, "stop");
  } catch (error) {
    if (!(error instanceof ApiFailure && error.status === 409)) throw error; // It has ended meanwhile.
  }
}

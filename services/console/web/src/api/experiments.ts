/** Experiments over HTTP. */

import { ApiFailure, call, each, paged } from "./http";
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

/** Ends for good what is not over; `told` hears how many are done. */
export async function stop(ids: readonly string[], told: (done: number) => void): Promise<void> {
  await each(ids, stopOne, told);
}

async function stopOne(id: string): Promise<void> {
  if (simulations.isOver((await simulations.find(id)).status)) return;
  try {
    await simulations.order(id, "stop");
  } catch (error) {
    if (!(error instanceof ApiFailure && error.status === 409)) throw error; // It has ended meanwhile.
  }
}

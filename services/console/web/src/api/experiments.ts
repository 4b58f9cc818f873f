/** Experiments over HTTP. */

import { call, paged } from "./http";
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

/** Ends for good all of its simulations that have not ended. */
export async function stop(id: string): Promise<ExperimentDetail> {
  return await call("POST", `v1/experiments/${encodeURIComponent(id)}:stop`);
}

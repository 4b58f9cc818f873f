/** Over what an experiment varies a simulation: axes with their values, and seeds. */

import type { ExperimentDetail, Json } from "../api/types";
import type { Spec } from "./draft";

/** The endpoint plays no more of them. */
export const MOST = 1024;

export interface Axis {
  /** Dotted path of the simulation, e.g. `params.rounds`. */
  path: string;
  /** As it is typed: values with commas between them. */
  values: string;
}

export interface Plan {
  axes: Axis[];
  /** As it is typed, e.g. `0-4, 7`. */
  seeds: string;
}

/** The plan of an experiment that is there. */
export function planOf({ grid, seeds }: ExperimentDetail): Plan {
  const axes = Object.entries(grid).map(([path, values]): Axis => ({ path, values: values.map((value) => JSON.stringify(value)).join(", ") }));
  const [first, last] = [Math.min(...seeds), Math.max(...seeds)];
  return { axes, seeds: last - first === seeds.length - 1 ? `${first}-${last}` : seeds.join(", ") };
}

/** The values that are meant: JSON where it is some, else words. */
export function valuesOf(text: string): Json[] {
  if (!text.trim()) return [];
  const all = parsed(`[${text}]`);
  if (Array.isArray(all)) return all;
  return text.split(",").map((word) => parsed(word) ?? word.trim());
}

function parsed(text: string): Json | undefined {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return undefined; // Words are words.
  }
}

/** The seeds that are meant; null where it cannot be read. */
export function seedsOf(text: string): number[] | null {
  const seeds: number[] = [];
  for (const part of text.split(",").map((one) => one.trim()).filter(Boolean)) {
    const [, first, last] = /^(\d+)(?:\s*-\s*(\d+))?$/.exec(part) ?? [];
    const [from, to] = [Number(first), Number(last ?? first)];
    if (first === undefined || to < from || to - from >= MOST) return null;
    for (let seed = from; seed <= to; seed += 1) seeds.push(seed);
  }
  return seeds.length ? seeds : null;
}

export function gridOf(axes: readonly Axis[]): { [path: string]: Json[] } {
  return Object.fromEntries(axes.map((axis) => [axis.path, valuesOf(axis.values)]));
}

/** How many simulations it comes to. */
export function countOf(plan: Plan): number {
  return plan.axes.reduce((count, axis) => count * valuesOf(axis.values).length, seedsOf(plan.seeds)?.length ?? 0);
}

/** Paths that are worth varying: the scenario's settings, and how models among the agents are steered. */
export function pathsOf(spec: Spec, params: readonly string[]): string[] {
  const models = (spec.agents ?? []).flatMap((agent, place) => {
    if (agent.brain?.kind === "llm") return [`agents.${place}.brain.steering.boost.strength`];
    return agent.brain?.kind === "scripted" ? [`agents.${place}.brain.policy`] : [];
  });
  return [...params.map((name) => `params.${name}`), ...models, "topology.kind", "max_ticks"];
}

/** An experiment as it is shown: its axes, its metrics, and where each combination stands in a drawing. */

import type { ExperimentDetail, Fields, Interval, Point, States } from "../api/types";
import { shown } from "./history";
import { worded, wordedPath } from "./words";

const SETTLED = ["ended", "stopped", "failed"];

/** How many will not move by themselves. */
export function settled(states: States): number {
  return SETTLED.reduce((sum, status) => sum + (states[status] ?? 0), 0);
}

export function isSettled(experiment: ExperimentDetail): boolean {
  return settled(experiment.states) >= experiment.simulations;
}

/** Whether any of its simulations goes on by itself. */
export function moves({ states }: ExperimentDetail): boolean {
  return Boolean(states.running || states.queued);
}

/** Dotted paths that differ between the combinations. */
export function axesOf(points: readonly Point[]): string[] {
  return Object.keys(points[0]?.values ?? {});
}

/** The last part of a path, where no other axis ends in it. */
export function axisName(path: string, axes: readonly string[]): string {
  const last = (one: string) => one.split(".").at(-1)!;
  const alone = axes.filter((one) => last(one) === last(path)).length < 2;
  return alone ? worded(last(path)) : wordedPath(path);
}

/** The value on an axis, a number as it was given. */
export function valueOf(values: Fields, axis: string): string {
  const value = values[axis];
  return typeof value === "number" ? String(value) : shown(value);
}

/** Metrics that any combination has, by name. */
export function metricsOf(points: readonly Point[]): string[] {
  return [...new Set(points.flatMap((point) => Object.keys(point.metrics)))].sort();
}

/** A combination in words, without one of its axes. */
export function combination(values: Fields, but: string | null = null): string {
  const axes = Object.keys(values);
  const said = axes.filter((axis) => axis !== but).map((axis) => `${axisName(axis, axes)} ${valueOf(values, axis)}`);
  return said.join(", ");
}

export interface Spot {
  x: number;
  /** The combination in words. */
  label: string;
  value: Interval;
}

export interface Row {
  name: string;
  spots: Spot[];
}

/** Where combinations stand: along a number, or side by side as they come. */
export interface Plot {
  axis: string | null;
  /** Whether `x` is the axis's number itself. */
  scaled: boolean;
  /** What stands below the drawing, from left to right, with its x. */
  below: [x: number, text: string][];
  rows: (metric: string) => Row[];
}

export function plot(points: readonly Point[]): Plot {
  const axes = axesOf(points);
  const axis = along(points, axes);
  const scaled = axis !== null && points.every((point) => typeof point.values[axis] === "number");
  const steps = [...new Set(points.map((point) => (axis === null ? "" : JSON.stringify(point.values[axis]))))];
  const x = (point: Point) => {
    if (axis === null) return 0;
    return scaled ? Number(point.values[axis]) : steps.indexOf(JSON.stringify(point.values[axis]));
  };
  const below = new Map(points.map((point) => [x(point), axis === null ? "all seeds" : valueOf(point.values, axis)]));
  const rows = (metric: string): Row[] => {
    const found = new Map<string, Row>();
    for (const point of points) {
      const name = combination(point.values, axis);
      const row = found.get(name) ?? { name, spots: [] };
      found.set(name, row);
      const value = point.metrics[metric];
      if (value) row.spots.push({ x: x(point), label: combination(point.values), value });
    }
    for (const row of found.values()) row.spots.sort((a, b) => a.x - b.x);
    return [...found.values()];
  };
  return { axis, scaled, below: [...below].sort(([a], [b]) => a - b), rows };
}

/** The axis to draw along: the one of most values, of numbers if there is one. */
function along(points: readonly Point[], axes: readonly string[]): string | null {
  const values = (axis: string) => new Set(points.map((point) => JSON.stringify(point.values[axis]))).size;
  const isNumber = (axis: string) => points.every((point) => typeof point.values[axis] === "number");
  const ranked = [...axes].sort((a, b) => Number(isNumber(b)) - Number(isNumber(a)) || values(b) - values(a));
  return ranked[0] ?? null;
}

/** Where agents stand in the drawing of who talks to whom. The same agents stand in the same places each time. */

import type { SimulationSpec } from "../api/types";

export interface Spot {
  x: number;
  y: number;
}

export const WIDTH = 360;
export const HEIGHT = 300;
const MARGIN = 40;

export function layout(ids: readonly string[], topology: SimulationSpec["topology"]): Map<string, Spot> {
  switch (topology.kind) {
    case "star":
      return star(ids, String(topology.hub));
    case "layered":
      return rows((topology.levels as string[][]).map((level) => level.filter((id) => ids.includes(id))));
    case "tree":
      return rows(levels(ids, Number(topology.branching ?? 2)));
    case "chain":
      return chain((topology.order as string[] | null) ?? [...ids].sort());
    default:
      return circle([...ids].sort());
  }
}

function circle(ids: readonly string[]): Map<string, Spot> {
  if (ids.length === 1) return new Map([[ids[0]!, { x: WIDTH / 2, y: HEIGHT / 2 }]]);
  const [rx, ry] = [WIDTH / 2 - MARGIN, HEIGHT / 2 - MARGIN];
  return new Map(
    ids.map((id, place) => {
      const angle = (2 * Math.PI * place) / ids.length - Math.PI / 2;
      return [id, { x: WIDTH / 2 + rx * Math.cos(angle), y: HEIGHT / 2 + ry * Math.sin(angle) }];
    }),
  );
}

function star(ids: readonly string[], hub: string): Map<string, Spot> {
  const spots = circle(ids.filter((id) => id !== hub).sort());
  return spots.set(hub, { x: WIDTH / 2, y: HEIGHT / 2 });
}

function chain(ids: readonly string[]): Map<string, Spot> {
  // A slight wave, so that links between those who are not neighbours can be seen.
  return new Map(
    ids.map((id, place) => {
      const along = ids.length === 1 ? 0.5 : place / (ids.length - 1);
      return [id, { x: MARGIN + along * (WIDTH - 2 * MARGIN), y: HEIGHT / 2 + (place % 2 ? 34 : -34) }];
    }),
  );
}

function rows(levels: readonly (readonly string[])[]): Map<string, Spot> {
  const spots = new Map<string, Spot>();
  levels.forEach((level, row) => {
    const y = levels.length === 1 ? HEIGHT / 2 : MARGIN + (row / (levels.length - 1)) * (HEIGHT - 2 * MARGIN);
    level.forEach((id, place) => spots.set(id, { x: ((place + 1) / (level.length + 1)) * WIDTH, y }));
  });
  return spots;
}

function levels(ids: readonly string[], branching: number): string[][] {
  const [sorted, found] = [[...ids].sort(), [] as string[][]];
  for (let from = 0, size = 1; from < sorted.length; from += size, size *= branching) found.push(sorted.slice(from, from + size));
  return found;
}

/** One metric over the ticks, for one run or several. */

import { useState } from "preact/hooks";

import { number } from "../state/history";
import { thinned } from "../state/thinning";
import { worded } from "../state/words";

export interface Series {
  name: string;
  points: readonly (readonly [tick: number, value: number])[];
}

interface ChartProps {
  title: string;
  series: readonly Series[];
  ticks: number;
  /** Ticks at which somebody stepped in. */
  marks?: readonly { tick: number; what: string }[];
  at?: number | null;
  pick?: (tick: number) => void;
}

const W = 320;
const H = 96;
const LEFT = 6;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 8;

export function Chart({ title, series, ticks, marks = [], at = null, pick }: ChartProps) {
  const [under, setUnder] = useState<number | null>(null);
  const values = series.flatMap((one) => one.points.map(([, value]) => value));
  const [low, high] = bounds(values);
  const most = Math.max(ticks, 2);
  const x = (tick: number) => LEFT + ((tick - 1) / (most - 1)) * (W - LEFT - RIGHT);
  const y = (value: number) => TOP + (1 - (value - low) / (high - low || 1)) * (H - TOP - BOTTOM);
  const tickAt = (event: MouseEvent) => {
    const box = (event.currentTarget as SVGElement).getBoundingClientRect();
    const along = ((event.clientX - box.left) / box.width) * W;
    return Math.max(1, Math.min(most, Math.round(1 + ((along - LEFT) / (W - LEFT - RIGHT)) * (most - 1))));
  };
  const shown = under ?? at;
  return (
    <figure class="chart">
      <figcaption>
        <span class="name">{worded(title)}</span>
        {series.map((one, place) => (
          <span key={one.name} class={`now line-${place}`}>
            {valueAt(one, shown)}
          </span>
        ))}
      </figcaption>
      <svg
        viewBox={`0 0 ${W} ${H}`}
        role="img"
        aria-label={told(title, series)}
        class={pick ? "pickable" : ""}
        onMouseMove={(event) => setUnder(tickAt(event))}
        onMouseLeave={() => setUnder(null)}
        onClick={pick && ((event) => pick(tickAt(event)))}
      >
        <line class="axis" x1={0} x2={W} y1={y(low)} y2={y(low)} />
        <line class="axis faint" x1={0} x2={W} y1={y(high)} y2={y(high)} />
        {marks.map((mark) => (
          <line key={`${mark.tick} ${mark.what}`} class="mark" x1={x(mark.tick + 1)} x2={x(mark.tick + 1)} y1={0} y2={H} />
        ))}
        {shown !== null && <line class="cursor" x1={x(shown)} x2={x(shown)} y1={0} y2={H} />}
        {series.map((one, place) => (
          <g key={one.name} class={`line-${place}`}>
            <path class="line" d={path(one, x, y)} />
            {one.points.length > 0 && <Dot series={one} tick={shown} x={x} y={y} />}
          </g>
        ))}
      </svg>
      <p class="scale" aria-hidden="true">
        <span>
          {number(low)} to {number(high)}
        </span>
        <span>{shown === null ? played(Math.max(0, ...series.map((one) => one.points.at(-1)?.[0] ?? 0))) : `tick ${shown}`}</span>
      </p>
    </figure>
  );
}

interface DotProps {
  series: Series;
  tick: number | null;
  x: (tick: number) => number;
  y: (value: number) => number;
}

function Dot({ series, tick, x, y }: DotProps) {
  const point = tick === null ? series.points.at(-1) : series.points.find(([one]) => one === tick);
  return point ? <circle class="dot" r="3" cx={x(point[0])} cy={y(point[1])} /> : null;
}

function path(series: Series, x: (tick: number) => number, y: (value: number) => number): string {
  return thinned(series.points, W).map(([tick, value], place) => `${place ? "L" : "M"}${x(tick).toFixed(1)} ${y(value).toFixed(1)}`).join("");
}

/** What the height of a chart stands for; from 0 on where the values are near it, for a line that says how large they are. */
export function bounds(values: readonly number[]): [number, number] {
  if (!values.length) return [0, 1];
  // There may be more of them than a call takes arguments.
  const low = values.reduce((least, one) => Math.min(least, one));
  const high = values.reduce((most, one) => Math.max(most, one));
  if (low < high) return low > 0 && low < high / 2 ? [0, high] : [low, high];
  return low === 0 ? [0, 1] : low > 0 ? [0, low] : [low, 0];
}

function played(ticks: number): string {
  return ticks === 1 ? "1 tick" : `${ticks} ticks`;
}

function valueAt(series: Series, tick: number | null): string {
  const point = tick === null ? series.points.at(-1) : series.points.find(([one]) => one === tick);
  return point ? number(point[1]) : "–";
}

function told(title: string, series: readonly Series[]): string {
  const each = series.map((one) => {
    const [first, last] = [one.points[0], one.points.at(-1)];
    return first && last ? `${one.name}: from ${number(first[1])} to ${number(last[1])} at tick ${last[0]}` : `${one.name}: nothing yet`;
  });
  return `${worded(title)}; ${each.join("; ")}`;
}

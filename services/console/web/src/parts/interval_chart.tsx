/** One metric over the combinations of an experiment: means with their intervals. */

import { number } from "../state/history";
import type { Plot, Row, Spot } from "../state/experiment";
import type { At } from "../state/thinning";
import { worded } from "../state/words";
import { bounds } from "./chart";

const W = 320;
const H = 120;
const SIDE = 16;
const EDGE = 10;
/** Half of the line at an interval's end. */
const CAP = 3.5;
/** Between rows at the same place, at most. */
const APART = 7;
/** Places above which intervals are a band, for so many lines would be a fence. */
const BAND = 14;
/** Combinations that are read out; the table has all of them. */
const TOLD = 24;
/** Labels that fit below. */
const FEW = 6;

export function IntervalChart({ metric, plot }: { metric: string; plot: Plot }) {
  const rows = plot.rows(metric);
  const spots = rows.flatMap((row) => row.spots);
  const [low, high] = bounds(spots.flatMap(({ value }) => [value.mean, value.low ?? value.mean, value.high ?? value.mean]));
  const [left, right] = [plot.below[0]?.[0] ?? 0, plot.below.at(-1)?.[0] ?? 0];
  // What is no number stands in the middle of a part of its own, which leaves room for its name.
  const side = plot.scaled ? SIDE : W / plot.below.length / 2;
  const x = (at: number) => (left === right ? W / 2 : side + ((at - left) / (right - left)) * (W - 2 * side));
  const isBand = plot.scaled && plot.below.length > BAND;
  const room = (W - 2 * side) / Math.max(1, plot.below.length - 1) / rows.length;
  const apart = isBand ? 0 : Math.min(APART, 0.6 * room);
  const y = (value: number) => EDGE + (1 - (value - low) / (high - low || 1)) * (H - 2 * EDGE);
  return (
    <figure class="chart intervals">
      <figcaption>
        <span class="name">{worded(metric)}</span>
        <span class="quiet">
          {number(low)} to {number(high)}
        </span>
      </figcaption>
      <svg viewBox={`0 0 ${W} ${H}`} role="img" aria-label={told(metric, rows)}>
        <line class="axis" x1={0} x2={W} y1={y(low)} y2={y(low)} />
        <line class="axis faint" x1={0} x2={W} y1={y(high)} y2={y(high)} />
        {rows.map((row, place) => (
          <g key={row.name} class={`row-${place % 8}`} transform={`translate(${apart * (place - (rows.length - 1) / 2)} 0)`}>
            {isBand && <path class="band" d={`${path(row.spots.map(({ x: at, value }) => [x(at), y(value.high ?? value.mean)]))}${back(row.spots.map(({ x: at, value }) => [x(at), y(value.low ?? value.mean)]))}Z`} />}
            {plot.scaled && <path class="line" d={path(row.spots.map((spot) => [x(spot.x), y(spot.value.mean)]))} />}
            {!isBand && row.spots.map((spot) => <Mean key={spot.x} spot={spot} x={x(spot.x)} y={y} />)}
          </g>
        ))}
      </svg>
      <Below plot={plot} x={x} />
    </figure>
  );
}

function path(points: readonly At[]): string {
  return points.map(([x, y], place) => `${place ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}

/** On from where a path is, through the points from the last to the first. */
function back(points: readonly At[]): string {
  return path([...points].reverse()).replace("M", "L");
}

function Mean({ spot, x, y }: { spot: Spot; x: number; y: (value: number) => number }) {
  const { mean, low, high } = spot.value;
  return (
    <g>
      <title>{`${spot.label ? `${spot.label}: ` : ""}${spelled(spot)}`}</title>
      {low !== null && high !== null && <path class="whisker" d={`M${x} ${y(low)}V${y(high)}M${x - CAP} ${y(low)}h${2 * CAP}M${x - CAP} ${y(high)}h${2 * CAP}`} />}
      <circle class="dot" r="3.2" cx={x} cy={y(mean)} />
    </g>
  );
}

function Below({ plot, x }: { plot: Plot; x: (at: number) => number }) {
  const shown = plot.below.length <= FEW ? plot.below : [plot.below[0]!, plot.below.at(-1)!];
  return (
    <p class="places" aria-hidden="true">
      {shown.map(([at, text]) => (
        <span key={at} style={{ left: `${(100 * x(at)) / W}%`, maxWidth: `${Math.round(96 / shown.length)}%` }}>
          {text}
        </span>
      ))}
    </p>
  );
}

/** A mean with its interval and the number of seeds, in words. */
export function spelled({ value: { mean, low, high, n } }: Spot): string {
  const interval = low === null || high === null ? "" : ` (${number(low)} to ${number(high)})`;
  return `${number(mean)}${interval}, ${n} ${n === 1 ? "seed" : "seeds"}`;
}

function told(metric: string, rows: readonly Row[]): string {
  const all = rows.flatMap((row) => row.spots.map((spot) => `${spot.label ? `${spot.label}: ` : ""}${spelled(spot)}`));
  const more = all.length > TOLD ? `; and ${all.length - TOLD} more in the table` : "";
  return `${worded(metric)}; ${all.slice(0, TOLD).join("; ") || "nothing yet"}${more}`;
}

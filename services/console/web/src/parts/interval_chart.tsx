/** One metric over the combinations of an experiment: means with their intervals. */

import { number } from "../state/history";
import type { Plot, Row, Spot } from "../state/experiment";
import { bounds } from "./chart";

const W = 320;
const H = 120;
const SIDE = 16;
const EDGE = 10;
/** Half of the line at an interval's end. */
const CAP = 3.5;
/** Between rows at the same place. */
const APART = 7;
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
  const y = (value: number) => EDGE + (1 - (value - low) / (high - low || 1)) * (H - 2 * EDGE);
  return (
    <figure class="chart intervals">
      <figcaption>
        <span class="name">{metric.replaceAll("_", " ")}</span>
        <span class="quiet">
          {number(low)} to {number(high)}
        </span>
      </figcaption>
      <svg viewBox={`0 0 ${W} ${H}`} role="img" aria-label={told(metric, rows)}>
        <line class="axis" x1={0} x2={W} y1={y(low)} y2={y(low)} />
        <line class="axis faint" x1={0} x2={W} y1={y(high)} y2={y(high)} />
        {rows.map((row, place) => (
          <g key={row.name} class={`row-${place % 8}`} transform={`translate(${APART * (place - (rows.length - 1) / 2)} 0)`}>
            {plot.scaled && <path class="line" d={row.spots.map((spot, at) => `${at ? "L" : "M"}${x(spot.x).toFixed(1)} ${y(spot.value.mean).toFixed(1)}`).join("")} />}
            {row.spots.map((spot) => (
              <Mean key={spot.x} spot={spot} x={x(spot.x)} y={y} />
            ))}
          </g>
        ))}
      </svg>
      <Below plot={plot} x={x} />
    </figure>
  );
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
  return `${metric.replaceAll("_", " ")}; ${all.join("; ") || "nothing yet"}`;
}

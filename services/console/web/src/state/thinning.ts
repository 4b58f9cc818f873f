/** Fewer points that draw the same line. */

export type At = readonly [x: number, y: number];

/** First, lowest, highest and last point of each of `columns` equal parts: what a line of that many pixels can show. */
export function thinned(points: readonly At[], columns: number): readonly At[] {
  if (points.length <= 4 * columns) return points;
  const kept: At[] = [];
  for (let column = 0; column < columns; column += 1) {
    const part = points.slice(Math.floor((column * points.length) / columns), Math.floor(((column + 1) * points.length) / columns));
    const low = part.reduce((least, one) => (one[1] < least[1] ? one : least));
    const high = part.reduce((most, one) => (one[1] > most[1] ? one : most));
    const shown = new Set([part[0]!, low, high, part.at(-1)!]);
    kept.push(...[...shown].sort(([a], [b]) => a - b));
  }
  return kept;
}

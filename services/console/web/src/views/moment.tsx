/** The tick that is looked at: a slider over the history, and playing it again at a reader's pace. */

import { useEffect, useId, useState } from "preact/hooks";

import { IconButton } from "../parts/basics";
import type { Run } from "../state/run";
import { useShortcuts } from "../state/shortcuts";
import { useValue } from "../state/value";

const PACE_MS = 1400;

export function Moment({ run }: { run: Run }) {
  const id = useId();
  const { at } = useValue(run.seen);
  const [playing, setPlaying] = useState(false);
  const ticks = run.ticks;
  const now = at ?? ticks;
  const look = (tick: number) => run.look(Math.max(0, Math.min(ticks, tick)));
  const live = () => {
    setPlaying(false);
    run.look(null);
  };
  useEffect(() => {
    if (!playing) return undefined;
    const timer = setInterval(() => {
      const next = (run.seen.now.at ?? 0) + 1;
      if (next > run.ticks) {
        setPlaying(false);
        run.look(null);
      } else run.look(next);
    }, PACE_MS);
    return () => clearInterval(timer);
  }, [playing, run]);
  const play = () => {
    if (!playing && (at === null || at >= ticks)) run.look(0);
    setPlaying(!playing);
  };
  useShortcuts({ "[": () => look(now - 1), "]": () => look(now + 1), e: live });
  return (
    <div class="moment" role="group" aria-label="The tick that is looked at">
      <IconButton icon={playing ? "pause" : "play"} label={playing ? "Stop replaying" : "Replay from here"} press={play} disabled={!ticks} />
      <label for={id}>
        {at === null ? "Newest" : "Looking at"} <strong>tick {now}</strong>
      </label>
      <input id={id} type="range" min={0} max={ticks} step={1} value={now} style={{ "--fill": ticks ? `${(100 * now) / ticks}%` : "0%" }} disabled={!ticks} onInput={(event) => look(Number(event.currentTarget.value))} />
      <button type="button" class="small" disabled={at === null} onClick={live}>
        Newest
      </button>
    </div>
  );
}

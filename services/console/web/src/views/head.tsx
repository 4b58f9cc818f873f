/** What is watched, how it stands, and the buttons that move it. */

import { useState } from "preact/hooks";

import * as api from "../api/simulations";
import type { Fields, SimulationDetail } from "../api/types";
import { Problem, StatusBadge, StopDialog, useRest, useTask } from "../parts/basics";
import { Icon } from "../parts/icon";
import { combination } from "../state/experiment";
import { link } from "../state/router";
import type { Run } from "../state/run";
import { useShortcuts } from "../state/shortcuts";
import { useValue } from "../state/value";
import { worded } from "../state/words";

/** Why there is nothing to fork or to export. */
const NOTHING = "No tick has been played yet";
const STILL = ["created", "paused", "failed"];
const GO_ON: Record<string, string> = { created: "Begin", failed: "Try again" };

export function Head({ run, fork }: { run: Run; fork: () => void }) {
  const { detail, connection } = useValue(run.seen);
  const task = useTask();
  const [stopping, setStopping] = useState(false);
  const [stopped, setStopped] = useState(false);
  const moved = async (what: api.Order) => {
    await api.order(run.id, what);
    await run.refresh();
  };
  const order = (what: api.Order) => void task.run(() => moved(what));
  const stop = async () => {
    await moved("stop");
    setStopped(true);
  };
  const over = !detail || api.isOver(detail.status);
  const still = STILL.includes(detail?.status ?? "");
  const idle = over || task.busy;
  const title = useRest(stopped && over && !stopping);
  useShortcuts({
    p: () => !idle && order(still ? "resume" : "pause"),
    s: () => !idle && still && order("step"),
  });
  if (!detail) return null;
  return (
    <header class="head">
      <div class="title">
        <h1 ref={title} tabIndex={-1}>
          {detail.name}
        </h1>
        <StatusBadge status={detail.status} />
        <p class="facts">
          {worded(detail.scenario)} · tick {run.ticks} of {detail.max_ticks} · seed {detail.spec.seed}
          <Member detail={detail} />
          {detail.reason && !["ended"].includes(detail.status) ? ` · ${detail.reason}` : ""}
        </p>
      </div>
      <div class="orders">
        {!over && (
          <>
            {still ? (
              <button type="button" class="main" disabled={idle} onClick={() => order("resume")}>
                <Icon name="play" /> {GO_ON[detail.status] ?? "Resume"}
              </button>
            ) : (
              <button type="button" disabled={idle} onClick={() => order("pause")}>
                <Icon name="pause" /> Pause
              </button>
            )}
            <button type="button" disabled={idle || !still} title={still ? undefined : "Pause it first"} onClick={() => order("step")}>
              <Icon name="step" /> Step
            </button>
          </>
        )}
        <button type="button" disabled={!run.ticks} title={run.ticks ? undefined : NOTHING} onClick={fork}>
          <Icon name="fork" /> Fork
        </button>
        <a class="button" href={link(["compare"], { a: run.id })}>
          <Icon name="compare" /> Compare
        </a>
        <a class="button" href={link(["new"], { like: run.id })}>
          <Icon name="plus" /> Again
        </a>
        <button type="button" disabled={task.busy || !run.ticks} title={run.ticks ? undefined : NOTHING} onClick={() => void task.run(() => save(run.id))}>
          <Icon name="down" /> Export
        </button>
        {!over && (
          <button type="button" class="danger" disabled={idle} onClick={() => setStopping(true)}>
            <Icon name="stop" /> Stop
          </button>
        )}
      </div>
      <p class={`connection is-${connection}`} role="status">
        {CONNECTION[connection]}
      </p>
      {task.problem && <Problem text={task.problem} />}
      {stopping && (
        <StopDialog title="Stop the simulation" keep="Keep it going" end="Stop it" stop={stop} close={() => setStopping(false)}>
          It ends for good, and its history stays. A fork of it can go on.
        </StopDialog>
      )}
    </header>
  );
}

const CONNECTION = { connecting: "Connecting…", live: "Live", lost: "Connection lost; trying again…", over: "" };

/** The experiment that it is part of, if it is. */
function Member({ detail }: { detail: SimulationDetail }) {
  const experiment = detail.operations.find((operation) => operation.kind === "experiment")?.payload;
  if (!experiment) return null;
  const id = String(experiment.name);
  const values = combination((experiment.values ?? {}) as Fields);
  return (
    <>
      {" · of "}
      <a href={link(["experiments", id])}>{id}</a>
      {values && `: ${values}`}
    </>
  );
}

/** Has the browser keep the bundle as a file. */
async function save(id: string): Promise<void> {
  const address = URL.createObjectURL(await api.bundle(id));
  const anchor = document.createElement("a");
  anchor.href = address;
  anchor.download = `${id}.zip`;
  anchor.click();
  URL.revokeObjectURL(address);
}

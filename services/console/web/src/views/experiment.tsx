/** One experiment: how far it is, and what came of it over its seeds. */

import { useEffect, useMemo, useState } from "preact/hooks";

import * as api from "../api/experiments";
import * as simulations from "../api/simulations";
import type { Interval, Point } from "../api/types";
import { counted, Loading, Problem, StatusBadge, StopDialog, useLoaded, useRest } from "../parts/basics";
import { Icon } from "../parts/icon";
import { IntervalChart } from "../parts/interval_chart";
import { Progress } from "../parts/progress";
import { axesOf, axisName, combination, isSettled, metricsOf, plot, settled, valueOf } from "../state/experiment";
import { number } from "../state/history";
import { link } from "../state/router";
import { worded } from "../state/words";

const REFRESH_MS = 1500;

export function ExperimentPage({ id }: { id: string }) {
  const loaded = useLoaded(() => api.find(id), [id], (one) => (isSettled(one) ? null : REFRESH_MS));
  const [stopping, setStopping] = useState(false);
  const [stopped, setStopped] = useState(false);
  const experiment = loaded.value;
  const over = experiment !== null && isSettled(experiment);
  const title = useRest(stopped && over && !stopping);
  useEffect(() => {
    document.title = `${experiment?.name ?? id} · Steerline`;
  }, [experiment?.name, id]);
  if (!experiment) {
    return (
      <div class="page">
        {loaded.problem ? <Problem text={loaded.problem} again={loaded.again} /> : <Loading rows={8} label="Loading the experiment" />}
        {loaded.problem && <a href={link(["experiments"])}>All experiments</a>}
      </div>
    );
  }
  const left = experiment.simulations - settled(experiment.states);
  const stop = async () => {
    await api.stop(id);
    setStopped(true);
    loaded.again();
  };
  return (
    <div class="page experiment">
      <header class="page-head">
        <h1 ref={title} tabIndex={-1}>
          {experiment.name}
        </h1>
        <a class="button" href={link(["new"], { experiment: id })}>
          <Icon name="plus" /> Another like it
        </a>
        {!over && (
          <button type="button" class="danger" onClick={() => setStopping(true)}>
            <Icon name="stop" /> Stop
          </button>
        )}
      </header>
      <Progress states={experiment.states} of={experiment.simulations} />
      {loaded.problem && <Problem text={loaded.problem} again={loaded.again} />}
      <Results points={experiment.points} />
      {stopping && (
        <StopDialog title="Stop the experiment" keep="Keep it going" end={left === 1 ? "Stop it" : "Stop them"} stop={stop} close={() => setStopping(false)}>
          {counted(left, "simulation")} will be stopped for good. What has ended stays, with its numbers.
        </StopDialog>
      )}
    </div>
  );
}

function Results({ points }: { points: Point[] }) {
  const axes = axesOf(points);
  const metrics = metricsOf(points);
  const drawing = useMemo(() => plot(points), [points]);
  const rows = drawing.rows("").map((row) => row.name);
  return (
    <>
      <section aria-label="Charts">
        <h2>{drawing.axis ? `Along ${axisName(drawing.axis, axes)}` : "Over the seeds"}</h2>
        {!metrics.length && <p class="quiet">The first simulation that ends brings the first numbers.</p>}
        {metrics.length > 0 && (
          <>
            <p class="quiet">Means over the seeds that have ended, with their 95 % intervals.</p>
            {rows.length > 1 && (
              <ul class="legend">
                {rows.map((name, place) => (
                  <li key={name} class={`row-${place % 8}`}>
                    {name}
                  </li>
                ))}
              </ul>
            )}
            <div class="charts sheet">
              {metrics.map((metric) => (
                <IntervalChart key={metric} metric={metric} plot={drawing} />
              ))}
            </div>
          </>
        )}
      </section>
      <section aria-label="In numbers">
        <h2>In numbers</h2>
        <div class="scrolls" tabIndex={0} role="group" aria-label="Table of all combinations">
          <table class="cells">
            <thead>
              <tr>
                {axes.map((axis) => (
                  <th key={axis} scope="col" title={axis}>
                    {axisName(axis, axes)}
                  </th>
                ))}
                <th scope="col">Simulations</th>
                {metrics.map((metric) => (
                  <th key={metric} scope="col" class="number">
                    {worded(metric)}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {points.map((point) => (
                <Cell key={JSON.stringify(point.values)} point={point} axes={axes} metrics={metrics} />
              ))}
            </tbody>
          </table>
        </div>
      </section>
    </>
  );
}

function Cell({ point, axes, metrics }: { point: Point; axes: string[]; metrics: string[] }) {
  const [open, setOpen] = useState(false);
  const name = combination(point.values) || "all";
  return (
    <>
      <tr>
        {axes.map((axis) => (
          <th key={axis} scope="row">
            {valueOf(point.values, axis)}
          </th>
        ))}
        <td>
          <button type="button" class="small" aria-expanded={open} aria-label={`${settled(point.states)} of ${point.simulations.length}, simulations of ${name}`} onClick={() => setOpen(!open)}>
            {settled(point.states)} of {point.simulations.length}
          </button>
        </td>
        {metrics.map((metric) => (
          <td key={metric} class="number">
            <Mean value={point.metrics[metric]} />
          </td>
        ))}
      </tr>
      {open && (
        <tr>
          <td colSpan={axes.length + metrics.length + 1}>
            <Members ids={point.simulations} name={name} />
          </td>
        </tr>
      )}
    </>
  );
}

function Mean({ value }: { value: Interval | undefined }) {
  if (!value) return <>–</>;
  return (
    <>
      {number(value.mean)}
      {value.low !== null && value.high !== null && (
        <span class="quiet">
          {number(value.low)} to {number(value.high)}
        </span>
      )}
    </>
  );
}

/** Beyond it the list would be longer than anybody reads. */
const LISTED = 40;

function Members({ ids, name }: { ids: string[]; name: string }) {
  const loaded = useLoaded(() => Promise.all(ids.slice(0, LISTED).map(simulations.find)), [ids.join()]);
  return (
    <>
      {loaded.problem && <Problem text={loaded.problem} again={loaded.again} />}
      {!loaded.value && !loaded.problem && <Loading rows={2} label="Loading its simulations" />}
      <ul class="among" aria-label={`Simulations of ${name}`}>
        {loaded.value?.map((one) => (
          <li key={one.id}>
            <a href={link(["run", one.id])}>seed {one.seed}</a> <StatusBadge status={one.status} />
          </li>
        ))}
        {ids.length > LISTED && <li class="quiet">and {ids.length - LISTED} more in the list of simulations</li>}
      </ul>
    </>
  );
}

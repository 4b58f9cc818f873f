/** All experiments and how far they are. */

import { useEffect, useRef, useState } from "preact/hooks";

import * as api from "../api/experiments";
import type { Experiment, ExperimentDetail } from "../api/types";
import { Empty, Loading, Older, Problem, useLoaded } from "../parts/basics";
import { Progress } from "../parts/progress";
import { isSettled, moves } from "../state/experiment";
import { link } from "../state/router";

const REFRESH_MS = 4000;
/** What stands still waits for somebody. */
const STILL_MS = 20_000;
const NEW = link(["new"], { experiment: "" });

export function Experiments() {
  const [pages, setPages] = useState(1);
  const loaded = useLoaded(() => api.list(pages), [pages]);
  useEffect(() => {
    document.title = "Experiments · Steerline";
  }, []);
  const all = loaded.value?.data ?? [];
  return (
    <div class="page">
      <header class="page-head">
        <h1>Experiments</h1>
        <a class="button main" href={NEW}>
          New experiment
        </a>
      </header>
      {loaded.problem && <Problem text={loaded.problem} again={loaded.again} />}
      {!loaded.value && !loaded.problem && <Loading rows={6} label="Loading the experiments" />}
      {loaded.value && !all.length && (
        <Empty title="No experiment yet">
          <p>An experiment plays one simulation many times: over values of whatever you vary, a steering strength say, and over seeds. It tells means with their intervals.</p>
          <a class="button main" href={NEW}>
            Start the first
          </a>
        </Empty>
      )}
      {all.length > 0 && (
        <table class="list whole">
          <thead>
            <tr>
              <th scope="col">Name</th>
              <th scope="col">How its simulations stand</th>
            </tr>
          </thead>
          <tbody>
            {all.map((one) => (
              <Row key={one.id} experiment={one} />
            ))}
          </tbody>
        </table>
      )}
      <Older next={loaded.value?.next} show={() => setPages(pages + 1)} />
    </div>
  );
}

function Row({ experiment }: { experiment: Experiment }) {
  const row = useRef<HTMLTableRowElement>(null);
  const find = async () => {
    await onScreen(row.current!);
    return await api.find(experiment.id);
  };
  const loaded = useLoaded(find, [experiment.id], refresh);
  return (
    <tr ref={row}>
      <th scope="row">
        <a href={link(["experiments", experiment.id])}>{experiment.name}</a> <code class="id">{experiment.id}</code>
      </th>
      <td>{loaded.problem ? loaded.problem : loaded.value ? <Progress states={loaded.value.states} of={experiment.simulations} /> : `${experiment.simulations} simulations`}</td>
    </tr>
  );
}

function refresh(experiment: ExperimentDetail): number | null {
  if (isSettled(experiment)) return null;
  return moves(experiment) ? REFRESH_MS : STILL_MS;
}

/** Waits until something is seen, so that no call is made for what is not. */
function onScreen(element: Element): Promise<void> {
  return new Promise((seen) => {
    const observer = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      observer.disconnect();
      seen();
    });
    observer.observe(element);
  });
}

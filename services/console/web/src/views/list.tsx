/** All simulations and how they stand. */

import { useEffect, useState } from "preact/hooks";

import * as api from "../api/simulations";
import { Empty, Loading, Older, Problem, StatusBadge, useLoaded } from "../parts/basics";
import { link } from "../state/router";
import { worded } from "../state/words";

const REFRESH_MS = 3000;
const STATUSES = ["created", "running", "waiting", "paused", "ended", "stopped", "failed"];

export function List() {
  const [text, setText] = useState("");
  const [pages, setPages] = useState(1);
  const [status, setStatus] = useState("");
  const loaded = useLoaded(() => api.list(pages, status), [pages, status], () => REFRESH_MS);
  useEffect(() => {
    document.title = "Simulations · Steerline";
  }, []);
  const all = loaded.value?.data ?? [];
  const shown = all.filter((one) => `${one.name} ${one.id} ${one.scenario} ${one.status}`.toLowerCase().includes(text.toLowerCase()));
  return (
    <div class="page">
      <header class="page-head">
        <h1>Simulations</h1>
        {(all.length > 0 || status) && (
          <>
            <input type="search" aria-label="Find simulations" placeholder="Find…" value={text} onInput={(event) => setText(event.currentTarget.value)} />
            <select aria-label="How they stand" value={status} onChange={(event) => setStatus(event.currentTarget.value)}>
              <option value="">however they stand</option>
              {STATUSES.map((one) => (
                <option key={one}>{one}</option>
              ))}
            </select>
          </>
        )}
        <a class="button main" href={link(["new"])}>
          New simulation
        </a>
      </header>
      {loaded.problem && <Problem text={loaded.problem} again={loaded.again} />}
      {!loaded.value && !loaded.problem && <Loading rows={6} label="Loading the simulations" />}
      {loaded.value && !all.length && status && <p class="quiet">No simulation is {status} now.</p>}
      {loaded.value && !all.length && !status && (
        <Empty title="No simulation yet">
          <p>Start one from a form: choose a scenario, who plays, and how the models among them are steered.</p>
          <a class="button main" href={link(["new"])}>
            Start the first
          </a>
        </Empty>
      )}
      {all.length > 0 && !shown.length && <p class="quiet">Nothing is called “{text}”.</p>}
      {shown.length > 0 && (
        <table class="list">
          <thead>
            <tr>
              <th scope="col">Name</th>
              <th scope="col">Scenario</th>
              <th scope="col">Status</th>
              <th scope="col" class="number">
                Ticks
              </th>
              <th scope="col" class="number">
                Seed
              </th>
              <th scope="col">Begun</th>
              <th scope="col">
                <span class="hidden">Actions</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {shown.map((one) => (
              <tr key={one.id}>
                <th scope="row">
                  <a href={link(["run", one.id])}>{one.name}</a> {one.name !== one.id && <code class="id">{one.id}</code>}
                </th>
                <td data-label="Scenario">{worded(one.scenario)}</td>
                <td data-label="Status">
                  <StatusBadge status={one.status} />
                </td>
                <td data-label="Ticks" class="number">
                  {one.tick}
                  <span class="quiet"> / {one.max_ticks}</span>
                </td>
                <td data-label="Seed" class="number">
                  {one.seed}
                </td>
                <td data-label="Begun">{ago(one.created)}</td>
                <td>
                  <a class="quiet" href={link(["compare"], { a: one.id })} aria-label={`Compare ${one.name}`}>
                    Compare
                  </a>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      <Older next={loaded.value?.next} show={() => setPages(pages + 1)} />
    </div>
  );
}

function ago(seconds: number): string {
  const past = Date.now() / 1000 - seconds;
  if (past < 60) return "just now";
  if (past < 3600) return `${Math.round(past / 60)} min ago`;
  if (past < 86_400) return `${Math.round(past / 3600)} h ago`;
  return new Date(seconds * 1000).toLocaleDateString();
}

/** Two simulations side by side: where they part, and their metrics in one drawing. */

import { useEffect } from "preact/hooks";

import * as api from "../api/simulations";
import type { Event, SimulationDetail } from "../api/types";
import { Empty, Loading, Problem, StatusBadge, useLoaded } from "../parts/basics";
import { Chart, type Series } from "../parts/chart";
import { firstDifference, type Difference } from "../state/difference";
import { add, number, shown, start, type History } from "../state/history";
import { go, link, place } from "../state/router";
import { useValue } from "../state/value";
import { worded } from "../state/words";

interface Told {
  detail: SimulationDetail;
  events: Event[];
  history: History;
}

async function told(id: string): Promise<Told> {
  const [detail, events] = await Promise.all([api.find(id), api.events(id)]);
  const history = start(detail.spec);
  for (const event of events) add(history, event);
  return { detail, events, history };
}

export function Compare() {
  const { query } = useValue(place);
  const [a, b] = [query.get("a") ?? "", query.get("b") ?? ""];
  const all = useLoaded(() => api.list(3), []);
  useEffect(() => {
    document.title = "Compare · Steerline";
  }, []);
  const choose = (which: "a" | "b", id: string) => go(["compare"], { a, b, [which]: id });
  const found = all.value?.data ?? [];
  return (
    <div class="page compare">
      <header class="page-head">
        <h1>Compare</h1>
      </header>
      {all.problem && <Problem text={all.problem} again={all.again} />}
      {all.value && found.length < 2 && (
        <Empty title="Two simulations are needed">
          <p>Start another one, or fork one at a tick and change an agent.</p>
          <a class="button main" href={link(["new"])}>
            New simulation
          </a>
        </Empty>
      )}
      {found.length >= 2 && (
        <div class="pair">
          {(["a", "b"] as const).map((which, line) => (
            <label key={which} class={`line-${line}`}>
              <span>{which === "a" ? "First" : "Second"}</span>
              <select value={which === "a" ? a : b} onChange={(event) => choose(which, event.currentTarget.value)}>
                <option value="">choose…</option>
                {found.map((one) => (
                  <option key={one.id} value={one.id}>
                    {one.name === one.id ? one.id : `${one.name} · ${one.id}`}
                  </option>
                ))}
              </select>
            </label>
          ))}
        </div>
      )}
      {found.length >= 2 && !(a && b) && (
        <Empty title="Choose two simulations">
          <p>Best a fork and the one that it comes from, or two that differ in one thing: what parts them is then what that thing brought about.</p>
        </Empty>
      )}
      {a && b && <Both key={`${a} ${b}`} a={a} b={b} />}
    </div>
  );
}

function Both({ a, b }: { a: string; b: string }) {
  const both = useLoaded(() => Promise.all([told(a), told(b)]), [a, b]);
  return (
    <>
      {both.problem && <Problem text={both.problem} again={both.again} />}
      {!both.value && !both.problem && <Loading rows={6} label="Loading both" />}
      {both.value && <Pair one={both.value[0]} other={both.value[1]} />}
    </>
  );
}

function Pair({ one, other }: { one: Told; other: Told }) {
  const names = [...new Set([...one.history.metrics.keys(), ...other.history.metrics.keys()])];
  const ticks = Math.max(one.history.ticks, other.history.ticks);
  const difference = firstDifference(one.events, other.events);
  return (
    <>
      <section class="parting" aria-label="Where they part">
        <h2>{headline(difference)}</h2>
        {difference && (
          <div class="sides">
            <Side run={one} event={difference.one} line={0} />
            <Side run={other} event={difference.other} line={1} />
          </div>
        )}
      </section>
      <section aria-label="Metrics of both">
        <h2>Metrics</h2>
        <div class="charts">
          {names.map((name) => {
            const series: Series[] = [one, other].map((run) => ({ name: run.detail.name, points: run.history.metrics.get(name) ?? [] }));
            return <Chart key={name} title={name} series={series} ticks={ticks} marks={[]} />;
          })}
        </div>
      </section>
      <section aria-label="In numbers">
        <h2>At the end</h2>
        <table class="list numbers">
          <thead>
            <tr>
              <th scope="col">Metric</th>
              <th scope="col" class="number line-0">{one.detail.name}</th>
              <th scope="col" class="number line-1">{other.detail.name}</th>
              <th scope="col" class="number">Difference</th>
            </tr>
          </thead>
          <tbody>
            {names.map((name) => {
              const [mine, yours] = [last(one, name), last(other, name)];
              const gap = mine === null || yours === null ? null : yours - mine;
              return (
                <tr key={name}>
                  <th scope="row">{worded(name)}</th>
                  <td class="number">{mine === null ? "–" : number(mine)}</td>
                  <td class="number">{yours === null ? "–" : number(yours)}</td>
                  <td class="number">{gap === null ? "–" : `${gap > 0 ? "+" : ""}${number(gap)}`}</td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </section>
    </>
  );
}

function last(run: Told, name: string): number | null {
  return run.history.metrics.get(name)?.at(-1)?.[1] ?? null;
}

function headline(difference: Difference | null): string {
  if (!difference) return "They do not differ";
  const tick = (difference.one ?? difference.other)?.tick ?? 0;
  return `They part in tick ${tick + 1}, after ${difference.shared} equal events`;
}

function Side({ run, event, line }: { run: Told; event: Event | null; line: number }) {
  const entry = run.history.entries.find((one) => one.seq === event?.seq);
  return (
    <article class={`side line-${line}`}>
      <header>
        <a href={link(["run", run.detail.id])}>{run.detail.name}</a> <StatusBadge status={run.detail.status} />
      </header>
      {event ? (
        <>
          <p class="kind">
            {entry?.agent ?? event.agent ?? "the world"} · {event.kind.replace(".", " ")}
          </p>
          {entry ? (
            <>
              <p class="deed">{entry.what}</p>
              <div class="text">{entry.text.trim() === entry.what ? "" : entry.text}</div>
            </>
          ) : (
            <div class="text">{shown(event.payload)}</div>
          )}
        </>
      ) : (
        <p class="quiet">It has nothing more to tell.</p>
      )}
    </article>
  );
}

/** One simulation: live or at any tick, with all that can be done to it. */

import { useEffect, useMemo, useState } from "preact/hooks";

import * as api from "../api/simulations";
import { Loading, Problem, useLoaded } from "../parts/basics";
import { Chart } from "../parts/chart";
import { Graph } from "../parts/graph";
import { Transcript } from "../parts/transcript";
import type { History } from "../state/history";
import { link } from "../state/router";
import { Run } from "../state/run";
import { useShortcuts } from "../state/shortcuts";
import { useValue } from "../state/value";
import { AgentList, Inspector } from "./agents";
import { ForkDialog } from "./fork";
import { Head } from "./head";
import { Moment } from "./moment";
import { Seat } from "./seat";

const PANES = ["Transcript", "Agents", "Metrics"] as const;
type Pane = (typeof PANES)[number];

export function Watch({ id }: { id: string }) {
  const run = useMemo(() => new Run(id), [id]);
  useEffect(() => () => run.close(), [run]);
  const { detail, history, at, questions, problem, connection } = useValue(run.seen);
  const [agent, setAgent] = useState<string | null>(null);
  const [pane, setPane] = useState<Pane>("Transcript");
  const [forking, setForking] = useState(false);
  useEffect(() => {
    document.title = `${id} · Steerline`;
  }, [id]);
  useShortcuts({ f: () => run.ticks > 0 && setForking(true) });

  if (!detail || !history) {
    return (
      <div class="page">
        {problem ? <Problem text={problem} /> : <Loading rows={8} label="Loading the simulation" />}
        {problem && <a href={link([])}>All simulations</a>}
      </div>
    );
  }
  const choose = (one: string | null) => {
    setAgent(one);
    if (one) setPane("Agents");
  };
  return (
    <div class="watch" data-pane={pane}>
      <Head run={run} fork={() => setForking(true)} />
      {problem && connection !== "lost" && <Problem text={problem} />}
      {questions.map((question) => (
        <Seat key={question.id} run={run} question={question} />
      ))}
      <div class="panes" role="group" aria-label="What is shown">
        {PANES.map((name) => (
          <button key={name} type="button" aria-pressed={pane === name} onClick={() => setPane(name)}>
            {name}
          </button>
        ))}
      </div>
      <div class="columns">
        <section class="pane agents" aria-label="Agents">
          <Graph history={history} topology={detail.spec.topology} chosen={agent} choose={choose} />
          {agent && history.members.has(agent) ? (
            <Inspector run={run} member={history.members.get(agent)!} at={at} close={() => setAgent(null)} />
          ) : (
            <AgentList history={history} choose={choose} />
          )}
        </section>
        <section class="pane story" aria-label="What happens">
          {agent && (
            <p class="filter">
              Only what concerns <strong>{agent}</strong>
              <button type="button" class="small" onClick={() => setAgent(null)}>
                Show all
              </button>
            </p>
          )}
          <Transcript history={history} agent={agent} live={at === null} choose={choose} />
        </section>
        <section class="pane metrics" aria-label="Metrics" tabIndex={0}>
          <Metrics history={history} max={Math.max(run.ticks, 2)} at={at} pick={(tick) => run.look(tick)} />
          <WorldState run={run} tick={at ?? run.ticks} />
        </section>
      </div>
      <Moment run={run} />
      {forking && <ForkDialog run={run} close={() => setForking(false)} />}
    </div>
  );
}

/** The scenario's state, loaded once somebody opens it. */
function WorldState({ run, tick }: { run: Run; tick: number }) {
  const [open, setOpen] = useState(false);
  const loaded = useLoaded(async () => (open && tick > 0 ? await api.state(run.id, tick) : null), [open, tick]);
  return (
    <details class="state" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>State of the world after tick {tick}</summary>
      {loaded.problem && <Problem text={loaded.problem} again={loaded.again} />}
      {tick === 0 && <p class="quiet">The first tick has not been played.</p>}
      {loaded.value && <pre tabIndex={0}>{JSON.stringify(loaded.value.state, null, 1)}</pre>}
    </details>
  );
}

interface MetricsProps {
  history: History;
  max: number;
  at: number | null;
  pick: (tick: number) => void;
}

function Metrics({ history, max, at, pick }: MetricsProps) {
  if (!history.metrics.size) return <p class="quiet">The first tick brings the first numbers.</p>;
  return (
    <div class="charts">
      {[...history.metrics].map(([name, points]) => (
        <Chart key={name} title={name} series={[{ name, points }]} ticks={max} marks={history.marks} at={at} pick={pick} />
      ))}
    </div>
  );
}

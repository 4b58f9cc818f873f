/** The agents of a simulation: all of them in short, or one with its memory, its steering and a word with it. */

import { useEffect, useState } from "preact/hooks";

import * as api from "../api/simulations";
import { Badge } from "../parts/badge";
import { IconButton, Loading, Problem, Slider, useLoaded, useTask } from "../parts/basics";
import { number, type History, type Member } from "../state/history";
import { link } from "../state/router";
import type { Run } from "../state/run";
import { decides, MOST } from "../state/steering";
import { useValue } from "../state/value";

/** Beyond it the list would be longer than anybody reads. */
const LISTED = 200;

export function AgentList({ history, choose }: { history: History; choose: (agent: string) => void }) {
  const members = [...history.members.values()];
  const all = members.map((one) => one.id);
  return (
    <ul class="members">
      {members.slice(0, LISTED).map((one) => (
        <li key={one.id}>
          <button type="button" onClick={() => choose(one.id)} class={one.gone ? "gone" : ""}>
            <Badge agent={one.id} all={all} steered={(one.strength ?? 0) > 0} />
            <span class="who">{one.id}</span>
            <span class="brain">{decides(one.spec?.brain)}</span>
            {(one.strength ?? 0) > 0 && <span class="steered-by">steered {one.strength}</span>}
            <span class="last">{one.gone ? "left" : short(one.last)}</span>
          </button>
        </li>
      ))}
      {members.length > LISTED && <li class="quiet">and {members.length - LISTED} more; the graph shows the busiest</li>}
    </ul>
  );
}

function short(text: string): string {
  return text.length > 24 ? `${text.slice(0, 23)}…` : text;
}

interface InspectorProps {
  run: Run;
  member: Member;
  at: number | null;
  close: () => void;
}

export function Inspector({ run, member, at, close }: InspectorProps) {
  const { history, detail } = useValue(run.seen);
  const over = detail !== null && api.isOver(detail.status);
  const all = history ? [...history.members.keys()] : [];
  const profile = profileOf(member);
  return (
    <div class="inspector">
      <header>
        <Badge agent={member.id} all={all} steered={(member.strength ?? 0) > 0} />
        <h2>{member.id}</h2>
        <IconButton icon="close" label="Back to all agents" press={close} />
      </header>
      <dl>
        <dt>Decides</dt>
        <dd>{decides(member.spec?.brain)}</dd>
        <dt>Turns</dt>
        <dd>
          {member.turns} <span class="quiet">({member.said} {member.said === 1 ? "message" : "messages"} sent)</span>
        </dd>
        {member.earned !== null && (
          <>
            <dt>Feedback</dt>
            <dd>{number(member.earned)} in all</dd>
          </>
        )}
        {profile && (
          <>
            <dt>Profile</dt>
            <dd>{profile}</dd>
          </>
        )}
      </dl>
      {over ? (
        <p class="quiet">
          The simulation is over. In a fork, {member.id} can be asked and steered.
        </p>
      ) : (
        <>
          <Steering key={`steering ${member.id}`} run={run} member={member} />
          <Talk key={`talk ${member.id}`} run={run} agent={member.id} />
        </>
      )}
      <Memory key={`memory ${member.id}`} run={run} member={member} at={at} />
    </div>
  );
}

function profileOf(member: Member): string {
  const profile = member.spec?.profile ?? {};
  const told = Object.entries(profile).filter(([name, value]) => {
    const none = value === null || value === "" || (Array.isArray(value) && !value.length);
    return !none && !["provenance", "source_ref"].includes(name) && !(typeof value === "object" && !Object.keys(value!).length);
  });
  return told
    .map(([name, value]) => {
      const text = Array.isArray(value) ? value.join(", ") : typeof value === "object" ? JSON.stringify(value) : String(value);
      return `${name}: ${text}`;
    })
    .join("; ");
}

function Steering({ run, member }: { run: Run; member: Member }) {
  // Moved by hand; sent, and not acting yet; what acts.
  const [moved, setMoved] = useState<number | null>(null);
  const [sent, setSent] = useState<number | null>(null);
  const task = useTask();
  useEffect(() => setSent(null), [member.strength]);
  if (member.strength === null) return null;
  const set = sent ?? member.strength;
  const strength = moved ?? set;
  const apply = () =>
    void task.run(async () => {
      await api.steer(run.id, member.id, strength);
      setSent(strength);
      setMoved((now) => (now === strength ? null : now)); // It may have been moved meanwhile.
      await run.refresh();
    });
  return (
    <form class="steering" onSubmit={(event) => (event.preventDefault(), apply())}>
      <Slider label="Steering strength" value={strength} most={MOST} change={setMoved} help="0 is the plain model, 1 the paper's." />
      <button type="submit" disabled={task.busy || strength === set}>
        Steer from the next tick
      </button>
      <p class="help" role="status">
        {strength === set && set !== member.strength && "Sent. It acts from the next tick on."}
      </p>
      {task.problem && <Problem text={task.problem} />}
    </form>
  );
}

function Talk({ run, agent }: { run: Run; agent: string }) {
  const [text, setText] = useState("");
  const [remember, setRemember] = useState(false);
  const [told, setTold] = useState("");
  const task = useTask();
  const act = (what: () => Promise<unknown>, done: string) =>
    void task.run(async () => {
      setTold("");
      await what();
      setTold(done);
      setText((now) => (now === text ? "" : now)); // More may have been written meanwhile.
      await run.refresh();
    });
  return (
    <form class="talk" onSubmit={(event) => (event.preventDefault(), act(() => api.interview(run.id, agent, text, remember), "Asked. The answer comes in the transcript, at the next tick."))}>
      <label>
        Ask {agent}, or tell it something
        <textarea rows={2} required value={text} onInput={(event) => setText(event.currentTarget.value)} />
      </label>
      <label class="check">
        <input type="checkbox" checked={remember} onChange={(event) => setRemember(event.currentTarget.checked)} />
        it remembers the interview
      </label>
      <div class="row">
        <button type="submit" disabled={task.busy || !text.trim()}>
          Interview
        </button>
        <button type="button" disabled={task.busy || !text.trim()} onClick={() => act(() => api.inject(run.id, text, [agent]), "Sent. It arrives with the next tick.")}>
          Send as a message
        </button>
        <a class="quiet" href={link(["chat"], { model: `agent:${run.id}/${agent}` })}>
          Ask in the chat
        </a>
      </div>
      <p class="quiet" role="status">
        {told}
      </p>
      {task.problem && <Problem text={task.problem} />}
    </form>
  );
}

function Memory({ run, member, at }: { run: Run; member: Member; at: number | null }) {
  const agent = member.id;
  const ticks = at ?? run.ticks;
  const loaded = useLoaded(() => api.memory(run.id, agent, at), [run.id, agent, ticks]);
  return (
    <section class="memory" aria-label={`Memory of ${agent}`}>
      <h3>Memory{at === null ? "" : ` after tick ${at}`}</h3>
      {loaded.problem && <Problem text={loaded.problem} again={loaded.again} />}
      {!loaded.value && !loaded.problem && <Loading rows={3} label="Loading the memory" />}
      {loaded.value && !loaded.value.length && <p class="quiet">It remembers nothing{(member.spec?.memory?.kind ?? "none") === "none" ? ". Agents get a memory in the form that starts them" : " so far"}.</p>}
      <ol>
        {[...(loaded.value ?? [])].reverse().map((record, place) => (
          <li key={place}>
            <span class="kind">
              tick {record.tick + 1} · {record.kind}
              {record.about ? ` · ${record.about}` : ""}
            </span>
            <p>{record.text}</p>
          </li>
        ))}
      </ol>
    </section>
  );
}

/** A conversation with a model, a team or an agent; steered, and if wanted beside the plain model. */

import { useEffect, useRef, useState } from "preact/hooks";

import { words } from "../api/http";
import { chat, isPlayed, models, type ChatMessage, type Usage } from "../api/chat";
import type { Model } from "../api/types";
import { Empty, Field, Loading, Problem, Slider, useLoaded } from "../parts/basics";
import { Icon } from "../parts/icon";
import { link, place } from "../state/router";
import { MOST } from "../state/steering";
import { useValue } from "../state/value";

interface Answer {
  text: string;
  usage: Usage | null;
  problem: string;
  busy: boolean;
  strength: number | null;
  /** Where agents play for the answer. */
  simulation: string;
}

interface Turn {
  question: string;
  answers: Answer[];
}

export function Chat() {
  const loaded = useLoaded(models, []);
  useEffect(() => {
    document.title = "Chat · Steerline";
  }, []);
  return (
    <div class="page chat">
      <header class="page-head">
        <h1>Chat</h1>
      </header>
      {loaded.problem && <Problem text={loaded.problem} again={loaded.again} />}
      {!loaded.value && !loaded.problem && <Loading rows={5} label="Loading the models" />}
      {loaded.value && !loaded.value.length && (
        <Empty title="No model is served">
          <p>
            Models stand under <code>models</code> in the file that the endpoint was started with.
          </p>
        </Empty>
      )}
      {loaded.value && loaded.value.length > 0 && <Conversation models={loaded.value} />}
    </div>
  );
}

function Conversation({ models: all }: { models: Model[] }) {
  const asked = useValue(place).query.get("model");
  const [model, setModel] = useState(asked ?? all[0]!.id);
  const [system, setSystem] = useState("");
  const [strength, setStrength] = useState(0);
  const [beside, setBeside] = useState(false);
  const [temperature, setTemperature] = useState(0);
  const [most, setMost] = useState(128);
  const [turns, setTurns] = useState<Turn[]>([]);
  const [text, setText] = useState("");
  const stop = useRef<AbortController | null>(null);
  const end = useRef<HTMLDivElement>(null);
  const plain = !isPlayed(model);
  const busy = turns.at(-1)?.answers.some((answer) => answer.busy) ?? false;
  useEffect(() => () => stop.current?.abort(), []);
  useEffect(() => end.current?.scrollIntoView({ block: "nearest" }), [turns]);

  const ask = () => {
    const question = text.trim();
    if (!question || busy) return;
    const before = turns;
    const strengths = !plain ? [null] : beside && strength > 0 ? [0, strength] : [strength];
    const fresh = strengths.map((one): Answer => ({ text: "", usage: null, problem: "", busy: true, strength: one, simulation: "" }));
    stop.current = new AbortController();
    setTurns([...before, { question, answers: fresh }]);
    setText("");
    strengths.forEach((one, side) => void answer(before, question, side, one, stop.current!.signal));
  };

  const change = (side: number, some: (answer: Answer) => Partial<Answer>) =>
    setTurns((old) =>
      old.map((turn, at) => {
        if (at !== old.length - 1) return turn;
        return { ...turn, answers: turn.answers.map((one, which) => (which === side ? { ...one, ...some(one) } : one)) };
      }),
    );

  async function answer(before: Turn[], question: string, side: number, one: number | null, signal: AbortSignal) {
    try {
      const messages = history(system, before, side, question);
      for await (const piece of chat({ model, messages, temperature, max_tokens: most, strength: one }, signal)) {
        change(side, (old) => ("text" in piece ? { text: old.text + piece.text } : piece));
      }
    } catch (error) {
      if (!signal.aborted) change(side, () => ({ problem: words(error) }));
    } finally {
      change(side, () => ({ busy: false }));
    }
  }

  return (
    <div class="conversation">
      <aside aria-label="Who is asked, and how">
        <Field label="Model, team or agent">
          {(ids) => (
            <select {...ids} value={model} onChange={(event) => setModel(event.currentTarget.value)}>
              {groups(all, model).map(([group, ids_]) => (
                <optgroup key={group} label={group}>
                  {ids_.map((id) => (
                    <option key={id} value={id}>
                      {id}
                    </option>
                  ))}
                </optgroup>
              ))}
            </select>
          )}
        </Field>
        {plain && (
          <>
            <Slider label="Steering strength" most={MOST} value={strength} change={setStrength} help="0 is the plain model, 1 the paper's." />
            <label class="check">
              <input type="checkbox" checked={beside} onChange={(event) => setBeside(event.currentTarget.checked)} />
              beside the plain model
            </label>
          </>
        )}
        {plain && (
        <details>
          <summary>How it answers</summary>
          <Field label="System prompt">{(ids) => <textarea {...ids} rows={3} value={system} onInput={(event) => setSystem(event.currentTarget.value)} />}</Field>
          <Field label="Temperature" help="0 takes the likeliest word each time.">
            {(ids) => <input {...ids} type="number" min={0} max={2} step={0.1} value={temperature} onInput={(event) => setTemperature(Number(event.currentTarget.value))} />}
          </Field>
          <Field label="Longest answer, in tokens">
            {(ids) => <input {...ids} type="number" min={1} step={1} value={most} onInput={(event) => setMost(Number(event.currentTarget.value))} />}
          </Field>
        </details>
        )}
        <button type="button" class="small" disabled={!turns.length || busy} onClick={() => setTurns([])}>
          Start over
        </button>
      </aside>
      <div class="talked">
        <div class="turns" role="log" aria-label="Conversation" tabIndex={0}>
          {!turns.length && <p class="quiet">Ask something. With a strength above 0 and “beside the plain model”, both answer side by side.</p>}
          {turns.map((turn, at) => (
            <section key={at} aria-label={`Question ${at + 1}`}>
              <p class="question">{turn.question}</p>
              <div class="answers">
                {turn.answers.map((one, side) => (
                  <Said key={side} answer={one} />
                ))}
              </div>
            </section>
          ))}
          <div ref={end} />
        </div>
        <form class="ask" onSubmit={(event) => (event.preventDefault(), ask())}>
          <textarea
            aria-label="Your message"
            rows={2}
            placeholder="Your message; Enter sends it"
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
            onKeyDown={(event) => {
              if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
              event.preventDefault();
              ask();
            }}
          />
          {busy ? (
            <button type="button" onClick={() => stop.current?.abort()}>
              <Icon name="stop" /> Stop
            </button>
          ) : (
            <button type="submit" class="main" disabled={!text.trim()}>
              <Icon name="send" /> Send
            </button>
          )}
        </form>
      </div>
    </div>
  );
}

function Said({ answer }: { answer: Answer }) {
  const steered = (answer.strength ?? 0) > 0;
  return (
    <article class={steered ? "said steered" : "said"} aria-busy={answer.busy}>
      <p class="by">
        {answer.strength === null ? "answer" : steered ? <span class="steered-by">steered {answer.strength}</span> : "plain model"}
        {answer.simulation && <a href={link(["run", answer.simulation])}>watch</a>}
        {answer.usage && <span class="quiet"> {answer.usage.prompt_tokens} + {answer.usage.completion_tokens} tokens</span>}
      </p>
      <div class="text">
        {answer.text}
        {answer.busy && <span class="caret" aria-hidden="true" />}
        {!answer.busy && !answer.text && !answer.problem && <span class="quiet">It said nothing.</span>}
      </div>
      {answer.problem && <Problem text={answer.problem} />}
    </article>
  );
}

/** What one side has said and heard so far. */
function history(system: string, turns: Turn[], side: number, question: string): ChatMessage[] {
  const messages: ChatMessage[] = system.trim() ? [{ role: "system", content: system.trim() }] : [];
  for (const turn of turns) {
    const said = (turn.answers[side] ?? turn.answers[0])?.text;
    if (!said) continue; // A question without an answer would stand beside the next one.
    messages.push({ role: "user", content: turn.question }, { role: "assistant", content: said });
  }
  return [...messages, { role: "user", content: question }];
}

function groups(all: Model[], chosen: string): [string, string[]][] {
  const ids = all.map((model) => model.id);
  if (!ids.includes(chosen)) ids.push(chosen);
  const of = (test: (id: string) => boolean) => ids.filter(test);
  const found: [string, string[]][] = [
    ["Models", of((id) => !isPlayed(id))],
    ["Teams", of((id) => id.startsWith("team:"))],
    ["Agents", of((id) => id.startsWith("agent:"))],
  ];
  return found.filter(([, some]) => some.length);
}

/** A question that a person is asked, with the form for the answer. */

import { useEffect, useId, useState } from "preact/hooks";

import * as api from "../api/simulations";
import type { Question } from "../api/types";
import { Problem, useRest, useTask } from "../parts/basics";
import { Icon } from "../parts/icon";
import type { Run } from "../state/run";

type Legal = { kind: "text" } | { kind: "choice"; options: string[] } | { kind: "number"; low: number; high: number; step: number | "any" };

export function Seat({ run, question }: { run: Run; question: Question }) {
  const id = useId();
  const task = useTask();
  const legal = read(question.instruction);
  // The form stands for the instruction.
  const asked = question.question.endsWith(question.instruction) ? question.question.slice(0, -question.instruction.length).trim() : question.question;
  const [value, setValue] = useState("");
  const [words, setWords] = useState("");
  const title = useRest(true); // The button of the answer before is gone.
  const send = (chosen: string) =>
    void task.run(async () => {
      await api.answer(run.id, question.id, legal.kind === "text" ? words : [words.trim(), `ANSWER: ${chosen}`].filter(Boolean).join("\n"));
      await run.refresh();
    });
  return (
    <form
      class="seat"
      aria-labelledby={id}
      onSubmit={(event) => {
        event.preventDefault();
        send(value);
      }}
    >
      <header>
        <Icon name="person" />
        <h2 id={id} ref={title} tabIndex={-1}>
          You are {question.agent}, tick {question.tick + 1}
        </h2>
        <Deadline at={question.deadline} />
      </header>
      <div class="text asked" tabIndex={0} role="group" aria-label="What you see">
        {asked}
      </div>
      <label class="words">
        {legal.kind === "text" ? question.instruction : "What you say (if anything)"}
        <textarea rows={legal.kind === "text" ? 3 : 2} value={words} onInput={(event) => setWords(event.currentTarget.value)} />
      </label>
      <div class="reply">
        {legal.kind === "choice" &&
          legal.options.map((option) => (
            <button key={option} type="submit" class="main" disabled={task.busy} onClick={(event) => (event.preventDefault(), send(option))}>
              {option}
            </button>
          ))}
        {legal.kind === "number" && (
          <label>
            Your answer, {legal.low} to {legal.high}
            <input type="number" required min={legal.low} max={legal.high} step={legal.step} value={value} onInput={(event) => setValue(event.currentTarget.value)} />
          </label>
        )}
        {legal.kind !== "choice" && (
          <button type="submit" class="main" disabled={task.busy}>
            Answer
          </button>
        )}
      </div>
      {task.problem && <Problem text={task.problem} />}
    </form>
  );
}

function Deadline({ at }: { at: number | null }) {
  const [now, setNow] = useState(Date.now() / 1000);
  useEffect(() => {
    if (at === null) return undefined;
    const timer = setInterval(() => setNow(Date.now() / 1000), 1000);
    return () => clearInterval(timer);
  }, [at]);
  if (at === null) return <p class="quiet">No hurry: the simulation waits.</p>;
  const left = Math.max(0, Math.round(at - now));
  return <p class="quiet">{left ? `${left} s left, then the default is taken` : "The time is over"}</p>;
}

/** What may be answered, out of the instruction that models get too. */
function read(instruction: string): Legal {
  const choice = /where x is one of: (.+)\.$/.exec(instruction);
  if (choice) return { kind: "choice", options: choice[1]!.split(", ") };
  const number = /where x is a (whole )?number from (\S+) to (\S+)\.$/.exec(instruction);
  if (number) return { kind: "number", low: Number(number[2]), high: Number(number[3]), step: number[1] ? 1 : "any" };
  return { kind: "text" };
}

/** A value that is written as JSON. */

import { useEffect, useState } from "preact/hooks";

import type { Json } from "../api/types";
import { Field } from "./basics";

interface WrittenProps {
  label: string;
  help?: string;
  problem?: string;
  /** Lines to begin with; one for what is short. */
  rows?: number;
  value: Json | undefined;
  /** What keeps a value from being set; empty where nothing does. */
  flaw?: (value: Json | undefined) => string;
  /** Undefined, for no text, takes the default. */
  set: (value: Json | undefined) => void;
}

export function Written({ label, help, problem, rows = 1, value, flaw = () => "", set }: WrittenProps) {
  const [text, setText] = useState(() => spelled(value, rows));
  const [unread, setUnread] = useState("");
  useEffect(() => {
    // Another field may have changed it; what is being typed stays as it is typed.
    if (unread || same(text, value)) return;
    setText(spelled(value, rows));
  }, [value]);
  const write = (next: string) => {
    setText(next);
    try {
      const written = read(next);
      const wrong = flaw(written);
      setUnread(wrong);
      if (!wrong) set(written);
    } catch (error) {
      setUnread(`This is no JSON yet: ${error instanceof Error ? error.message : error}`);
    }
  };
  // What cannot be read is not sent.
  const ref = (node: HTMLInputElement | HTMLTextAreaElement | null) => node?.setCustomValidity(unread);
  const shared = { ref, class: "code", spellcheck: false, placeholder: "JSON; empty for the default", value: text };
  return (
    <Field label={label} help={help} problem={unread || problem} wide>
      {(ids) =>
        rows === 1 ? (
          <input {...ids} {...shared} type="text" onInput={(event) => write(event.currentTarget.value)} />
        ) : (
          <textarea {...ids} {...shared} rows={rows} onInput={(event) => write(event.currentTarget.value)} />
        )
      }
    </Field>
  );
}

function read(text: string): Json | undefined {
  return text.trim() ? (JSON.parse(text) as Json) : undefined;
}

function spelled(value: Json | undefined, rows: number): string {
  return value === undefined || value === null ? "" : JSON.stringify(value, null, rows === 1 ? undefined : 2);
}

function same(text: string, value: Json | undefined): boolean {
  return JSON.stringify(read(text) ?? null) === JSON.stringify(value ?? null);
}

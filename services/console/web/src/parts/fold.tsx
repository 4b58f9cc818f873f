/** A part of a form that most leave as it is: folded, and not drawn until somebody opens it. */

import type { ComponentChildren } from "preact";
import { useContext, useEffect, useState } from "preact/hooks";

import { within } from "../state/wrongs";
import { FormContext } from "./schema_form";

interface FoldProps {
  title: string;
  /** What is set in it, in short. */
  note: string;
  /** Paths of its fields; it opens where something is wrong with one of them. */
  paths: readonly string[];
  children: ComponentChildren;
}

export function Fold({ title, note, paths, children }: FoldProps) {
  const { wrongs } = useContext(FormContext);
  const meant = paths.some((path) => within(wrongs, path).length > 0);
  const [open, setOpen] = useState(false);
  useEffect(() => {
    if (meant) setOpen(true);
  }, [meant]);
  const shown = open || meant;
  return (
    <details class="fold" open={shown} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        <strong>{title}</strong> <span class="quiet">{note}</span>
      </summary>
      {shown && <div class="inside">{children}</div>}
    </details>
  );
}

/** The smallest parts that every view shares. */

import type { ComponentChildren, RefObject } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";

import { Icon, type IconName } from "./icon";

export function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

/** Says what went wrong and what to do. */
export function Problem({ text, again }: { text: string; again?: () => void }) {
  if (!text) return null;
  return (
    <div class="problem" role="alert">
      <Icon name="warning" />
      <p>{text}</p>
      {again && (
        <button type="button" class="small" onClick={again}>
          Try again
        </button>
      )}
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <h2>{title}</h2>
      {children}
    </div>
  );
}

/** Leads to the next page of a list that has one. */
export function Older({ next, show }: { next: string | null | undefined; show: () => void }) {
  if (!next) return null;
  return (
    <button type="button" class="more" onClick={show}>
      Show older ones
    </button>
  );
}

/** Grey bars of about the size of what is to come. */
export function Loading({ rows = 4, label }: { rows?: number; label: string }) {
  return (
    <div class="loading" role="status" aria-label={label}>
      {Array.from({ length: rows }, (_, row) => (
        <span key={row} class="bar" />
      ))}
    </div>
  );
}

const STATUS_WORDS: Record<string, string> = { waiting: "waiting for a person" };

export function StatusBadge({ status }: { status: string }) {
  return <span class={`status is-${status}`}>{STATUS_WORDS[status] ?? status}</span>;
}

interface FieldProps {
  label: ComponentChildren;
  help?: string;
  problem?: string;
  wide?: boolean;
  children: (ids: { id: string; "aria-describedby"?: string; "aria-invalid"?: boolean }) => ComponentChildren;
}

/** A label, what it labels, and a line of help. */
export function Field({ label, help, problem, wide, children }: FieldProps) {
  const id = useId();
  const described = help || problem ? `${id}-help` : undefined;
  return (
    <div class={wide ? "field wide" : "field"}>
      <label for={id}>{label}</label>
      {children({ id, "aria-describedby": described, "aria-invalid": problem ? true : undefined })}
      {described && (
        <p id={described} class={problem ? "help wrong" : "help"}>
          {problem || help}
        </p>
      )}
    </div>
  );
}

interface SliderProps {
  label: string;
  value: number;
  most: number;
  step?: number;
  change: (value: number) => void;
  help?: string;
}

/** A range with the number beside it; both can be set. */
export function Slider({ label, value, most, step = 0.05, change, help }: SliderProps) {
  const id = useId();
  const set = (text: string) => {
    const number = Number(text);
    if (text !== "" && Number.isFinite(number)) change(Math.min(most, Math.max(0, number)));
  };
  return (
    <div class="slider">
      <label for={id}>{label}</label>
      <input
        id={id}
        type="range"
        min={0}
        max={most}
        step={step}
        value={value}
        style={{ "--fill": `${(100 * value) / most}%` }}
        aria-describedby={help ? `${id}-help` : undefined}
        onInput={(event) => set(event.currentTarget.value)}
      />
      <input
        type="number"
        aria-label={`${label}, as a number`}
        min={0}
        max={most}
        step={step}
        value={value}
        onInput={(event) => set(event.currentTarget.value)}
      />
      {help && (
        <p id={`${id}-help`} class="help">
          {help}
        </p>
      )}
    </div>
  );
}

interface DialogProps {
  title: string;
  /** Left out where it stays until what it asks for is there. */
  close?: () => void;
  children: ComponentChildren;
}

/** A modal dialog; the browser keeps the focus inside and gives it back. */
export function Dialog({ title, close, children }: DialogProps) {
  const id = useId();
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const opened = dialog.current;
    const before = document.activeElement as HTMLElement | null;
    opened?.showModal();
    return () => {
      opened?.close();
      before?.focus();
    };
  }, []);
  return (
    <dialog ref={dialog} aria-labelledby={id} closedby={close ? "closerequest" : "none"} onCancel={(event) => (event.preventDefault(), close?.())}>
      <header>
        <h2 id={id}>{title}</h2>
        {close && <IconButton icon="close" label="Close" press={close} />}
      </header>
      {children}
    </dialog>
  );
}

interface StopDialogProps {
  title: string;
  /** What is stopped, and what stays. */
  children: ComponentChildren;
  /** The two answers. */
  keep: string;
  end: string;
  stop: () => Promise<void>;
  close: () => void;
}

/** Asks before something ends for good. */
export function StopDialog({ title, children, keep, end, stop, close }: StopDialogProps) {
  const task = useTask();
  const act = async () => {
    await stop();
    close();
  };
  return (
    <Dialog title={title} close={close}>
      <p>{children}</p>
      {task.problem && <Problem text={task.problem} />}
      <footer>
        <button type="button" onClick={close}>
          {keep}
        </button>
        <button type="button" class="main danger" disabled={task.busy} onClick={() => void task.run(act)}>
          {end}
        </button>
      </footer>
    </Dialog>
  );
}

/** Where the focus goes once the button that was pressed is gone, if it has nowhere to stay; nothing behind an open dialog can take it. */
export function useRest(gone: boolean): RefObject<HTMLHeadingElement | null> {
  const rest = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    if (gone && document.activeElement === document.body) rest.current?.focus();
  }, [gone]);
  return rest;
}

interface IconButtonProps {
  icon: IconName;
  label: string;
  press: () => void;
  disabled?: boolean;
}

export function IconButton({ icon, label, press, disabled }: IconButtonProps) {
  return (
    <button type="button" class="bare" aria-label={label} title={label} disabled={disabled} onClick={press}>
      <Icon name={icon} />
    </button>
  );
}

/** Runs something that takes a while; what it throws is shown. */
export function useTask(): { busy: boolean; problem: string; run: (task: () => Promise<void>) => Promise<void> } {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const run = async (task: () => Promise<void>) => {
    setBusy(true);
    setProblem("");
    try {
      await task();
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error));
    } finally {
      setBusy(false);
    }
  };
  return { busy, problem, run };
}

export interface Loaded<T> {
  value: T | null;
  problem: string;
  again: () => void;
}

/** What a call gives, loaded when `what` changes.
 * @param wait milliseconds from an answer to the next call; null asks no more. A page that nobody sees waits on. */
export function useLoaded<T>(load: () => Promise<T>, what: unknown[], wait: (value: T) => number | null = () => null): Loaded<T> {
  const [state, setState] = useState<{ value: T | null; problem: string }>({ value: null, problem: "" });
  const [turn, setTurn] = useState(0);
  const again = () => setTurn((count) => count + 1);
  useEffect(() => {
    let wanted = true;
    let timer: ReturnType<typeof setInterval> | undefined;
    const got = (value: T | null, problem: string) => {
      if (!wanted) return;
      setState({ value, problem });
      const ms = value === null ? null : wait(value);
      if (ms !== null) timer = setInterval(() => document.visibilityState === "visible" && again(), ms);
    };
    load().then(
      (value) => got(value, ""),
      (error: unknown) => got(state.value, error instanceof Error ? error.message : String(error)),
    );
    return () => {
      wanted = false;
      clearInterval(timer);
    };
  }, [...what, turn]);
  return { ...state, again };
}

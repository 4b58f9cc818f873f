/** What was done and said, tick by tick. */

import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";

import type { Entry, History } from "../state/history";
import { Badge } from "./badge";
import { Icon } from "./icon";

/** Entries drawn at once; older ones are one button away. */
const PAGE = 250;
/** Pixels from the end within which the page keeps to the newest. */
const NEAR = 80;

interface TranscriptProps {
  history: History;
  agent: string | null;
  /** Whether the newest tick is followed. */
  live: boolean;
  choose: (agent: string) => void;
}

export function Transcript({ history, agent, live, choose }: TranscriptProps) {
  const [text, setText] = useState("");
  const filter = `${agent}\n${text}`;
  const [opened, setOpened] = useState({ filter, pages: 1 });
  const pages = opened.filter === filter ? opened.pages : 1;
  const [away, setAway] = useState(false);
  const scroll = useRef<HTMLDivElement>(null);

  const wanted = history.entries.filter((entry) => fits(entry, agent, text));
  const drawn = wanted.slice(-PAGE * pages);
  // The browser lays out what is older only where it is seen; the newest page has its height at once, to be followed.
  const recent = wanted.at(-PAGE)?.seq ?? 0;
  const newest = wanted.at(-1)?.seq ?? 0;
  useLayoutEffect(() => {
    const box = scroll.current;
    if (box && !away && live) box.scrollTop = box.scrollHeight;
  }, [newest, away, live]);

  const all = [...history.members.keys()];
  return (
    <div class="transcript">
      <div class="tools">
        <label class="hidden" for="find">
          Find in the transcript
        </label>
        <input id="find" type="search" placeholder="Find…" value={text} onInput={(event) => setText(event.currentTarget.value)} />
        <p class="count" aria-live="polite">
          {wanted.length} {wanted.length === 1 ? "entry" : "entries"}
        </p>
      </div>
      <div
        class="scroll"
        ref={scroll}
        tabIndex={0}
        role="log"
        aria-label="Transcript"
        aria-live="off"
        onScroll={(event) => {
          const box = event.currentTarget;
          setAway(box.scrollHeight - box.scrollTop - box.clientHeight > NEAR);
        }}
      >
        {drawn.length < wanted.length && (
          <button type="button" class="small earlier" onClick={() => setOpened({ filter, pages: pages + 1 })}>
            Show {Math.min(PAGE, wanted.length - drawn.length)} earlier entries
          </button>
        )}
        {!wanted.length && <p class="quiet">{text || agent ? "Nothing fits the filter." : "Nothing has happened yet."}</p>}
        {byTick(drawn).map(([tick, entries]) => (
          <Tick key={tick} tick={tick} entries={entries} over={tick < history.ticks} old={entries[0]!.seq < recent} all={all} choose={choose} />
        ))}
      </div>
      {away && live && (
        <button type="button" class="newest" onClick={() => setAway(false)}>
          <Icon name="down" /> Newest
        </button>
      )}
    </div>
  );
}

interface TickProps {
  tick: number;
  entries: readonly Entry[];
  /** Whether it has been played, so that only a filter changes what is drawn of it. */
  over: boolean;
  old: boolean;
  all: readonly string[];
  choose: (agent: string) => void;
}

function Tick({ tick, entries, over, old, all, choose }: TickProps) {
  const draw = () => (
    <section class={old ? "old" : ""} aria-label={`Tick ${tick + 1}`}>
      <h3>
        <span>Tick {tick + 1}</span>
      </h3>
      {entries.map((entry) => (
        <Line key={entry.seq} entry={entry} all={all} choose={choose} />
      ))}
    </section>
  );
  // Entries are changed in place until their tick is over. A long run is drawn many times a second.
  return useMemo(draw, [over ? entries.map((entry) => entry.seq).join() : {}, old, all.length]);
}

function Line({ entry, all, choose }: { entry: Entry; all: readonly string[]; choose: (agent: string) => void }) {
  const agent = entry.agent;
  if (!agent || entry.kind === "control" || entry.kind === "world" || entry.kind === "end") {
    return (
      <div class={`line is-${entry.kind}`}>
        <Text text={entry.what} kind="what" />
        <Text text={entry.text} />
      </div>
    );
  }
  return (
    <article class={`line is-${entry.kind}`}>
      <Badge agent={agent} all={all} steered={(entry.strength ?? 0) > 0} />
      <header>
        <button type="button" class="agent" onClick={() => choose(agent)}>
          {agent}
        </button>
        {entry.what && !spoken(entry) && <span class={entry.kind === "act" ? "deed" : "what"}>{short(entry.what)}</span>}
        {(entry.strength ?? 0) > 0 && <span class="steered-by">steered {entry.strength}</span>}
        {entry.to.length > 0 && <span class="to">to {reached(entry, all)}</span>}
      </header>
      <Text text={told(entry)} />
      {entry.warning && (
        <p class="warning">
          <Icon name="warning" /> {entry.warning}
        </p>
      )}
    </article>
  );
}

/** Beyond it a text is folded. */
const LONG = 600;

function Text({ text, kind = "text" }: { text: string; kind?: "text" | "what" }) {
  const [open, setOpen] = useState(false);
  if (!text) return null;
  const long = text.length > LONG;
  return (
    <div class={kind}>
      {long && !open ? `${text.slice(0, LONG)}…` : text}
      {long && (
        <button type="button" class="small" aria-expanded={open} onClick={() => setOpen(!open)}>
          {open ? "Less" : "All of it"}
        </button>
      )}
    </div>
  );
}

/** Whether what was done is the very words. */
function spoken(entry: Entry): boolean {
  return entry.kind === "act" && squeezed(entry.text) === squeezed(entry.what);
}

function squeezed(text: string): string {
  return text.replaceAll(/\s+/g, " ").trim();
}

/** The words, without the line or the JSON that only repeats the action. */
function told(entry: Entry): string {
  if (entry.kind !== "act" || entry.warning) return entry.text.trim();
  if (entry.what && /^\s*\{.*\}\s*$/s.test(entry.text)) return "";
  const lines = entry.text.split("\n");
  return lines.filter((line) => spoken(entry) || !/^ANSWER:/i.test(line.trim())).join("\n").trim();
}

function short(text: string): string {
  return text.length > 90 ? `${text.slice(0, 88)}…` : text;
}

function reached(entry: Entry, all: readonly string[]): string {
  if (entry.to.length > 1 && entry.to.length >= all.length - 1) return "everybody";
  return entry.to.length > 4 ? `${entry.to.slice(0, 3).join(", ")} and ${entry.to.length - 3} more` : entry.to.join(", ");
}

function fits(entry: Entry, agent: string | null, text: string): boolean {
  if (agent && entry.agent !== agent && !entry.to.includes(agent) && entry.kind !== "control") return false;
  return !text || `${entry.agent} ${entry.what} ${entry.text}`.toLowerCase().includes(text.toLowerCase());
}

function byTick(entries: Entry[]): [number, Entry[]][] {
  const groups: [number, Entry[]][] = [];
  for (const entry of entries) {
    const last = groups.at(-1);
    if (last?.[0] === entry.tick) last[1].push(entry);
    else groups.push([entry.tick, [entry]]);
  }
  return groups;
}

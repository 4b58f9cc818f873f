/** The frame around all views. */

import { useEffect, useRef, useState } from "preact/hooks";

import { IconButton } from "./parts/basics";
import { Icon, type IconName } from "./parts/icon";
import { go, link, place } from "./state/router";
import { chooseTheme, forgetKey, key, keyWanted, theme, type Theme } from "./state/session";
import { useShortcuts } from "./state/shortcuts";
import { useValue } from "./state/value";
import { Chat } from "./views/chat";
import { Compare } from "./views/compare";
import { Create } from "./views/create";
import { ExperimentPage } from "./views/experiment";
import { Experiments } from "./views/experiments";
import { Help } from "./views/help";
import { KeyDialog, KeyPage } from "./views/key";
import { List } from "./views/list";
import { Watch } from "./views/watch";

const VIEWS: [path: string, name: string, icon: IconName][] = [
  ["", "Simulations", "list"],
  ["experiments", "Experiments", "grid"],
  ["new", "New", "plus"],
  ["compare", "Compare", "compare"],
  ["chat", "Chat", "chat"],
];
const NEXT: Record<Theme, Theme> = { auto: "light", light: "dark", dark: "auto" };
const THEMES: Record<Theme, [IconName, string]> = {
  auto: ["half", "Theme: the system's"],
  light: ["sun", "Theme: light"],
  dark: ["moon", "Theme: dark"],
};

export function App() {
  const { path } = useValue(place);
  const wanted = useValue(keyWanted);
  const known = useValue(key);
  const shown = useValue(theme);
  const [helping, setHelping] = useState(false);
  const view = path[0] ?? "";
  const main = useRef<HTMLElement>(null);
  const first = useRef(true);
  useEffect(() => {
    if (!first.current) main.current?.focus(); // So that the next Tab is in the new view.
    first.current = false;
    setHelping(false);
  }, [path.join("/"), known === ""]);
  const turnTheme = () => chooseTheme(NEXT[shown]);
  useShortcuts({
    l: () => go([]),
    n: () => go(["new"]),
    x: () => go(["experiments"]),
    d: () => go(["compare"]),
    c: () => go(["chat"]),
    t: turnTheme,
    "?": () => setHelping(true),
  });
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), main.current?.focus())}>
        To the content
      </a>
      <header class="bar">
        <a class="mark" href={link([])} aria-label="Steerline, all simulations">
          <Mark /> Steerline
        </a>
        <nav aria-label="Views">
          {VIEWS.map(([target, name, icon]) => (
            <a key={name} href={link(target ? [target] : [])} aria-current={view === target || (view === "run" && !target) ? "page" : undefined}>
              <Icon name={icon} />
              {name}
            </a>
          ))}
        </nav>
        <div class="own">
          <IconButton icon={THEMES[shown][0]} label={`${THEMES[shown][1]} (change)`} press={turnTheme} />
          <IconButton icon="keyboard" label="Keyboard shortcuts" press={() => setHelping(true)} />
          {known && <IconButton icon="key" label="Forget the API key" press={forgetKey} />}
        </div>
      </header>
      <main id="main" ref={main} tabIndex={-1}>
        {known ? <View view={view} path={path} /> : <KeyPage why={wanted ?? ""} />}
      </main>
      {known && wanted !== null && <KeyDialog why={wanted} />}
      {helping && <Help close={() => setHelping(false)} />}
    </>
  );
}

function View({ view, path }: { view: string; path: string[] }) {
  switch (view) {
    case "":
      return <List />;
    case "experiments":
      return path[1] ? <ExperimentPage key={path[1]} id={path[1]} /> : <Experiments />;
    case "new":
      return <Create />;
    case "compare":
      return <Compare />;
    case "chat":
      return <Chat />;
    case "run":
      return <Watch key={path[1]} id={path[1] ?? ""} />;
    default:
      return (
        <div class="page">
          <h1>No such page</h1>
          <a href={link([])}>All simulations</a>
        </div>
      );
  }
}

function Mark() {
  return (
    <svg class="logo" viewBox="0 0 32 32" aria-hidden="true">
      <path d="M4 22c7 0 8-13 15-13" />
      <path class="plain" d="M4 22c8 0 14-1 24-1" />
      <circle cx="23" cy="8.6" r="4" />
    </svg>
  );
}

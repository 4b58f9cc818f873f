/** Small drawings, 16 by 16, in the colour of the text around them. */

const PATHS = {
  play: "M5 3.2v9.6l8-4.8z",
  pause: "M5 3.5v9M11 3.5v9",
  step: "M4 3.5v9l6-4.5zM12 3.5v9",
  stop: "M4.5 4.5h7v7h-7z",
  fork: "M4.5 13.5v-11M2.6 4.4l1.9-1.9 1.9 1.9M4.5 10.5c0-3.4 7-1.2 7-5.6M9.6 6.4l1.9-1.9 1.9 1.9",
  plus: "M8 3.5v9M3.5 8h9",
  close: "M4.2 4.2l7.6 7.6M11.8 4.2l-7.6 7.6",
  sun: "M8 5.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6zM8 1.8v1.2M8 13v1.2M1.8 8H3M13 8h1.2M3.6 3.6l.9.9M11.5 11.5l.9.9M12.4 3.6l-.9.9M4.5 11.5l-.9.9",
  moon: "M12.8 9.6A5.2 5.2 0 0 1 6.4 3.2a5.2 5.2 0 1 0 6.4 6.4z",
  half: "M8 2.5a5.5 5.5 0 1 0 0 11zM8 2.5a5.5 5.5 0 0 1 0 11",
  keyboard: "M2 4.5h12v7H2zM4.5 7h.01M7 7h.01M9.5 7h.01M12 7h.01M5 9.4h6",
  key: "M5 5.4a2.6 2.6 0 1 0 0 5.2 2.6 2.6 0 0 0 0-5.2zM7.6 8H14M11 8v2.4M13.8 8v1.8",
  warning: "M8 2.6 14.2 13H1.8zM8 6.6v3M8 11.2v.01",
  person: "M8 3a2.4 2.4 0 1 0 0 4.8A2.4 2.4 0 0 0 8 3zM3.2 13.2c.5-2.6 2.3-4 4.8-4s4.3 1.4 4.8 4",
  down: "M8 3v9.5M4 8.8 8 12.6l4-3.8",
  send: "M2.6 8 13.4 3 10 13.4 7.6 9z",
  trash: "M3.5 4.8h9M6.2 4.8V3.2h3.6v1.6M4.6 4.8l.6 8h5.6l.6-8",
  more: "M3 8h.6M7.7 8h.6M12.4 8h.6",
  grid: "M3 3h4v4H3zM9 3h4v4H9zM3 9h4v4H3zM9 9h4v4H9z",
  list: "M3 4.5h10M3 8h10M3 11.5h10",
  compare: "M2 8h2.5c4 0 4-4.4 9.5-4.4M4.5 8c4 0 4 4.4 9.5 4.4",
  chat: "M2.5 3.5h11v7.2H7.6L4.6 13v-2.3H2.5z",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  const solid = name === "play" || name === "stop";
  return (
    <svg class="icon" viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} class={solid ? "solid" : ""} />
    </svg>
  );
}

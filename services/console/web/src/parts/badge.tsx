/** An agent's mark: two letters on a colour that stays the same wherever the agent is seen. */

const HUES = 8;

/** Which of the colours; neighbours in the order of ids get different ones. */
export function hueOf(agent: string, all: readonly string[]): number {
  const place = all.indexOf(agent);
  return (place < 0 ? [...agent].reduce((sum, letter) => sum + letter.charCodeAt(0), 0) : place) % HUES;
}

export function letters(agent: string): string {
  const digits = /(\d+)$/.exec(agent)?.[1];
  const parts = agent.split(/[-_. ]/).filter(Boolean);
  if (digits) return (agent.charAt(0) + String(Number(digits))).slice(0, 3);
  return (parts.length > 1 ? parts[0]!.charAt(0) + parts[1]!.charAt(0) : agent.slice(0, 2)).toLowerCase();
}

export function Badge({ agent, all, steered }: { agent: string; all: readonly string[]; steered?: boolean }) {
  return (
    <span class={`badge hue-${hueOf(agent, all)}${steered ? " steered" : ""}`} aria-hidden="true">
      {letters(agent)}
    </span>
  );
}

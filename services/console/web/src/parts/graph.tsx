/** Who talks to whom: lines grow with the messages sent, dots run along those of the newest tick. */

import type { SimulationSpec } from "../api/types";
import { WORLD, type Edge, type History, type Member } from "../state/history";
import { hueOf, letters } from "./badge";
import { HEIGHT, layout, WIDTH, type Spot } from "./layout";

/** Beyond it letters and pulses would be a carpet. */
const FEW = 40;
/** Beyond it names would lie on each other; the list below has them. */
const NAMED = 12;
/** Letters of a name that stay within the drawing, wherever its agent stands. */
const LETTERS = 12;
const MOST = 240;
const MOST_LINKS = 1500;

interface GraphProps {
  history: History;
  topology: SimulationSpec["topology"];
  chosen: string | null;
  choose: (agent: string | null) => void;
}

export function Graph({ history, topology, chosen, choose }: GraphProps) {
  const members = [...history.members.values()].filter((one) => !one.gone);
  const drawn = members.length > MOST ? busiest(members) : members;
  const ids = drawn.map((one) => one.id);
  const spots = layout(ids, topology);
  const all = [...history.members.keys()];
  const edges = heaviest([...history.edges.values()].filter((edge) => spots.has(edge.from) && spots.has(edge.to)), chosen);
  const most = Math.max(1, ...edges.map((edge) => edge.messages));
  // So many lines are a carpet; those of the chosen agent stand out of it.
  const many = edges.length > 300;
  const lately = new Set(history.lately.map((edge) => `${edge.from}\n${edge.to}`));
  const radius = ids.length > FEW ? 5 : ids.length > 16 ? 11 : 16;
  const near = (edge: Edge) => chosen === null || edge.from === chosen || edge.to === chosen;
  return (
    <figure class="graph">
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="group" class={many ? "many" : ""} aria-label={told(history, edges)}>
        <g class="links" aria-hidden="true">
          {edges.map((edge) => (
            <path
              key={`${edge.from} ${edge.to}`}
              d={bend(spots.get(edge.from)!, spots.get(edge.to)!)}
              class={`link${near(edge) ? (chosen ? " near" : "") : " far"}${lately.has(`${edge.from}\n${edge.to}`) ? " lately" : ""}`}
              stroke-width={0.7 + 1.9 * (edge.messages / most)}
            />
          ))}
        </g>
        {ids.length <= FEW && (
          <g class="pulses" aria-hidden="true" key={`${history.ticks}`}>
            {edges
              .filter((edge) => lately.has(`${edge.from}\n${edge.to}`) && near(edge))
              .map((edge) => (
                <circle
                  key={`${edge.from} ${edge.to}`}
                  r="3"
                  class={`pulse hue-${hueOf(edge.from, all)}`}
                  style={{ offsetPath: `path("${bend(spots.get(edge.from)!, spots.get(edge.to)!)}")` }}
                />
              ))}
          </g>
        )}
        {drawn.map((one) => (
          <Node
            key={one.id}
            member={one}
            spot={spots.get(one.id)!}
            radius={radius}
            named={ids.length <= NAMED}
            hue={hueOf(one.id, all)}
            chosen={chosen === one.id}
            press={() => choose(chosen === one.id ? null : one.id)}
          />
        ))}
      </svg>
      {history.ticks > 0 && !edges.length && <figcaption>No agent has told another anything so far.</figcaption>}
      {drawn.length < members.length && (
        <figcaption>
          The {drawn.length} busiest of {members.length} agents.
        </figcaption>
      )}
    </figure>
  );
}

interface NodeProps {
  member: Member;
  spot: Spot;
  radius: number;
  named: boolean;
  hue: number;
  chosen: boolean;
  press: () => void;
}

function Node({ member, spot, radius, named, hue, chosen, press }: NodeProps) {
  const steered = (member.strength ?? 0) > 0;
  const about = [member.id, steered ? `steered with ${member.strength}` : "", member.last ? `last: ${member.last}` : ""].filter(Boolean).join(", ");
  return (
    <g
      class={`node hue-${hue}${chosen ? " chosen" : ""}`}
      transform={`translate(${spot.x} ${spot.y})`}
      role="button"
      tabindex={0}
      aria-pressed={chosen}
      aria-label={about}
      onClick={press}
      onKeyDown={(event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        press();
      }}
    >
      <title>{about}</title>
      {steered && <circle r={radius + 4} class="ring" />}
      <circle r={radius} class="disc" />
      <circle r={radius + 7} class="focus" />
      {radius >= 11 && (
        <text class="letters" dy="0.36em" font-size={radius * 0.8}>
          {letters(member.id)}
        </text>
      )}
      {named && (
        <text class="name" y={spot.y < HEIGHT / 2 - 20 ? -radius - 11 : radius + 20}>
          {member.id.length > LETTERS ? `${member.id.slice(0, LETTERS - 1)}…` : member.id}
        </text>
      )}
    </g>
  );
}

/** As many lines as can be drawn at once; those of the chosen agent first, then those with most messages. */
function heaviest(edges: Edge[], chosen: string | null): Edge[] {
  if (edges.length <= MOST_LINKS) return edges;
  const weight = (edge: Edge) => edge.messages + (edge.from === chosen || edge.to === chosen ? 1e9 : 0);
  return edges.sort((a, b) => weight(b) - weight(a)).slice(0, MOST_LINKS);
}

function busiest(members: Member[]): Member[] {
  return [...members].sort((a, b) => b.said - a.said || b.turns - a.turns).slice(0, MOST);
}

/** A slight curve, so that the two directions of a pair are two lines. */
function bend(from: Spot, to: Spot): string {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const [mx, my] = [(from.x + to.x) / 2 - dy * 0.09, (from.y + to.y) / 2 + dx * 0.09];
  return `M${from.x.toFixed(1)} ${from.y.toFixed(1)}Q${mx.toFixed(1)} ${my.toFixed(1)} ${to.x.toFixed(1)} ${to.y.toFixed(1)}`;
}

function told(history: History, edges: Edge[]): string {
  const messages = edges.reduce((sum, edge) => sum + (edge.from === WORLD ? 0 : edge.messages), 0);
  return `Who talks to whom: ${history.members.size} agents, ${messages} messages over ${edges.length} links`;
}

/** Who plays: a row for each agent. */

import type { Model, ScenarioDetail } from "../api/types";
import { Badge } from "../parts/badge";
import { IconButton, Slider } from "../parts/basics";
import { BrainSelect } from "../parts/brain_select";
import { Icon } from "../parts/icon";
import { nameFor, type Draft, type Seat } from "../state/draft";
import { MOST } from "../state/steering";

interface SeatsProps {
  draft: Draft;
  scenario: ScenarioDetail;
  models: Model[];
  change: (some: Partial<Draft>) => void;
}

export function Seats({ draft, scenario, models, change }: SeatsProps) {
  const all = draft.seats.map((seat) => seat.id);
  const set = (row: number, some: Partial<Seat>) => change({ seats: draft.seats.map((seat) => (seat.row === row ? { ...seat, ...some } : seat)) });
  const add = () => {
    const taken = new Set(all);
    let place = 0;
    while (taken.has(nameFor(place))) place += 1;
    const last = draft.seats.at(-1);
    const row = Math.max(-1, ...draft.seats.map((seat) => seat.row)) + 1;
    change({ seats: [...draft.seats, { row, id: nameFor(place), brain: last?.brain ?? `policy:${scenario.policies[0]?.name}`, strength: last?.strength ?? 0, role: "", profile: last?.profile ?? {} }] });
  };
  return (
    <fieldset class="seats">
      <legend>Agents</legend>
      {!models.length && <p class="quiet">This endpoint serves no model, so policies and people play.</p>}
      <ul>
        {draft.seats.map((seat) => (
          <li key={seat.row}>
            <Badge agent={seat.id} all={all} steered={seat.brain.startsWith("model:") && seat.strength > 0} />
            <input
              type="text"
              aria-label={`Name of agent ${seat.id}`}
              class="name"
              required
              pattern="[a-zA-Z0-9][a-zA-Z0-9_.\-]{0,62}"
              value={seat.id}
              onInput={(event) => set(seat.row, { id: event.currentTarget.value })}
            />
            <BrainSelect
              label={`Who decides for ${seat.id}`}
              value={seat.brain}
              policies={scenario.policies}
              models={models.map((model) => model.id)}
              change={(brain) => set(seat.row, { brain })}
            />
            <input type="text" class="role" aria-label={`Role of ${seat.id}`} placeholder="role (optional)" value={seat.role} onInput={(event) => set(seat.row, { role: event.currentTarget.value })} />
            <IconButton
              icon="trash"
              label={`Remove ${seat.id}`}
              disabled={draft.seats.length < 2}
              press={() => change({ seats: draft.seats.filter((one) => one.row !== seat.row) })}
            />
            {seat.brain.startsWith("model:") && (
              <Slider label={`Steering of ${seat.id}`} most={MOST} value={seat.strength} change={(strength) => set(seat.row, { strength })} />
            )}
          </li>
        ))}
      </ul>
      <button type="button" class="small" onClick={add}>
        <Icon name="plus" /> Add an agent
      </button>
    </fieldset>
  );
}

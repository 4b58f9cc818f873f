/** Who plays: agents one by one, and crowds of them. */

import type { ComponentChildren } from "preact";
import { useContext, useState } from "preact/hooks";

import type { AgentSpec, Fields, GroupSpec, Json, Model, ScenarioDetail, Schema } from "../api/types";
import { Badge } from "../parts/badge";
import { Field, IconButton, Slider } from "../parts/basics";
import { BrainSelect } from "../parts/brain_select";
import { Icon } from "../parts/icon";
import { FormContext, SchemaFields } from "../parts/schema_form";
import { another, choiceOf, crowd, elsewhere, group, rebrained, roleOf, withRole, type Mix, type Spec } from "../state/draft";
import { MOST, strengthOf, withStrength } from "../state/steering";
import { told, within } from "../state/wrongs";

interface CastProps {
  spec: Spec;
  scenario: ScenarioDetail;
  models: Model[];
  change: (some: Spec) => void;
}

export function Seats({ spec, scenario, models, change }: CastProps) {
  const agents = spec.agents ?? [];
  const all = agents.map((agent) => agent.id);
  const put = (place: number, next: AgentSpec) => change({ agents: agents.map((agent, where) => (where === place ? next : agent)) });
  return (
    <fieldset class="seats">
      <legend>Agents</legend>
      {!models.length && <p class="quiet">This endpoint serves no model, so policies and people play.</p>}
      <ul>
        {agents.map((agent, place) => (
          <Seat key={place} agent={agent} who={agent.id ?? `number ${place + 1}`} path={`agents.${place}`} schema="AgentSpec" scenario={scenario} models={models} put={(next) => put(place, next)} remove={() => change({ agents: agents.filter((_, where) => where !== place) })}>
            <Badge agent={agent.id ?? ""} all={all} steered={(strengthOf(agent.brain, {}) ?? 0) > 0} />
            <input
              type="text"
              aria-label={`Name of agent ${agent.id}`}
              class="name"
              required
              pattern="[a-zA-Z0-9][a-zA-Z0-9_.\-]{0,62}"
              value={agent.id ?? ""}
              onInput={(event) => put(place, { ...agent, id: event.currentTarget.value })}
            />
          </Seat>
        ))}
      </ul>
      <button type="button" class="small" onClick={() => change({ agents: [...agents, another(spec, scenario)] })}>
        <Icon name="plus" /> Add an agent
      </button>
    </fieldset>
  );
}

export function Crowd({ spec, scenario, models, change }: CastProps) {
  const { root } = useContext(FormContext);
  const set = (population: unknown) => change({ population: population as Json });
  const kind = (spec.population as Fields | null | undefined)?.kind;
  const kinds: Record<string, () => unknown> = {
    "": () => null,
    mix: () => crowd(scenario),
    generated: () => ({ kind: "generated", count: 4, prefix: "agent", model: models[0]?.id, brain: { kind: "llm", model: models[0]?.id } }),
  };
  return (
    <>
      <Field label="More agents" help="Made when the simulation begins, and named after their prefix.">
        {(ids) => (
          <select {...ids} value={String(kind ?? "")} onChange={(event) => set(kinds[event.currentTarget.value]!())}>
            <option value="">none</option>
            <option value="mix">groups in set shares</option>
            <option value="generated" disabled={!models.length}>
              a model writes their profiles
            </option>
          </select>
        )}
      </Field>
      {kind === "mix" && <Groups mix={spec.population as unknown as Mix} scenario={scenario} models={models} set={set} />}
      {kind === "generated" && <SchemaFields schema={root.$defs!.GeneratedPopulation!} value={spec.population as Fields} path="population" skip={["kind"]} change={set} />}
    </>
  );
}

interface GroupsProps {
  mix: Mix;
  scenario: ScenarioDetail;
  models: Model[];
  set: (mix: Mix) => void;
}

function Groups({ mix, scenario, models, set }: GroupsProps) {
  const { root } = useContext(FormContext);
  const groups = mix.groups ?? [];
  const put = (place: number, next: GroupSpec) => set({ ...mix, groups: groups.map((one, where) => (where === place ? next : one)) });
  return (
    <fieldset class="seats">
      <legend class="hidden">Groups</legend>
      <SchemaFields schema={root.$defs!.MixedPopulation!} value={mix as unknown as Fields} path="population" skip={["kind", "groups"]} change={(next) => set(next as unknown as Mix)} />
      <ul>
        {groups.map((one, place) => (
          <Seat key={place} agent={one} who={`group ${place + 1}`} path={`population.groups.${place}`} schema="GroupSpec" scenario={scenario} models={models} put={(next) => put(place, next)} remove={groups.length > 1 ? () => set({ ...mix, groups: groups.filter((_, where) => where !== place) }) : undefined}>
            <span class="share">{share(groups, one)}</span>
            <label class="weight">
              Weight
              <input type="number" aria-label={`Weight of group ${place + 1}`} required min={0} step="any" value={Number(one.weight ?? 1)} onInput={(event) => put(place, { ...one, weight: Number(event.currentTarget.value) })} />
            </label>
          </Seat>
        ))}
      </ul>
      <button type="button" class="small" onClick={() => set({ ...mix, groups: [...groups, group(scenario, groups.length)] })}>
        <Icon name="plus" /> Add a group
      </button>
    </fieldset>
  );
}

function share(groups: readonly GroupSpec[], group: GroupSpec): string {
  const sum = groups.reduce((all, one) => all + Number(one.weight ?? 1), 0);
  return sum > 0 ? `${Math.round((100 * Number(group.weight ?? 1)) / sum)} %` : "";
}

interface SeatProps<T extends GroupSpec> {
  agent: T;
  /** What labels call it. */
  who: string;
  path: string;
  /** Which of the form's definitions it is. */
  schema: string;
  scenario: ScenarioDetail;
  models: Model[];
  put: (agent: T) => void;
  remove?: () => void;
  /** What stands first. */
  children: ComponentChildren;
}

/** Fields that stand in the line itself. */
const ITS_OWN = ["id", "weight"];

/** What an agent and a group have in common: who decides, the role, the steering, and whatever else is in the schema. */
function Seat<T extends GroupSpec>({ agent, who, path, schema, scenario, models, put, remove, children }: SeatProps<T>) {
  const { root, wrongs } = useContext(FormContext);
  const [open, setOpen] = useState(false);
  const strength = strengthOf(agent.brain, {});
  const meant = within(wrongs, path);
  // Fields that are drawn tell theirs themselves.
  const untold = open ? meant.filter((one) => [path, ...ITS_OWN.map((name) => `${path}.${name}`)].includes(one.path)) : meant;
  return (
    <li class={meant.length ? "wrong" : ""}>
      {children}
      <BrainSelect
        label={`Who decides for ${who}`}
        value={choiceOf(agent.brain)}
        none={elsewhere(agent.brain)}
        policies={scenario.policies}
        models={models.map((model) => model.id)}
        change={(choice) => put(rebrained(agent, choice))}
      />
      <input type="text" class="role" aria-label={`Role of ${who}`} placeholder="role (optional)" value={roleOf(agent)} onInput={(event) => put(withRole(agent, event.currentTarget.value))} />
      <button type="button" class="bare" aria-label={`More of ${who}`} title="Profile, memory, and more" aria-expanded={open} onClick={() => setOpen(!open)}>
        <Icon name="more" />
      </button>
      <IconButton icon="trash" label={`Remove ${who}`} disabled={!remove} press={() => remove?.()} />
      {strength !== null && <Slider label={`Steering of ${who}`} most={MOST} value={strength} change={(next) => put({ ...agent, brain: withStrength(agent.brain, next) })} />}
      {untold.length > 0 && (
        <p class="help wrong" tabIndex={-1}>
          {told(untold)}
        </p>
      )}
      {open && <SchemaFields schema={root.$defs![schema] as Schema} value={agent as unknown as Fields} path={path} skip={ITS_OWN} change={(next) => put(next as unknown as T)} />}
    </li>
  );
}

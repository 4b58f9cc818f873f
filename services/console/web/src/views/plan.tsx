/** Over what an experiment varies its simulation. */

import { useId } from "preact/hooks";

import { counted, Field, IconButton } from "../parts/basics";
import { Icon } from "../parts/icon";
import { countOf, MOST, pathsOf, seedsOf, valuesOf, type Axis, type Plan } from "../state/plan";
import type { Spec } from "../state/draft";
import { told, within, type Wrong } from "../state/wrongs";

interface PlanFormProps {
  plan: Plan;
  spec: Spec;
  /** Names of the scenario's settings. */
  params: readonly string[];
  wrongs: readonly Wrong[];
  change: (plan: Plan) => void;
}

export function PlanForm({ plan, spec, params, wrongs, change }: PlanFormProps) {
  const id = useId();
  const paths = pathsOf(spec, params);
  const set = (place: number, some: Partial<Axis>) => change({ ...plan, axes: plan.axes.map((axis, where) => (where === place ? { ...axis, ...some } : axis)) });
  // A value that does not fit is refused where it would stand.
  const atAxis = ({ path }: Axis) => (path ? [...within(wrongs, `grid.${path}`), ...within(wrongs, path)] : []);
  const rest = [...wrongs.filter((one) => one.path === "grid"), ...within(wrongs, "seeds")];
  const unread = seedsOf(plan.seeds) ? "" : "These are no seeds: write numbers or ranges, e.g. 0-4, 7.";
  const add = () => {
    const free = paths.find((path) => !plan.axes.some((axis) => axis.path === path));
    change({ ...plan, axes: [...plan.axes, { path: free ?? "", values: "" }] });
  };
  return (
    <div class="plan">
      <datalist id={`${id}-paths`}>
        {paths.map((path) => (
          <option key={path} value={path} />
        ))}
      </datalist>
      <ul>
        {plan.axes.map((axis, place) => (
          <li key={place}>
            <Field label="What is varied" help={place ? undefined : "A path of the simulation, as in its JSON below."}>
              {(ids) => <input {...ids} type="text" class="code" required list={`${id}-paths`} value={axis.path} onInput={(event) => set(place, { path: event.currentTarget.value })} />}
            </Field>
            <Field label="Values" help={counted(valuesOf(axis.values).length, "value")} problem={told(atAxis(axis))}>
              {(ids) => <input {...ids} type="text" required placeholder="0, 0.5, 1" value={axis.values} onInput={(event) => set(place, { values: event.currentTarget.value })} />}
            </Field>
            <IconButton icon="trash" label={`Remove ${axis.path}`} press={() => change({ ...plan, axes: plan.axes.filter((_, where) => where !== place) })} />
          </li>
        ))}
      </ul>
      <button type="button" class="small" onClick={add}>
        <Icon name="plus" /> Vary {plan.axes.length ? "something else too" : "something"}
      </button>
      <Field label="Seeds" help="Every combination is played once with each, e.g. 0-4 or 0, 7, 9." problem={unread || told(rest)}>
        {(ids) => <input {...ids} ref={(node) => node?.setCustomValidity(unread)} type="text" required value={plan.seeds} onInput={(event) => change({ ...plan, seeds: event.currentTarget.value })} />}
      </Field>
      <p class={countOf(plan) > MOST ? "help wrong" : "help"} role="status">
        {counted(countOf(plan), "simulation")}
        {countOf(plan) > MOST && `; an experiment has at most ${MOST}`}
      </p>
    </div>
  );
}

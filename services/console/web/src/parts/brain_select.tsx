/** Who decides for an agent: a policy, a model, or the person at the page. */

import { worded } from "../state/words";

interface BrainSelectProps {
  label: string;
  value: string;
  policies: readonly { name: string; about: string }[];
  models: readonly string[];
  /** What stands first, where nothing need be chosen. */
  none?: string;
  change: (brain: string) => void;
}

export function BrainSelect({ label, value, policies, models, none, change }: BrainSelectProps) {
  return (
    <select aria-label={label} value={value} onChange={(event) => change(event.currentTarget.value)}>
      {none && <option value="">{none}</option>}
      <optgroup label="A policy of the scenario">
        {policies.map((policy) => (
          <option key={policy.name} value={`policy:${policy.name}`} title={policy.about}>
            {worded(policy.name)}
          </option>
        ))}
      </optgroup>
      {models.length > 0 && (
        <optgroup label="A model">
          {models.map((model) => (
            <option key={model} value={`model:${model}`}>
              {model}
            </option>
          ))}
        </optgroup>
      )}
      <optgroup label="A person">
        <option value="human">you, on this page</option>
      </optgroup>
    </select>
  );
}

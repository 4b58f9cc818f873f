/** Fields made of a JSON schema: what a scenario can be set to. */

import { useState } from "preact/hooks";

import type { Fields, Json, Schema } from "../api/types";
import { Field } from "./basics";

interface SchemaFormProps {
  schema: Schema;
  value: Fields;
  change: (value: Fields) => void;
}

export function SchemaForm({ schema, value, change }: SchemaFormProps) {
  const names = Object.keys(schema.properties ?? {});
  if (!names.length) return <p class="quiet">This scenario has no settings.</p>;
  const set = (name: string, next: Json | undefined) => {
    const { [name]: _, ...rest } = value;
    change(next === undefined ? rest : { ...rest, [name]: next });
  };
  return (
    <div class="grid">
      {names.map((name) => (
        <Property
          key={name}
          name={name}
          schema={resolved(schema.properties![name]!, schema)}
          required={schema.required?.includes(name) ?? false}
          value={value[name]}
          set={(next) => set(name, next)}
        />
      ))}
    </div>
  );
}

interface PropertyProps {
  name: string;
  schema: Schema;
  required: boolean;
  value: Json | undefined;
  /** Undefined takes the default. */
  set: (value: Json | undefined) => void;
}

function Property({ name, schema, required, value, set }: PropertyProps) {
  const label = name.replaceAll("_", " ");
  const help = plain(schema.description ?? "");
  const now = value ?? schema.default;
  if (schema.type === "boolean") {
    return (
      <Field label={label} help={help}>
        {(ids) => <input {...ids} type="checkbox" checked={now === true} onChange={(event) => set(event.currentTarget.checked)} />}
      </Field>
    );
  }
  if (schema.enum) {
    return (
      <Field label={label} help={help}>
        {(ids) => (
          <select {...ids} value={String(now ?? "")} onChange={(event) => set(schema.enum!.find((one) => String(one) === event.currentTarget.value))}>
            {schema.enum!.map((option) => (
              <option key={String(option)} value={String(option)}>
                {String(option).replaceAll("_", " ")}
              </option>
            ))}
          </select>
        )}
      </Field>
    );
  }
  if (schema.type === "integer" || schema.type === "number") {
    return (
      <Field label={label} help={help}>
        {(ids) => (
          <input
            {...ids}
            type="number"
            required={required}
            min={schema.minimum ?? schema.exclusiveMinimum}
            max={schema.maximum ?? schema.exclusiveMaximum}
            step={schema.type === "integer" ? 1 : "any"}
            placeholder={schema.default === null ? "none" : ""}
            value={typeof now === "number" ? now : ""}
            onInput={(event) => set(event.currentTarget.value === "" ? undefined : Number(event.currentTarget.value))}
          />
        )}
      </Field>
    );
  }
  if (schema.type === "string") {
    return (
      <Field label={label} help={help} wide>
        {(ids) => (
          <input {...ids} type="text" required={required} value={typeof now === "string" ? now : ""} onInput={(event) => set(event.currentTarget.value || undefined)} />
        )}
      </Field>
    );
  }
  return <Written label={label} help={help} value={now} set={set} />;
}

/** What has no field of its own is written as JSON. */
function Written({ label, help, value, set }: { label: string; help: string; value: Json | undefined; set: PropertyProps["set"] }) {
  const [text, setText] = useState(value === undefined || value === null ? "" : JSON.stringify(value));
  const [problem, setProblem] = useState("");
  const write = (next: string) => {
    setText(next);
    try {
      set(next.trim() ? (JSON.parse(next) as Json) : undefined);
      setProblem("");
    } catch {
      setProblem('This is no JSON yet, e.g. [1, 2] or {"ann": 0.5}.');
    }
  };
  return (
    <Field label={label} help={help} problem={problem} wide>
      {(ids) => <input {...ids} type="text" class="code" placeholder="JSON; empty for the default" value={text} onInput={(event) => write(event.currentTarget.value)} />}
    </Field>
  );
}

/** The schema itself: references are followed, and `X or null` is X that may be left empty. */
function resolved(schema: Schema, root: Schema): Schema {
  if (schema.$ref) {
    const target = root.$defs?.[schema.$ref.split("/").at(-1) ?? ""] ?? {};
    return resolved({ ...target, ...schema, $ref: undefined }, root);
  }
  const some = schema.anyOf?.filter((one) => one.type !== "null");
  if (some?.length === 1) return { ...resolved(some[0]!, root), description: schema.description, default: schema.default };
  if (schema.const !== undefined) return { ...schema, enum: [schema.const] };
  return schema;
}

function plain(text: string): string {
  return text.replaceAll("`", "").replaceAll(/\s*\n\s*/g, " ");
}

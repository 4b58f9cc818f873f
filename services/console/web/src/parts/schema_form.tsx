/** Fields made of a JSON schema, as deep as it goes. */

import { createContext } from "preact";
import { useContext } from "preact/hooks";

import type { Fields, Json, Schema } from "../api/types";
import { fresh, plain, resolved, shapeOf, without, type Resolved } from "../state/schema";
import { steeredWith, strengthIn, MOST } from "../state/steering";
import { worded } from "../state/words";
import { told, within, type Wrong } from "../state/wrongs";
import { Field, IconButton, Slider } from "./basics";
import { Icon } from "./icon";
import { Written } from "./written";

export interface FormSetting {
  /** The schema that references are looked up in. */
  root: Schema;
  wrongs: readonly Wrong[];
  /** Names to choose from, for fields of text that name something served or known. */
  names: { [field: string]: readonly string[] };
}

export const FormContext = createContext<FormSetting>({ root: {}, wrongs: [], names: {} });

interface SchemaFieldsProps {
  schema: Schema;
  value: Fields;
  /** Where they stand, e.g. `agents.0.memory`. */
  path: string;
  /** Fields that are set elsewhere. */
  skip?: readonly string[];
  change: (value: Fields) => void;
}

/** A field for each property of an object. */
export function SchemaFields({ schema, value, path, skip = [], change }: SchemaFieldsProps) {
  const properties = Object.entries(schema.properties ?? {}).filter(([name]) => !skip.includes(name));
  if (!properties.length) return null;
  return (
    <div class="grid">
      {properties.map(([name, property]) => (
        <Property
          key={name}
          name={name}
          path={path ? `${path}.${name}` : name}
          schema={property}
          required={schema.required?.includes(name) ?? false}
          value={value[name]}
          set={(next) => change(next === undefined ? without(value, name) : { ...value, [name]: next })}
        />
      ))}
    </div>
  );
}

interface PropertyProps {
  name: string;
  path: string;
  schema: Schema;
  required?: boolean;
  value: Json | undefined;
  /** Undefined takes the default. */
  set: (value: Json | undefined) => void;
}

export function Property({ name, path, schema, required = false, value, set }: PropertyProps) {
  const { root, wrongs, names } = useContext(FormContext);
  const here = resolved(schema, root);
  const shape = shapeOf(here, root);
  const now = value ?? here.default;
  const deep = shape.is === "fields" || shape.is === "union" || shape.is === "list";
  // What is deeper is told at its own field, where there is one.
  const meant = deep ? wrongs.filter((one) => one.path === path) : within(wrongs, path);
  const shared = { label: worded(name), help: plain(here.description ?? ""), problem: told(meant) };
  const inner: Inner = { ...shared, name, path, schema: here, required, now, set };
  // The one field that everybody comes for has a slider.
  if (name === "steering") return <Steering {...inner} />;
  switch (shape.is) {
    case "boolean":
      return <Field {...shared}>{(ids) => <input {...ids} type="checkbox" checked={now === true} onChange={(event) => set(event.currentTarget.checked)} />}</Field>;
    case "choice":
      return <Choice {...inner} options={shape.options} />;
    case "number":
      return <NumberField {...inner} />;
    case "text":
      return names[name] ? <Choice {...inner} options={[...names[name]]} /> : <TextField {...inner} />;
    case "lines":
      return <Lines {...inner} />;
    case "json":
      return <Written {...shared} value={now} set={set} />;
    case "union":
      return <Union {...inner} kinds={shape.kinds} />;
    case "fields":
      return <Group {...inner} />;
    case "list":
      return <List {...inner} item={shape.item} />;
  }
}

interface Inner {
  name: string;
  label: string;
  help: string;
  problem: string | undefined;
  path: string;
  schema: Resolved;
  required: boolean;
  /** The value, or its default. */
  now: Json | undefined;
  set: (value: Json | undefined) => void;
}

function Choice({ options, now, set, required, ...shared }: Inner & { options: Json[] }) {
  const unset = now === undefined || now === null;
  const offered = unset || options.some((one) => one === now) ? options : [now, ...options];
  return (
    <Field {...shared}>
      {(ids) => (
        <select {...ids} required={required} value={unset ? "" : String(now)} onChange={(event) => set(offered.find((one) => String(one) === event.currentTarget.value))}>
          {(unset || shared.schema.nullable) && <option value="">{required ? "choose…" : "none"}</option>}
          {offered.map((option) => (
            <option key={String(option)} value={String(option)}>
              {worded(String(option))}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

function NumberField({ schema, required, now, set, ...shared }: Inner) {
  return (
    <Field {...shared}>
      {(ids) => (
        <input
          {...ids}
          type="number"
          required={required}
          min={schema.minimum ?? schema.exclusiveMinimum}
          max={schema.maximum ?? schema.exclusiveMaximum}
          step={schema.type === "integer" ? 1 : "any"}
          placeholder={schema.nullable ? "none" : ""}
          value={typeof now === "number" ? now : ""}
          onInput={(event) => set(event.currentTarget.value === "" ? undefined : Number(event.currentTarget.value))}
        />
      )}
    </Field>
  );
}

function TextField({ required, now, set, ...shared }: Inner) {
  return (
    <Field {...shared} wide>
      {(ids) => <input {...ids} type="text" required={required} value={typeof now === "string" ? now : ""} onInput={(event) => set(event.currentTarget.value || undefined)} />}
    </Field>
  );
}

function Lines({ required, now, set, ...shared }: Inner) {
  const lines = Array.isArray(now) ? now : [];
  const write = (text: string) => set(text ? text.split("\n") : undefined);
  return (
    <Field {...shared} wide>
      {(ids) => <textarea {...ids} rows={Math.max(2, lines.length)} required={required} placeholder="one a line" value={lines.join("\n")} onInput={(event) => write(event.currentTarget.value)} />}
    </Field>
  );
}

function Union({ kinds, path, now, set, ...shared }: Inner & { kinds: { [kind: string]: Schema } }) {
  const { root } = useContext(FormContext);
  const value = (now ?? {}) as Fields;
  const kind = typeof value.kind === "string" ? value.kind : "";
  const chosen = kinds[kind] && resolved(kinds[kind], root);
  return (
    <fieldset class="part wide">
      <legend class="hidden">{shared.label}</legend>
      <Field {...shared} help={plain(chosen?.description ?? shared.help)}>
        {(ids) => (
          <select {...ids} value={kind} onChange={(event) => set(event.currentTarget.value ? { kind: event.currentTarget.value } : undefined)}>
            {(!kind || shared.schema.nullable) && <option value="">{shared.schema.nullable ? "none" : "choose…"}</option>}
            {Object.keys(kinds).map((one) => (
              <option key={one} value={one}>
                {worded(one)}
              </option>
            ))}
          </select>
        )}
      </Field>
      {chosen && <SchemaFields schema={chosen} value={value} path={path} skip={["kind"]} change={set} />}
    </fieldset>
  );
}

function Group({ schema, label, help, problem, path, now, set }: Inner) {
  const { root } = useContext(FormContext);
  const there = now !== undefined && now !== null;
  return (
    <fieldset class="part wide">
      <legend>{label}</legend>
      <About help={help} problem={problem} />
      {there ? (
        <SchemaFields schema={schema} value={now as Fields} path={path} change={set} />
      ) : (
        <button type="button" class="small" onClick={() => set(fresh(schema, root))}>
          <Icon name="plus" /> Set {label}
        </button>
      )}
      {there && schema.nullable && (
        <button type="button" class="small" onClick={() => set(undefined)}>
          Without {label}
        </button>
      )}
    </fieldset>
  );
}

/** What a group of fields is for, or what is wrong with it as a whole; that can be given the focus. */
function About({ help, problem }: { help: string; problem: string | undefined }) {
  if (problem) {
    return (
      <p class="help wrong" tabIndex={-1}>
        {problem}
      </p>
    );
  }
  return help ? <p class="help">{help}</p> : null;
}

function List({ item, label, help, problem, path, now, set }: Inner & { item: Schema }) {
  const { root } = useContext(FormContext);
  const items = Array.isArray(now) ? now : [];
  return (
    <fieldset class="part wide">
      <legend>{label}</legend>
      <About help={help} problem={problem} />
      <ol class="items">
        {items.map((one, place) => (
          <li key={place}>
            <Property
              name={`${place + 1}`}
              path={`${path}.${place}`}
              schema={item}
              required
              value={one}
              set={(next) => set(items.map((other, where) => (where === place ? (next ?? {}) : other)))}
            />
            <IconButton icon="trash" label={`Remove ${place + 1} of ${label}`} press={() => set(items.filter((_, where) => where !== place))} />
          </li>
        ))}
      </ol>
      <button type="button" class="small" onClick={() => set([...items, fresh(item, root)])}>
        <Icon name="plus" /> Add to {label}
      </button>
    </fieldset>
  );
}

/** A strength to move, and the whole of it in writing. */
function Steering({ label, help, problem, now, set }: Inner) {
  const steering = (now ?? {}) as Fields;
  return (
    <div class="wide">
      <Slider label={`${label} strength`} most={MOST} value={strengthIn(steering)} change={(strength) => set(steeredWith(steering, strength))} />
      <Written label={label} help={help} problem={problem} value={now} set={set} />
    </div>
  );
}

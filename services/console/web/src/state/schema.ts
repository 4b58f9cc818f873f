/** What a field of a JSON schema is to a form. */

import type { Fields, Json, Schema } from "../api/types";

/** A schema that is followed to where it says what it is. */
export interface Resolved extends Schema {
  /** Whether null, which stands for none, is a value too. */
  nullable?: boolean;
}

export type Shape =
  | { is: "boolean" }
  | { is: "choice"; options: Json[] }
  | { is: "number" }
  | { is: "text" }
  /** Texts, one a line. */
  | { is: "lines" }
  | { is: "fields" }
  /** One of several kinds, which field `kind` names. */
  | { is: "union"; kinds: { [kind: string]: Schema } }
  | { is: "list"; item: Schema }
  /** What has no field of its own is written as JSON. */
  | { is: "json" };

/** Kinds that name code or files, which no request may. */
const REFUSED = ["custom", "table"];

/** The schema itself: references are followed, and `X or null` is X that may be left empty. */
export function resolved(schema: Schema, root: Schema): Resolved {
  if (schema.$ref) {
    const target = root.$defs?.[schema.$ref.split("/").at(-1) ?? ""] ?? {};
    return resolved({ ...target, ...schema, $ref: undefined }, root);
  }
  const some = schema.anyOf?.filter((one) => one.type !== "null") ?? [];
  if (some.length !== 1) return schema;
  const inner = resolved(some[0]!, root);
  return { ...inner, description: schema.description ?? inner.description, default: schema.default, nullable: schema.anyOf!.length > 1 };
}

export function shapeOf(schema: Resolved, root: Schema): Shape {
  if (schema.const !== undefined) return { is: "choice", options: [schema.const] };
  if (schema.enum) return { is: "choice", options: schema.enum };
  if (schema.oneOf && schema.discriminator) return { is: "union", kinds: kindsOf(schema.discriminator.mapping) };
  switch (schema.type) {
    case "boolean":
      return { is: "boolean" };
    case "integer":
    case "number":
      return { is: "number" };
    case "string":
      return { is: "text" };
    case "object":
      return { is: schema.properties ? "fields" : "json" };
    case "array": {
      const item = schema.items && resolved(schema.items, root);
      if (item?.type === "string" && !item.enum) return { is: "lines" };
      return item && (item.properties || item.oneOf) ? { is: "list", item } : { is: "json" };
    }
    default:
      return { is: "json" };
  }
}

function kindsOf(mapping: { [kind: string]: string }): { [kind: string]: Schema } {
  const allowed = Object.entries(mapping).filter(([kind]) => !REFUSED.includes(kind));
  return Object.fromEntries(allowed.map(([kind, $ref]) => [kind, { $ref }]));
}

/** What a value begins with that somebody asks for. */
export function fresh(schema: Schema, root: Schema): Json {
  const here = resolved(schema, root);
  const shape = shapeOf(here, root);
  if (here.default !== undefined && here.default !== null) return here.default;
  if (shape.is === "union") return { kind: Object.keys(shape.kinds)[0] ?? "" };
  return shape.is === "list" ? [] : {};
}

/** What keeps a value out of a schema's fields, by path; empty where nothing does. Only shapes are looked at: what is missing is
 * still to be filled in, and the rest is the endpoint's to judge. */
export function flawOf(value: Json, schema: Schema, root: Schema, path = ""): string {
  const here = resolved(schema, root);
  const shape = shapeOf(here, root);
  const is = (what: string) => `${path || "A simulation"} is ${what}, not ${JSON.stringify(value).slice(0, 40)}.`;
  if (value === null && here.nullable) return "";
  if (shape.is === "text") return typeof value === "string" ? "" : is("a text");
  const among = (inner: [name: string | number, value: Json, schema: Schema][]) =>
    inner.map(([name, one, of]) => flawOf(one, of, root, path ? `${path}.${name}` : `${name}`)).find(Boolean) ?? "";
  if (shape.is === "list") return Array.isArray(value) ? among(value.map((one, place) => [place, one, shape.item])) : is("a list");
  if (shape.is !== "fields" && shape.is !== "union") return "";
  if (typeof value !== "object" || value === null || Array.isArray(value)) return is("an object");
  const { properties = {} } = shape.is === "fields" ? here : resolved(shape.kinds[String(value.kind)] ?? {}, root);
  return among(Object.entries(value).map(([name, one]) => [name, one, properties[name] ?? {}]));
}

/** Fields without one of them. */
export function without(fields: Fields, name: string): Fields {
  const { [name]: _, ...rest } = fields;
  return rest;
}

/** A description in one line. */
export function plain(text: string): string {
  return text.replaceAll("`", "").replaceAll(/\s*\n\s*/g, " ");
}

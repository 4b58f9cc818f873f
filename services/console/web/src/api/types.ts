/** The shapes that the endpoint answers with; its OpenAPI document is the truth. */

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type Fields = { [key: string]: Json };

export interface Simulation {
  id: string;
  name: string;
  scenario: string;
  status: string;
  reason: string;
  tick: number;
  max_ticks: number;
  seed: number;
  events: number;
  hash: string;
  created: number;
}

export interface SimulationDetail extends Simulation {
  spec: SimulationSpec;
  operations: { time: number; kind: string; payload: Fields }[];
}

export interface SimulationSpec {
  name: string;
  scenario: string;
  params: Fields;
  agents: AgentSpec[];
  topology: { kind: string; [key: string]: Json };
  engine: string;
  max_ticks: number;
  seed: number;
  models: { [alias: string]: Fields };
  [key: string]: Json | AgentSpec[] | undefined;
}

export interface AgentSpec extends GroupSpec {
  id: string;
}

/** Agents that are alike: one without a name. */
export interface GroupSpec {
  /** Undefined in one that is still being written. */
  brain?: BrainSpec;
  profile?: Fields;
  memory?: { kind: string; [key: string]: Json };
  [key: string]: Json | BrainSpec | undefined;
}

export interface BrainSpec {
  kind: string;
  policy?: string;
  model?: string;
  steering?: Fields | null;
  llm?: BrainSpec;
  [key: string]: Json | BrainSpec | undefined;
}

export interface Event {
  seq: number;
  tick: number;
  phase: string;
  kind: string;
  agent: string | null;
  payload: Fields;
  cause: number | null;
}

export interface Question {
  id: string;
  agent: string;
  tick: number;
  question: string;
  instruction: string;
  deadline: number | null;
  default: string | null;
}

/** A JSON schema, as far as the endpoint's go. */
export interface Schema {
  type?: string;
  title?: string;
  description?: string;
  default?: Json;
  enum?: Json[];
  const?: Json;
  anyOf?: Schema[];
  oneOf?: Schema[];
  items?: Schema;
  properties?: { [name: string]: Schema };
  required?: string[];
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  discriminator?: { propertyName: string; mapping: { [kind: string]: string } };
  $ref?: string;
  $defs?: { [name: string]: Schema };
}

export interface Scenario {
  name: string;
  about: string;
  policies: { name: string; about: string }[];
}

export interface ScenarioDetail extends Scenario {
  /** JSON schema of its own settings. */
  params: Schema;
  /** JSON schema of a whole simulation, as it is posted. */
  form: Schema;
  example: Partial<SimulationSpec> | null;
}

/** What `cursor` is asked for comes from `next`, which is null after the last page. */
export interface Page<T> {
  data: T[];
  next: string | null;
}

export interface Experiment {
  id: string;
  name: string;
  /** How many it plays. */
  simulations: number;
}

/** A mean over seeds with its 95 % interval, which a single one has none of. */
export interface Interval {
  mean: number;
  low: number | null;
  high: number | null;
  n: number;
}

/** How many simulations stand how. */
export type States = { [status: string]: number };

/** One combination of an experiment's grid. */
export interface Point {
  values: Fields;
  simulations: string[];
  states: States;
  metrics: { [name: string]: Interval };
}

export interface ExperimentDetail extends Experiment {
  /** Dotted paths of the simulation and the values that each takes. */
  grid: { [path: string]: Json[] };
  seeds: number[];
  states: States;
  points: Point[];
}

export interface Model {
  id: string;
  about?: string;
}

export interface MemoryRecord {
  tick: number;
  kind: string;
  text: string;
  about: string;
}

/** An agent's steering strength inside its brain's spec. */

import type { BrainSpec, Fields, SimulationSpec } from "../api/types";

/** The paper's strength is 1; what lies far beyond it seldom leaves a sentence whole. */
export const MOST = 3;

function llm(brain: BrainSpec | undefined): BrainSpec | null {
  if (brain?.kind === "llm") return brain;
  return brain?.llm ?? null;
}

/** The strength that acts; 0 is the plain model, null an agent without a model.
 * @param models the simulation's, whose steering acts on agents that bring none. */
export function strengthOf(brain: BrainSpec | undefined, models: SimulationSpec["models"]): number | null {
  const model = llm(brain);
  if (!model) return null;
  const own = model.steering ?? (models[model.model ?? ""]?.steering as Fields | null | undefined);
  return strengthIn(own ?? {});
}

/** The strength of a steering. */
export function strengthIn(steering: Fields): number {
  const part = (steering.boost ?? steering.residual_scale ?? null) as Fields | null;
  return typeof part?.strength === "number" ? part.strength : part ? 1 : 0;
}

/** The brain with another strength; what else its steering says stays. */
export function withStrength<B extends BrainSpec | undefined>(brain: B, strength: number): B | BrainSpec {
  const model = llm(brain);
  if (!brain || !model) return brain;
  const steered = { ...model, steering: steeredWith(model.steering ?? {}, strength) };
  return brain.kind === "llm" ? steered : { ...brain, llm: steered };
}

/** A steering with another strength of its boost. */
export function steeredWith(steering: Fields, strength: number): Fields {
  return { ...steering, boost: { ...(steering.boost as Fields | undefined), strength } };
}

/** Who decides, in words. */
export function decides(brain: BrainSpec | undefined): string {
  switch (brain?.kind) {
    case "scripted":
      return brain.policy ?? "scripted";
    case "stub":
      return `${brain.policy}, erring`;
    case "llm":
      return brain.model ?? "a model";
    case "human":
      return "a person";
    case "hybrid":
      return `${brain.llm?.model} and ${brain.policy}`;
    case "reviewed":
      return `${brain.llm?.model}, reviewed`;
    default:
      return brain?.kind ?? "unknown";
  }
}

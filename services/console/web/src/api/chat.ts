/** Talking to models, teams and agents. */

import { ApiFailure, call, send } from "./http";
import { messages } from "./sse";
import type { Model } from "./types";

export interface ChatMessage {
  role: "system" | "user" | "assistant";
  content: string;
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
}

export interface Ask {
  model: string;
  messages: ChatMessage[];
  temperature: number;
  max_tokens: number;
  /** Steering strength; null leaves the model as it is served. */
  strength: number | null;
}

export type Piece = { text: string } | { usage: Usage } | { simulation: string };

/** Whether a model's id names agents that play, whose brains have settings of their own. */
export function isPlayed(model: string): boolean {
  return /^(team|agent):/.test(model);
}

export async function models(): Promise<Model[]> {
  return (await call<{ data: Model[] }>("GET", "v1/models")).data;
}

/** The answer, piece by piece; what it cost comes last. */
export async function* chat(ask: Ask, signal: AbortSignal): AsyncGenerator<Piece> {
  const { model, strength, temperature, max_tokens } = ask;
  const own = isPlayed(model) ? {} : { temperature, max_tokens, ...(strength === null ? {} : { steering: strength }) };
  const body = { model, messages: ask.messages, ...own, stream: true, stream_options: { include_usage: true } };
  const response = await send("POST", "v1/chat/completions", { body, accept: "text/event-stream", signal });
  for await (const message of messages(response)) {
    if (message.data === "[DONE]") return;
    const chunk = JSON.parse(message.data) as {
      choices?: { delta?: { content?: string | null } }[];
      usage?: Usage | null;
      x_steerline?: { simulation?: string } | null;
      error?: { message: string; code?: string | null };
    };
    if (chunk.error) throw new ApiFailure(200, chunk.error.code ?? "", chunk.error.message);
    if (chunk.x_steerline?.simulation) yield { simulation: chunk.x_steerline.simulation };
    const text = chunk.choices?.[0]?.delta?.content;
    if (text) yield { text };
    if (chunk.usage) yield { usage: chunk.usage };
  }
}

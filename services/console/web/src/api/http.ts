/** Calls of the endpoint, which stands one folder above the console. */

import { key, keyInsteadOf } from "../state/session";
import { capital } from "../state/words";
import type { Page } from "./types";

const ROOT = new URL("../", new URL(".", location.href.split("#")[0]));

export interface FieldProblem {
  path: string;
  message: string;
}

/** An answer that is an error, in words for people. */
export class ApiFailure extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    /** Dotted path of the field that is meant; empty where none is. */
    readonly param = "",
    /** Each thing to mend in what was sent, with the path of its field; none where something else failed. */
    readonly problems: readonly FieldProblem[] = [],
  ) {
    super(message);
  }
}

export interface CallOptions {
  body?: unknown;
  accept?: string;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

/** The response, if it is a good one. Where the key is refused, it is the one to the same call with the next key.
 * @throws ApiFailure for every other one, and where nobody answers. */
export async function send(method: string, path: string, options: CallOptions = {}): Promise<Response> {
  const used = key.now;
  const response = await answered(method, path, options, used);
  if (response.ok) return response;
  const failed = await failure(response);
  if (response.status !== 401 || !(await keyInsteadOf(used, failed.message))) throw failed;
  options.signal?.throwIfAborted();
  return await send(method, path, options);
}

async function answered(method: string, path: string, options: CallOptions, used: string): Promise<Response> {
  const headers: Record<string, string> = { Accept: options.accept ?? "application/json", ...options.headers };
  if (used) headers.Authorization = `Bearer ${used}`;
  if (options.body !== undefined) headers["Content-Type"] = "application/json";
  const body = options.body === undefined ? undefined : JSON.stringify(options.body);
  try {
    return await fetch(new URL(path.replace(/^\//, ""), ROOT), { method, headers, body, signal: options.signal });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ApiFailure(0, "unreachable", "The endpoint does not answer. Is it running, and is this machine online?");
  }
}

export async function call<T>(method: string, path: string, body?: unknown, options: CallOptions = {}): Promise<T> {
  const response = await send(method, path, { ...options, body });
  return (response.status === 204 ? undefined : await response.json()) as T;
}

/** The first `pages` pages of a list, with what the next one is asked for with. */
export async function paged<T>(path: string, pages: number, query: Record<string, string> = {}): Promise<Page<T>> {
  const found: Page<T> = { data: [], next: null };
  for (let page = 0; page < pages; page += 1) {
    const asked = new URLSearchParams({ ...query, limit: "100", ...(found.next ? { cursor: found.next } : {}) });
    const more = await call<Page<T>>("GET", `${path}?${asked}`);
    found.data.push(...more.data);
    found.next = more.next;
    if (!more.next) break;
  }
  return found;
}

/** What a stream that has begun tells last where it fails. */
export function broken(data: string): ApiFailure {
  const { message, code, param } = told(data);
  return new ApiFailure(200, code, message ? sentence(message, param) : "The endpoint broke the stream off. Its log says more.", param);
}

async function failure(response: Response): Promise<ApiFailure> {
  const text = await response.text();
  const { message, code, param, problems } = told(text);
  const after = response.headers.get("Retry-After");
  const wait = response.status === 429 && after ? ` Try again in ${after} s.` : "";
  const fallback = `The endpoint answered ${response.status}. Its log says more.`;
  return new ApiFailure(response.status, code, (message ? sentence(message, param) : fallback) + wait, param, problems);
}

interface Told {
  message: string;
  code: string;
  param: string;
  problems: FieldProblem[];
}

function told(text: string): Told {
  try {
    const { error, problems = [] } = JSON.parse(text) as { error?: { [name in keyof Told]?: string | null }; problems?: FieldProblem[] };
    const listed = problems.map(({ path, message }) => ({ path, message: sentence(message) }));
    return { message: error?.message ?? "", code: error?.code ?? "", param: error?.param ?? "", problems: listed };
  } catch {
    return { message: "", code: "", param: "", problems: [] }; // A proxy's page, say; the status is told instead.
  }
}

/** Words with a capital, unless they begin with the name of a field, and a full stop. */
function sentence(text: string, field = ""): string {
  const first = field && text.startsWith(field) ? text : capital(text);
  return /[.!?`]$/.test(first) ? first : `${first}.`;
}

/** Words for whatever was thrown. */
export function words(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

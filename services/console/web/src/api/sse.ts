/** Server-sent events over `fetch`, which unlike `EventSource` can send a key. */

export interface Message {
  id: string;
  event: string;
  data: string;
}

/** The messages of one response, until it ends. */
export async function* messages(response: Response): AsyncGenerator<Message> {
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split(/\r?\n\r?\n/);
      rest = blocks.pop() ?? "";
      for (const block of blocks) {
        const message = read(block);
        if (message) yield message;
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined); // Stopping a stream that has already broken off is no fault.
  }
}

function read(block: string): Message | null {
  const message = { id: "", event: "message", data: [] as string[] };
  for (const line of block.split(/\r?\n/)) {
    const colon = line.indexOf(":");
    if (colon === 0) continue; // A heartbeat.
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") message.data.push(value);
    else if (field === "id" || field === "event") message[field] = value;
  }
  return message.data.length || message.event !== "message" ? { ...message, data: message.data.join("\n") } : null;
}

/** Where the API key is entered: on a page of its own to begin, and above what is open where it is refused later. */

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";

import { Dialog, Field } from "../parts/basics";
import { forgetKey, goWithoutKey, useKey } from "../state/session";

export function KeyPage({ why }: { why: string }) {
  return (
    <div class="page key">
      <div class="panel">
        <h1>API key</h1>
        <KeyForm why={why}>
          <button type="button" onClick={goWithoutKey}>
            It asks for none
          </button>
        </KeyForm>
        <p class="quiet">No key yet? Where the endpoint runs, type</p>
        <pre tabIndex={0}>steerline keys create my-name</pre>
        <p class="quiet">It prints the key once. To watch and play you need the scopes for simulations; to chat, the one for inference.</p>
      </div>
    </div>
  );
}

/** What is open stays as it is, and what was asked for goes on with the next key. */
export function KeyDialog({ why }: { why: string }) {
  return (
    <Dialog title="Another API key">
      <KeyForm why={why}>
        <button type="button" onClick={forgetKey}>
          Leave, and drop what is open
        </button>
      </KeyForm>
    </Dialog>
  );
}

function KeyForm({ why, children }: { why: string; children: ComponentChildren }) {
  const [text, setText] = useState("");
  return (
    <form class="stack" onSubmit={(event) => (event.preventDefault(), text.trim() && useKey(text.trim()))}>
      <p role="status">{why}</p>
      <Field label="Key" help="It stays in this tab and is gone when you close it." wide>
        {(ids) => (
          <input {...ids} type="password" required autocomplete="off" spellcheck={false} placeholder="sk-steerline-…" value={text} onInput={(event) => setText(event.currentTarget.value)} />
        )}
      </Field>
      <div class="row">
        <button type="submit" class="main">
          Go on
        </button>
        {children}
      </div>
    </form>
  );
}

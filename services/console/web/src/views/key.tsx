/** Where the API key is entered. */

import { useState } from "preact/hooks";

import { Field } from "../parts/basics";
import { goWithoutKey, useKey } from "../state/session";

export function KeyForm({ why }: { why: string }) {
  const [text, setText] = useState("");
  return (
    <div class="page key">
      <form class="panel" onSubmit={(event) => (event.preventDefault(), text.trim() && useKey(text.trim()))}>
        <h1>API key</h1>
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
          <button type="button" onClick={goWithoutKey}>
            It asks for none
          </button>
        </div>
        <p class="quiet">No key yet? Where the endpoint runs, type</p>
        <pre tabIndex={0}>steerline keys create my-name</pre>
        <p class="quiet">It prints the key once. To watch and play you need the scopes for simulations; to chat, the one for inference.</p>
      </form>
    </div>
  );
}

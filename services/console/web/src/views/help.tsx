/** What keys do. */

import { Dialog } from "../parts/basics";
import { shortcutsOn, switchShortcuts } from "../state/session";
import { SHORTCUTS } from "../state/shortcuts";
import { useValue } from "../state/value";

export function Help({ close }: { close: () => void }) {
  const on = useValue(shortcutsOn);
  return (
    <Dialog title="Keyboard" close={close}>
      <table class="keys">
        <tbody>
          {SHORTCUTS.map(([key, what]) => (
            <tr key={key}>
              <th scope="row">
                <kbd>{key}</kbd>
              </th>
              <td>{what}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <p class="quiet">Tab moves on, Enter and Space press, arrows move sliders. In fields, keys write.</p>
      <label class="check">
        <input type="checkbox" checked={on} onChange={(event) => switchShortcuts(event.currentTarget.checked)} />
        single keys act
      </label>
    </Dialog>
  );
}

/** A value that components can follow. */

import { useEffect, useState } from "preact/hooks";

export class Value<T> {
  #now: T;
  readonly #followers = new Set<() => void>();

  constructor(first: T) {
    this.#now = first;
  }

  get now(): T {
    return this.#now;
  }

  set(next: T): void {
    if (Object.is(next, this.#now)) return;
    this.#now = next;
    for (const follower of [...this.#followers]) follower();
  }

  follow(follower: () => void): () => void {
    this.#followers.add(follower);
    return () => this.#followers.delete(follower);
  }
}

/** The value now; the component is drawn again when it changes. */
export function useValue<T>(value: Value<T>): T {
  const [, draw] = useState(0);
  useEffect(() => {
    const again = () => draw((count) => count + 1);
    again(); // It may have changed between the first drawing and now.
    return value.follow(again);
  }, [value]);
  return value.now;
}

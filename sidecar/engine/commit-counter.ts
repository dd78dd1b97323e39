/**
 * Counts the commits of a writer in memory that all threads share. The writer counts before `transact` returns, so a reader that
 * sees the number it saw before it began to read has missed no acknowledged commit.
 */
export class CommitCounter {
  readonly shared: SharedArrayBuffer
  readonly #count: Int32Array

  constructor(shared: SharedArrayBuffer = new SharedArrayBuffer(4)) {
    this.shared = shared
    this.#count = new Int32Array(shared)
  }

  /** Compares by equality alone: it wraps around. */
  get current(): number {
    return Atomics.load(this.#count, 0)
  }

  increment(): void {
    Atomics.add(this.#count, 0, 1)
  }
}

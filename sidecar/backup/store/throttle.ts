import type { Clock } from '../../../src/common/clock.ts'

/**
 * A token bucket that several streams can share. It holds at most a tenth of a second's bytes, so that a pause is not
 * paid back by a burst.
 */
export class Bandwidth {
  readonly #bytesPerMs: number
  readonly #burst: number
  readonly #clock: Clock
  #tokens: number
  #filledAt: number

  /** @param bytesPerSecond 1 or more */
  constructor(bytesPerSecond: number, clock: Clock) {
    this.#bytesPerMs = bytesPerSecond / 1000
    this.#burst = Math.max(1, bytesPerSecond / 10)
    this.#clock = clock
    this.#tokens = this.#burst
    this.#filledAt = clock.monotonic()
  }

  /** Largest piece that is asked for at once. */
  get piece(): number {
    return Math.max(1, Math.floor(this.#burst))
  }

  /** Resolves when `bytes` may go. Callers that wait at the same time share: each takes its debt at once and waits it out. */
  async take(bytes: number, signal?: AbortSignal): Promise<void> {
    const now = this.#clock.monotonic()
    this.#tokens = Math.min(this.#burst, this.#tokens + (now - this.#filledAt) * this.#bytesPerMs)
    this.#filledAt = now
    this.#tokens -= bytes
    if (this.#tokens < 0) await this.#clock.sleep(-this.#tokens / this.#bytesPerMs, signal)
  }

  /** The stream, no faster than the bucket allows. */
  async *limit(source: AsyncIterable<Uint8Array>, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
    for await (const chunk of source) {
      for (let at = 0; at < chunk.length; at += this.piece) {
        const part = chunk.subarray(at, at + this.piece)
        await this.take(part.length, signal)
        yield part
      }
    }
  }
}

import { request } from 'undici'
import type { Clock } from '../../common/clock.ts'
import { OPERATIONS_PORT } from './names.ts'
import type { Pod, Probe, ProbeStatus } from './observed.ts'

const TIMEOUT = 2000
const BODY_LIMIT = 1024 * 1024

/** Asks the operations port of pods. Answers are kept: a reconcile reads the last one and never waits for a slow pod of another database. */
export class Prober {
  readonly #clock: Clock
  readonly #last = new Map<string, Probe>()
  readonly #port: number

  constructor(clock: Clock, port = OPERATIONS_PORT) {
    this.#clock = clock
    this.#port = port
  }

  last(key: string): Probe | undefined {
    return this.#last.get(key)
  }

  forget(key: string): void {
    this.#last.delete(key)
  }

  /** One question to a pod of the database `key`; what comes back is kept. Never rejects. */
  async ask(key: string, pod: Pod, signal: AbortSignal): Promise<Probe> {
    const base = { time: this.#clock.now(), pod: pod.metadata.uid ?? '' }
    let probe: Probe
    try {
      const ip = pod.status?.podIP ?? ''
      const host = ip.includes(':') ? `[${ip}]` : ip
      const answer = await request(`http://${host}:${this.#port}/status`, {
        signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT)]),
      })
      let text = ''
      for await (const chunk of answer.body) {
        text += String(chunk)
        if (text.length > BODY_LIMIT) throw new Error('the answer is too large')
      }
      probe = { ...base, status: JSON.parse(text) as ProbeStatus }
    } catch (error) {
      probe = { ...base, error: reasonOf(error) }
    }
    this.#last.set(key, probe)
    return probe
  }
}

/** In words that do not differ from one failure to the next: they stand in a condition, and each change of it is a write. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const code = (error as { code?: unknown }).code
  if (error.name === 'TimeoutError' || code === 'ETIMEDOUT' || code === 'UND_ERR_CONNECT_TIMEOUT')
    return `no answer within ${TIMEOUT / 1000} s`
  return typeof code === 'string' ? code : error.message
}

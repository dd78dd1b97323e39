import { digestOfRecord, formatDigest, reduceDigest } from '../../../sidecar/database/digest.ts'
import { random } from '../../support/random.ts'
import type { Direct } from './forward.ts'

/** One acknowledged write, kept outside of the database. */
interface Entry {
  readonly key: number
  /** Null: removed. */
  readonly value: string | null
  readonly seq: number
  /** Before the request and after its answer, Unix ms by this machine's clock, which is the nodes', too. */
  readonly asked: number
  readonly answered: number
}

/** What the database must hold at a position. */
export interface Content {
  readonly count: string
  readonly digest: string
}

/** Of each writer. */
const KEYS = 100

/** Writes, and remembers what was acknowledged. */
export class Ledger {
  readonly entries: Entry[] = []
  readonly #random: () => number
  #stopping = false
  #writers: Promise<void>[] = []
  /** Requests without an answer: nobody knows what came of them, so nothing exact can be said any more. */
  unknown = 0

  constructor(seed: number) {
    this.#random = random(seed)
  }

  /** Some writers, each with one request at a time, until `stop`. @param pause between two requests, ms */
  start(database: Pick<Direct, 'request'>, writers: number, pause: number): void {
    this.#stopping = false
    // keys of its own for each: requests of one moment may share a commit, which has one position and no order that can be seen
    this.#writers = Array.from({ length: writers }, async (_, writer) => {
      while (!this.#stopping) {
        try {
          await this.write(database, writer, writers)
        } catch {
          this.unknown++
        }
        await new Promise(resolve => setTimeout(resolve, pause))
      }
    })
  }

  async stop(): Promise<void> {
    this.#stopping = true
    await Promise.all(this.#writers)
  }

  /** One put, or now and then a removal. */
  async write(database: Pick<Direct, 'request'>, writer = 0, writers = 1): Promise<void> {
    const key = Math.floor(this.#random() * KEYS) * writers + writer
    const value = this.#random() < 0.15 ? null : `value ${this.entries.length} ${'x'.repeat(this.#random() * 200)}`
    const asked = Date.now()
    const path = `/v1/records/${key}`
    const answer = await (value === null
      ? database.request(`${path}?return=previous`, { method: 'DELETE' })
      : database.request(path, { method: 'PUT', body: value }))
    const answered = Date.now()
    const text = await answer.text()
    // there was nothing to remove, so nothing was changed
    if (value === null && answer.status === 404) return
    if (!answer.ok) throw new Error(`${answer.status} ${text}`)
    const seq = Number(answer.headers.get('kvidx-position')?.split('.')[1])
    this.entries.push({ key, value, seq, asked, answered })
  }

  /** The content after all acknowledged writes up to a seq. */
  at(seq: number): Content {
    const records = new Map<number, string>()
    for (const entry of this.entries.toSorted((a, b) => a.seq - b.seq)) {
      if (entry.seq > seq) break
      if (entry.value === null) records.delete(entry.key)
      else records.set(entry.key, entry.value)
    }
    let sum = 0n
    for (const [key, value] of records)
      sum += digestOfRecord({ key: BigInt(key), term: 0n, cmd: 0n, expiresAt: 0n, data: Buffer.from(value) })
    return { count: String(records.size), digest: formatDigest(reduceDigest(sum)) }
  }

  /** Bounds of the seq that a restore to a moment may end at: what was answered before it must be in, what was asked after it must not. */
  boundsAt(moment: number): { readonly least: number; readonly most: number } {
    const before = this.entries.filter(({ answered }) => answered < moment)
    const after = this.entries.filter(({ asked }) => asked > moment)
    return {
      least: Math.max(0, ...before.map(({ seq }) => seq)),
      most: Math.min(Number.MAX_SAFE_INTEGER, ...after.map(({ seq }) => seq)) - 1,
    }
  }
}

import { Pool } from 'undici'
import { expect } from 'vitest'
import type { StoredRecord } from '../../sidecar/engine/engine.ts'

/** What a writer knows of a record. */
interface Known {
  readonly term: bigint
  readonly cmd: bigint
  readonly data: string
  /** Unix ms; absent: it stays. */
  readonly expiresAt?: bigint
}

type State = Map<bigint, Known>

/** One call that was acknowledged. */
interface Entry {
  readonly seq: bigint
  /** Unix ms on the clock of the writer, which is the database's own here. */
  readonly sent: number
  readonly acknowledged: number
  readonly kind: string
  readonly apply: (state: State) => void
}

export interface Found {
  readonly records: ReadonlyMap<bigint, StoredRecord>
  /** Position that the restore says it reached, in epoch 1. */
  readonly seq: bigint
  /** Of its last commit, Unix ms. */
  readonly time: number
}

/** All acknowledged calls. Each key has one writer, which waits for its answer: the order of the calls to a key is that of their positions. */
export class Ledger {
  readonly #entries: Entry[] = []

  get length(): number {
    return this.#entries.length
  }

  get summary(): string {
    const counts = Map.groupBy(this.#entries, entry => entry.kind)
    return [...counts].map(([kind, entries]) => `${entries.length} ${kind}`).join(', ')
  }

  add(entry: Entry): void {
    this.#entries.push(entry)
  }

  /** @returns how many records had expired and were removed */
  compare(found: Found, moment: number, what: string): { gone: number } {
    const state: State = new Map()
    for (const entry of this.#entries.toSorted((a, b) => (a.seq < b.seq ? -1 : a.seq > b.seq ? 1 : 0))) {
      if (entry.seq <= found.seq) entry.apply(state)
      // the moment separates what was over before it from what began after it
      if (entry.acknowledged <= moment)
        expect(entry.seq, `${what}: acknowledged before it`).toBeLessThanOrEqual(found.seq)
      // one that changed nothing has no seq of its own; that none of a later time is in it is what found.time says
      if (entry.sent > moment) expect(entry.seq, `${what}: sent after it`).toBeGreaterThanOrEqual(found.seq)
    }
    expect(found.time, what).toBeLessThanOrEqual(moment)
    let gone = 0
    for (const [key, { data, ...rest }] of state) {
      const record = found.records.get(key)
      // an expired record is removed by the database itself, at a time of its own choice, but never before
      if (record === undefined && rest.expiresAt !== undefined && rest.expiresAt <= BigInt(moment)) gone++
      else
        expect(
          record && { data: Buffer.from(record.data).toString(), ...without(record) },
          `${what}: key ${key}`,
        ).toEqual({ data, ...rest })
    }
    const strangers = [...found.records.keys()].filter(key => !state.has(key))
    expect(strangers, `${what}: records that nobody wrote, or that were removed`).toEqual([])
    return { gone }
  }
}

function without({ key: _key, data: _data, term, cmd, expiresAt }: StoredRecord): object {
  return { term, cmd, ...(expiresAt > 0n && { expiresAt }) }
}

const WRITERS = 6
const KEYS_EACH = 60
/** Keys above this one of each writer never expire soon, so that what an append meets is known. */
const LASTING = 30

/** Writers with keys of their own: overwrites, appends, removes, ranges, batches, expiries. */
export class Load {
  readonly #pool: Pool
  readonly #ledger: Ledger
  readonly #next: () => number
  #stopped = false
  #writers: Promise<void>[] = []

  constructor(url: string, ledger: Ledger, next: () => number) {
    this.#pool = new Pool(url, { connections: WRITERS })
    this.#ledger = ledger
    this.#next = next
  }

  start(): void {
    this.#writers = Array.from({ length: WRITERS }, (_, index) => this.#write(BigInt(index) << 61n))
  }

  /** Rejects when a call was refused. */
  async stop(): Promise<void> {
    this.#stopped = true
    await Promise.all(this.#writers)
    await this.#pool.close()
  }

  async #write(base: bigint): Promise<void> {
    for (let n = 0; !this.#stopped; n++) {
      const index = this.#below(KEYS_EACH)
      const key = base + BigInt(index)
      const dice = this.#below(20)
      if (dice < 2) await this.#call('remove', 'DELETE', `/v1/records/${key}`, undefined, state => state.delete(key))
      else if (dice === 2) await this.#removeRange(key)
      else if (dice === 3) await this.#batch(key, n)
      // a key of its own, so that only its expiry removes it
      else if (dice === 4) await this.#put(base + 1000n + BigInt(n), n, true)
      else if (dice < 8 && index >= LASTING) await this.#append(key)
      else if (dice < 10 && index >= LASTING) await this.#expiry(key)
      else await this.#put(key, n, index < LASTING && this.#below(3) === 0)
    }
  }

  async #put(key: bigint, n: number, short: boolean): Promise<void> {
    const known = this.#record(n, short ? Date.now() + 200 + this.#below(3000) : this.#later())
    const { term, cmd, data, expiresAt } = known
    const query = `term=${term}&cmd=${cmd}${expiresAt === undefined ? '' : `&expiresAt=${expiresAt}`}`
    await this.#call('put', 'PUT', `/v1/records/${key}?${query}`, data, state => state.set(key, known))
  }

  async #append(key: bigint): Promise<void> {
    const more = `+${this.#below(1000)}`
    await this.#call('append', 'PATCH', `/v1/records/${key}?op=append`, more, state => {
      const before = state.get(key) ?? { term: 0n, cmd: 0n, data: '' }
      state.set(key, { ...before, data: before.data + more })
    })
  }

  async #expiry(key: bigint): Promise<void> {
    const expiresAt = this.#later()
    const path = `/v1/records/${key}/expiry${expiresAt === undefined ? '' : `?expiresAt=${expiresAt}`}`
    const method = expiresAt === undefined ? 'DELETE' : 'PUT'
    await this.#call('expiry', method, path, undefined, state => {
      const { expiresAt: _, ...known } = state.get(key) ?? {}
      if ('data' in known) state.set(key, { ...(known as Known), ...(expiresAt !== undefined && { expiresAt }) })
    })
  }

  async #removeRange(key: bigint): Promise<void> {
    const end = key + BigInt(this.#below(8))
    await this.#call('range', 'DELETE', `/v1/records?start=${key}&end=${end}`, undefined, state => {
      for (let at = key; at <= end; at++) state.delete(at)
    })
  }

  async #batch(key: bigint, n: number): Promise<void> {
    const known = this.#record(n)
    const other = key ^ 1n
    const data = Buffer.from(known.data).toString('base64')
    const ops = [
      { op: 'put', key: String(key), term: String(known.term), cmd: String(known.cmd), data },
      { op: 'delete', key: String(other) },
    ]
    await this.#call('batch', 'POST', '/v1/batch', JSON.stringify({ ops }), state => {
      state.set(key, known)
      state.delete(other)
    })
  }

  async #call(
    kind: string,
    method: 'PUT' | 'POST' | 'PATCH' | 'DELETE',
    path: string,
    body: string | undefined,
    apply: (state: State) => unknown,
  ): Promise<void> {
    const sent = Date.now()
    const headers = path === '/v1/batch' ? { 'content-type': 'application/json' } : {}
    const answer = await this.#pool.request({ method, path, headers, ...(body !== undefined && { body }) })
    const text = await answer.body.text()
    // there is nothing to set an expiry of, or to remove
    if (answer.statusCode === 404) return
    if (answer.statusCode >= 300) throw new Error(`${method} ${path}: ${answer.statusCode} ${text}`)
    const [epoch, seq] = String(answer.headers['kvidx-position']).split('.').map(BigInt) as [bigint, bigint]
    expect(epoch).toBe(1n)
    this.#ledger.add({ seq, sent, acknowledged: Date.now(), kind, apply: state => void apply(state) })
  }

  #record(n: number, expiresAt?: number | bigint): Known {
    const data = `${n}.${'x'.repeat(this.#below(120))}`
    const known = { term: BigInt(this.#below(9)), cmd: 2n ** 64n - 1n - BigInt(this.#below(9)), data }
    return expiresAt === undefined ? known : { ...known, expiresAt: BigInt(expiresAt) }
  }

  /** A far expiry, or none. */
  #later(): bigint | undefined {
    return this.#below(3) === 0 ? BigInt(Date.now() + 3_600_000 + this.#below(1000)) : undefined
  }

  #below(limit: number): number {
    return Math.floor(this.#next() * limit)
  }
}

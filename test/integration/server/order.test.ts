import { Pool } from 'undici'
import { describe, expect, onTestFinished, test } from 'vitest'
import { digestOfRecord, formatDigest, reduceDigest } from '../../../sidecar/database/digest.ts'
import type { EngineKind, StoredRecord } from '../../../sidecar/engine/engine.ts'
import { random } from '../../support/random.ts'
import { temporaryDirectory } from '../../support/sidecar-here.ts'
import { type SidecarProcess, startSidecarProcess } from '../../support/sidecar-process.ts'
import { lines } from './harness.ts'

/**
 * Several connections at once on a few keys of a real process, killed in the end. The change feed says in which order everything happened; every
 * answer must fit it: writes where their position says, conditions judged there, reads as the state was at theirs.
 */
const SEED = Number(process.env.KVIDX_FAULT_SEED ?? Date.now() % 1_000_000)
const CLIENTS = 8
const CALLS_EACH = 40
const KEYS = [0n, 7n, 2n ** 32n, 2n ** 63n, 2n ** 64n - 1n] as const

type State = ReadonlyMap<bigint, StoredRecord>

interface Seen {
  readonly kind: 'put' | 'append' | 'swap' | 'insert' | 'delete' | 'batch' | 'get' | 'scan' | 'stats'
  readonly key: bigint
  /** What the call wrote ends with it; nobody else writes it. */
  readonly token: string
  readonly status: number
  readonly seq: bigint
  readonly etag: string | undefined
  readonly ifMatch: string | undefined
  readonly body: string
}

interface Wrote {
  readonly seq: bigint
  readonly commit: bigint
  readonly record: StoredRecord
}

const etagOf = (record: StoredRecord | undefined) => record && `"${formatDigest(digestOfRecord(record))}"`
const textOf = (record: StoredRecord | undefined) => record && Buffer.from(record.data).toString()
const seqOf = (position: unknown) => BigInt(String(position).split('.')[1] ?? '0')

/** The states behind each change of the feed, the commits, and what was written with which token. */
class Witness {
  readonly states: State[] = [new Map()]
  readonly commits: bigint[] = [0n]
  readonly wrote = new Map<string, Wrote[]>()

  constructor(feed: string) {
    for (const line of lines(feed)) {
      if (line.end === true) continue
      const seq = seqOf(line.position)
      expect(seq, 'the feed has no gap').toBe(BigInt(this.states.length))
      const state = new Map(this.states.at(-1))
      const commit = seqOf(line.commit)
      const key = BigInt(String(line.key))
      if (line.op === 'delete') expect(state.delete(key), `the feed removes key ${key}, which is there`).toBe(true)
      else {
        const data = Buffer.from(String(line.data), 'base64')
        const record = { key, term: BigInt(String(line.term)), cmd: BigInt(String(line.cmd)), data, expiresAt: 0n }
        state.set(key, record)
        const token = /\d+\.\d+;$/.exec(data.toString())?.[0] ?? ''
        this.wrote.set(token, [...(this.wrote.get(token) ?? []), { seq, commit, record }])
      }
      this.states.push(state)
      if (this.commits.at(-1) !== commit) this.commits.push(commit)
    }
  }

  at(seq: bigint): State {
    const state = this.states[Number(seq)]
    if (!state) throw new Error(`nothing is known of seq ${seq}, the feed ends at ${this.states.length - 1}`)
    return state
  }

  /** The states that an operation of this commit, or judged beside it, may have met. */
  within(commit: bigint): State[] {
    const index = this.commits.indexOf(commit)
    expect(index, `${commit} is the position of a commit`).toBeGreaterThanOrEqual(0)
    return this.states.slice(Number(this.commits[index - 1] ?? 0n), Number(commit) + 1)
  }

  judge(seen: Seen): void {
    if (seen.kind === 'get' || seen.kind === 'scan' || seen.kind === 'stats') this.#judgeRead(seen)
    else if (seen.status === 412) this.#judgeRefusal(seen)
    else if (seen.kind === 'delete')
      expect([seen.status, this.within(seen.seq).some(state => !state.has(seen.key))]).toEqual([204, true])
    else this.#judgeWrite(seen)
  }

  #judgeRead({ kind, key, seq, status, body }: Seen): void {
    expect(this.commits).toContain(seq)
    const state = this.at(seq)
    const records = [...state.values()].sort((a, b) => (a.key < b.key ? -1 : 1))
    if (kind === 'get') {
      const record = state.get(key)
      expect(record ? [status, body] : status).toEqual(record ? [200, textOf(record)] : 404)
    } else if (kind === 'scan') {
      const found = lines(body).flatMap(line => (line.end === true ? [] : [[line.key, line.data]]))
      expect(found).toEqual(records.map(each => [`${each.key}`, Buffer.from(each.data).toString('base64')]))
    } else {
      const digest = formatDigest(reduceDigest(records.reduce((sum, each) => sum + digestOfRecord(each), 0n)))
      expect(JSON.parse(body)).toMatchObject({ count: `${state.size}`, digest })
    }
  }

  #judgeRefusal({ kind, key, seq, token, ifMatch }: Seen): void {
    expect(this.wrote.get(token)).toBeUndefined()
    const fails = (state: State) => (kind === 'insert' ? state.has(key) : etagOf(state.get(key)) !== ifMatch)
    expect(this.within(seq).some(fails), 'the condition did not hold at some moment of its commit').toBe(true)
  }

  #judgeWrite({ kind, key, seq, token, status, etag, ifMatch }: Seen): void {
    const wrote = this.wrote.get(token) ?? []
    expect(wrote.map(({ commit }) => commit)).toEqual(Array(kind === 'batch' ? KEYS.length : 1).fill(seq))
    if (kind === 'batch') return
    const [{ seq: own, record }] = wrote as [Wrote]
    const before = this.at(own - 1n).get(key)
    expect([status, etag]).toEqual([before ? 204 : 201, etagOf(record)])
    if (kind === 'insert') expect(before).toBeUndefined()
    if (kind === 'swap') expect(etagOf(before)).toBe(ifMatch)
    expect(textOf(record)).toBe(kind === 'append' ? (textOf(before) ?? '') + token : token)
  }
}

async function call(of: Pool, kind: Seen['kind'], key: bigint, token: string): Promise<Seen> {
  const path = `/v1/records/${key}`
  const ask = async (method: 'GET' | 'PUT' | 'PATCH' | 'DELETE' | 'POST', at: string, headers = {}, body?: string) => {
    const answer = await of.request({ method, path: at, headers, ...(body !== undefined && { body }) })
    return { ...answer, text: await answer.body.text() }
  }
  let ifMatch: string | undefined
  if (kind === 'swap') ifMatch = String((await ask('GET', path)).headers.etag ?? `"${'0'.repeat(32)}"`)
  const ops = KEYS.map(each => ({ op: 'put', key: `${each}`, text: token }))
  const { statusCode, headers, text } = await {
    put: () => ask('PUT', path, {}, token),
    append: () => ask('PATCH', `${path}?op=append`, {}, token),
    swap: () => ask('PUT', path, { 'if-match': ifMatch }, token),
    insert: () => ask('PUT', path, { 'if-none-match': '*' }, token),
    delete: () => ask('DELETE', path),
    batch: () => ask('POST', '/v1/batch', { 'content-type': 'application/json' }, JSON.stringify({ ops })),
    get: () => ask('GET', path),
    scan: () => ask('GET', '/v1/records'),
    stats: () => ask('GET', '/v1/stats'),
  }[kind]()
  const etag = headers.etag === undefined ? undefined : String(headers.etag)
  const seq = seqOf(headers['kvidx-position'])
  return { kind, key, token, status: statusCode, seq, etag, ifMatch, body: text }
}

const KINDS: readonly Seen['kind'][] = [
  'put',
  'append',
  'swap',
  'swap',
  'insert',
  'delete',
  'batch',
  'get',
  'scan',
  'stats',
]

describe.each<EngineKind>(['SQLite', 'LMDB', 'RocksDB'])('%s', engine => {
  test(`what many clients were told is one order, also when the process is killed (seed ${SEED})`, {
    timeout: 60_000,
  }, async () => {
    const next = random(SEED)
    const pick = <T>(list: readonly T[]) => list[Math.floor(next() * list.length)] as T
    const directory = `${temporaryDirectory()}/volume`
    let sidecar: SidecarProcess = await startSidecarProcess(directory, engine)
    onTestFinished(() => sidecar.kill('SIGKILL'))
    const seen: Seen[] = []
    let killed = false
    const clients = new Pool(sidecar.data, { connections: CLIENTS })
    onTestFinished(() => clients.destroy())
    const plans = Array.from({ length: CLIENTS }, () =>
      Array.from({ length: CALLS_EACH }, () => [pick(KINDS), pick(KEYS)] as const),
    )
    const client = async (plan: (typeof plans)[number], index: number) => {
      let last = 0n
      for (const [number, [kind, key]] of plan.entries()) {
        let told: Seen
        try {
          told = await call(clients, kind, key, `${index}.${number};`)
        } catch (error) {
          if (killed) return
          throw error
        }
        expect(told.seq, 'nobody sees the past again').toBeGreaterThanOrEqual(last)
        last = told.seq
        // most of the plans are through by then
        if (seen.push(told) > CLIENTS * CALLS_EACH * 0.9 && !killed) {
          killed = true
          sidecar.child.kill('SIGKILL')
        }
      }
    }
    await Promise.all(plans.map(client))
    await sidecar.kill('SIGKILL')
    sidecar = await startSidecarProcess(directory, engine)
    const witness = new Witness(await (await fetch(`${sidecar.data}/v1/changes?since=0.0`)).text())
    for (const told of seen) witness.judge(told)
    const stats = await (await fetch(`${sidecar.data}/v1/stats`)).text()
    const seq = BigInt(witness.states.length - 1)
    witness.judge({
      kind: 'stats',
      key: 0n,
      token: '',
      status: 200,
      seq,
      etag: undefined,
      ifMatch: undefined,
      body: stats,
    })
    // else nothing stood in anybody's way
    for (const status of [201, 204, 412]) expect(seen.map(told => told.status)).toContain(status)
  })
})

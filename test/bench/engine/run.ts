import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { EngineKind } from '../../../sidecar/engine/engine.ts'
import { ourLoop } from './ours.ts'
import { RAW_LOOPS } from './raw.ts'
import { binaryRecords, type Loop, type LoopMaker, makeWorkload, RECORD_HEADER, type Workload } from './workload.ts'

/**
 * The database on each engine beside the bindings' own loops, in one run on the same data:
 *   node test/bench/engine/run.ts [--records 200000] [--bytes 100] [--batch 1000] [--rounds 3] [--engines SQLite,LMDB,RocksDB]
 * Each figure is the best of the rounds, raw and ours by turns, because other work on the machine only ever slows one down. CPU is that of the whole
 * process, all threads; RSS the largest seen in the round.
 */
const { values } = parseArgs({
  options: {
    records: { type: 'string', default: '200000' },
    bytes: { type: 'string', default: '100' },
    batch: { type: 'string', default: '1000' },
    rounds: { type: 'string', default: '3' },
    engines: { type: 'string', default: 'SQLite,LMDB,RocksDB' },
  },
})

const ROWS = ['insert ascending', 'insert scattered', 'overwrite', 'get random', 'scan', 'export', 'import'] as const
type Row = (typeof ROWS)[number]
type Figures = Partial<Record<Row, { rate: number; cpu: number; rss: number }>>

/** Of issue and README, for 100 B on two cores: `rate` operations a second, or `ratio` of the raw loop. */
const TARGETS: Partial<Record<EngineKind, Partial<Record<Row, { rate?: number; ratio?: number }>>>> = {
  SQLite: {
    'insert ascending': { rate: 300_000 },
    'insert scattered': { ratio: 0.6 },
    'get random': { ratio: 0.7 },
    scan: { ratio: 0.7 },
  },
  LMDB: { 'get random': { ratio: 0.7 }, scan: { ratio: 0.7 } },
  RocksDB: { 'get random': { ratio: 0.7 }, scan: { ratio: 0.7 } },
}

const workload = makeWorkload(Number(values.records), Number(values.bytes), Number(values.batch))
const file = binaryRecords(workload.ascending, workload.data)
const base = mkdtempSync(join(tmpdir(), 'kvidx-bench-'))
let rss = 0
const watch = setInterval(() => {
  rss = Math.max(rss, process.memoryUsage.rss())
}, 20)

async function measure(figures: Figures, row: Row, operations: number, body: () => unknown): Promise<void> {
  rss = process.memoryUsage.rss()
  const cpuBefore = process.cpuUsage()
  const start = performance.now()
  await body()
  const seconds = (performance.now() - start) / 1000
  const { user, system } = process.cpuUsage(cpuBefore)
  const rate = operations / seconds
  rss = Math.max(rss, process.memoryUsage.rss())
  if ((figures[row]?.rate ?? 0) < rate) figures[row] = { rate, cpu: (user + system) / operations, rss }
}

async function within(maker: LoopMaker, use: (loop: Loop) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(base, 'db-'))
  const loop = await maker.open(directory)
  try {
    await use(loop)
  } finally {
    await loop.close()
    rmSync(directory, { recursive: true })
  }
}

async function round(maker: LoopMaker, figures: Figures, work: Workload): Promise<void> {
  const { ascending, scattered, lookups, data, otherData, batch } = work
  const count = ascending.length
  const bytes = count * data.length
  await within(maker, async loop => {
    await measure(figures, 'insert ascending', count, () => loop.insert(ascending, data, batch))
    await measure(figures, 'get random', count, () => expectBytes(loop.get(lookups), bytes))
    await measure(figures, 'scan', count, () => expectBytes(loop.scan(), bytes))
    await measure(figures, 'export', count, async () =>
      expectBytes(await loop.exported(), bytes + count * RECORD_HEADER),
    )
    await measure(figures, 'overwrite', count, () => loop.overwrite(lookups, otherData, batch))
    await measure(figures, 'import', count, () => loop.imported(file, count, batch))
  })
  await within(maker, loop => measure(figures, 'insert scattered', count, () => loop.insert(scattered, data, batch)))
}

function expectBytes(found: number, expected: number): void {
  if (found !== expected) throw new Error(`${found} bytes read, ${expected} expected`)
}

function line(engine: EngineKind, row: Row, raw: Figures, ours: Figures): string {
  const left = raw[row]
  const right = ours[row]
  const text = (value: { rate: number; cpu: number } | undefined): string =>
    value === undefined
      ? '–'.padStart(22)
      : `${Math.round(value.rate).toLocaleString('en').padStart(10)}/s ${value.cpu.toFixed(2).padStart(6)} µs`
  const ratio = left && right ? right.rate / left.rate : undefined
  const target = TARGETS[engine]?.[row]
  const goal =
    target?.rate !== undefined
      ? `≥ ${target.rate.toLocaleString('en')}/s ${verdict((right?.rate ?? 0) >= target.rate)}`
      : target?.ratio !== undefined && ratio !== undefined
        ? `≥ ${target.ratio} ${verdict(ratio >= target.ratio)}`
        : ''
  const memory = right ? `${Math.round(right.rss / 2 ** 20)} MiB`.padStart(8) : ''
  return `  ${row.padEnd(17)} ${text(left)}  ${text(right)} ${ratio?.toFixed(2).padStart(6) ?? ''} ${memory}  ${goal}`
}

function verdict(met: boolean): string {
  return met ? 'met' : 'MISSED'
}

try {
  console.log(`${values.records} records of ${values.bytes} B, ${values.batch} in a commit, best of ${values.rounds}`)
  for (const engine of values.engines.split(',') as EngineKind[]) {
    const raw: Figures = {}
    const ours: Figures = {}
    const rawMaker = RAW_LOOPS.find(maker => maker.engine === engine)
    for (let index = 0; index < Number(values.rounds); index++) {
      if (rawMaker !== undefined) await round(rawMaker, raw, workload)
      await round(ourLoop(engine), ours, workload)
    }
    console.log(`${engine}: raw binding | database (change log, digest) | ratio | RSS | target`)
    for (const row of ROWS) console.log(line(engine, row, raw, ours))
  }
} finally {
  clearInterval(watch)
  rmSync(base, { recursive: true, force: true })
}

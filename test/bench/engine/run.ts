import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { EngineKind } from '../../../sidecar/engine/engine.ts'
import { ourLoop } from './ours.ts'
import { RAW_LOOPS } from './raw.ts'
import { type Loop, type LoopMaker, makeWorkload, type Workload } from './workload.ts'

/**
 * The engines beside their bindings' own loops, in one run on the same data:
 *   node test/bench/engine/run.ts [--records 200000] [--bytes 100] [--batch 1000] [--rounds 3] [--engines SQLite,LMDB,RocksDB]
 * Each figure is the best of the rounds, raw and ours by turns, because other work on the machine only ever slows one down.
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

type Figure = 'insert ascending' | 'insert scattered' | 'get random' | 'scan'
type Figures = Partial<Record<Figure, { rate: number; cpu: number }>>

const workload = makeWorkload(Number(values.records), Number(values.bytes), Number(values.batch))
const base = mkdtempSync(join(tmpdir(), 'kvidx-bench-'))

function measure(figures: Figures, name: Figure, operations: number, body: () => void): void {
  const cpuBefore = process.cpuUsage()
  const start = performance.now()
  body()
  const seconds = (performance.now() - start) / 1000
  const { user, system } = process.cpuUsage(cpuBefore)
  const rate = operations / seconds
  if ((figures[name]?.rate ?? 0) < rate) figures[name] = { rate, cpu: (user + system) / operations }
}

async function round(maker: LoopMaker, figures: Figures, work: Workload): Promise<void> {
  const directory = mkdtempSync(join(base, 'db-'))
  const count = work.ascending.length
  let loop: Loop | undefined
  try {
    loop = await maker.open(directory)
    const open = loop
    measure(figures, 'insert ascending', count, () => open.insert(work.ascending, work.data, work.batch))
    measure(figures, 'get random', count, () => expectBytes(open.get(work.lookups), count * work.data.length))
    measure(figures, 'scan', count, () => expectBytes(open.scan(), count * work.data.length))
  } finally {
    loop?.close()
    rmSync(directory, { recursive: true })
  }
  const second = mkdtempSync(join(base, 'db-'))
  try {
    loop = await maker.open(second)
    const open = loop
    measure(figures, 'insert scattered', count, () => open.insert(work.scattered, work.data, work.batch))
  } finally {
    loop?.close()
    rmSync(second, { recursive: true })
  }
}

function expectBytes(found: number, expected: number): void {
  if (found !== expected) throw new Error(`${found} bytes read, ${expected} expected`)
}

function row(figure: Figure, raw: Figures, ours: Figures): string {
  const left = raw[figure]
  const right = ours[figure]
  const text = (value: { rate: number; cpu: number } | undefined): string =>
    value === undefined
      ? '–'.padStart(22)
      : `${Math.round(value.rate).toLocaleString('en').padStart(10)}/s ${value.cpu.toFixed(2).padStart(6)} µs`
  const ratio = left === undefined || right === undefined ? '' : (right.rate / left.rate).toFixed(2).padStart(6)
  return `  ${figure.padEnd(18)} ${text(left)}  ${text(right)} ${ratio}`
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
    console.log(`${engine}: raw binding, this engine (wall clock, CPU an operation), ratio`)
    for (const figure of ['insert ascending', 'insert scattered', 'get random', 'scan'] as const)
      console.log(row(figure, raw, ours))
  }
} finally {
  rmSync(base, { recursive: true, force: true })
}

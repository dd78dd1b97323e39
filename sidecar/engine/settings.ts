import { KvidxError } from '../../src/common/errors.ts'
import type { EngineKind, EngineTuning } from './engine.ts'

/** What each engine lets people tune; everything else is refused, so that no setting is silently without effect. */
const SETTINGS: Readonly<Record<EngineKind, readonly (keyof EngineTuning)[]>> = {
  SQLite: ['syncMode', 'cacheSize', 'journalMode', 'busyTimeout', 'mmapSize', 'pageSize'],
  LMDB: ['syncMode', 'mapSize', 'mapSizeLimit'],
  RocksDB: ['syncMode', 'cacheSize', 'compression'],
}

const SYNC_MODES = ['Full', 'Normal', 'Off']
const JOURNAL_MODES = ['WAL', 'Delete', 'Truncate', 'Persist']
const COMPRESSIONS = ['None', 'Snappy', 'LZ4', 'Zstd']

function refuse(kind: EngineKind, field: string, value: unknown, allowed: string): never {
  throw new KvidxError('setting_unsupported', `tuning.${field} is ${String(value)}: ${kind} allows ${allowed}`, {
    field: `tuning.${field}`,
    value: String(value),
    allowed,
  })
}

function checkChoice(kind: EngineKind, field: string, value: string | undefined, choices: readonly string[]): void {
  if (value !== undefined && !choices.includes(value)) refuse(kind, field, value, choices.join(', '))
}

function checkInteger(kind: EngineKind, field: string, value: number | undefined, low: number, high: number): void {
  if (value === undefined) return
  if (!Number.isSafeInteger(value) || value < low || value > high)
    refuse(kind, field, value, `a whole number from ${low} to ${high}`)
}

/** Throws `setting_unsupported` for a setting that the engine does not have, or a value outside what it takes. */
export function checkTuning(kind: EngineKind, tuning: EngineTuning): void {
  const known: readonly string[] = SETTINGS[kind]
  for (const [field, value] of Object.entries(tuning)) {
    if (value !== undefined && !known.includes(field))
      refuse(kind, field, value, `only ${known.join(', ')}; it does not have ${field}`)
  }
  checkChoice(kind, 'syncMode', tuning.syncMode, SYNC_MODES)
  checkChoice(kind, 'journalMode', tuning.journalMode, JOURNAL_MODES)
  checkChoice(kind, 'compression', tuning.compression, COMPRESSIONS)
  checkInteger(kind, 'cacheSize', tuning.cacheSize, 1 << 20, 2 ** 40)
  checkInteger(kind, 'busyTimeout', tuning.busyTimeout, 0, 2 ** 31 - 1)
  checkInteger(kind, 'mmapSize', tuning.mmapSize, 0, 2 ** 40)
  checkInteger(kind, 'mapSize', tuning.mapSize, 1 << 20, 2 ** 46)
  checkInteger(kind, 'mapSizeLimit', tuning.mapSizeLimit, 1 << 20, 2 ** 46)
  const page = tuning.pageSize
  if (page !== undefined && (!Number.isInteger(Math.log2(page)) || page < 512 || page > 65536))
    refuse(kind, 'pageSize', page, 'a power of two from 512 to 65536')
  if (tuning.mapSize !== undefined && tuning.mapSizeLimit !== undefined && tuning.mapSize > tuning.mapSizeLimit)
    refuse(kind, 'mapSize', tuning.mapSize, `at most mapSizeLimit (${tuning.mapSizeLimit})`)
}

/** For an engine that is filled from empty and thrown away if that breaks off: nothing is synced on the way, and SQLite writes a page once instead of into a WAL first. */
export function fillTuning(kind: EngineKind, tuning: Omit<EngineTuning, 'syncMode'> = {}): EngineTuning {
  return { ...tuning, syncMode: 'Off', ...(kind === 'SQLite' && { journalMode: 'Delete' }) }
}

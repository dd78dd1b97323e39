import { pino } from 'pino'
import { databaseConfig } from '../../../sidecar/database/config.ts'
import { LocalDatabase } from '../../../sidecar/database/local-database.ts'
import type { EngineKind } from '../../../sidecar/engine/engine.ts'
import { systemClock } from '../../../src/common/clock.ts'
import { random } from '../../support/random.ts'

/** Bytes of a record's data. */
export const VALUE = 1024

export async function openDatabase(dataDirectory: string, engine: EngineKind): Promise<LocalDatabase> {
  const config = databaseConfig({
    namespace: 'default',
    name: 'bench',
    engine,
    dataDirectory,
    tuning: { syncMode: 'Off' },
  })
  const database = new LocalDatabase(config, systemClock, pino({ level: 'silent' }))
  await database.open(new AbortController().signal)
  return database
}

/** JSON-like text: what compresses about as well as real records do. */
function* values(): Generator<Buffer> {
  const next = random(1)
  const words = Array.from({ length: 2000 }, () => Math.floor(next() * 2 ** 40).toString(36))
  for (;;) {
    let text = ''
    while (text.length < VALUE) text += `"${words[Math.floor(next() * words.length)]}":${Math.floor(next() * 1e6)},`
    yield Buffer.from(text.slice(0, VALUE))
  }
}

/** Puts records, every tenth of them with an expiry far away, until there are so many bytes of data. */
export async function fill(database: LocalDatabase, bytes: number): Promise<void> {
  const source = values()
  for (let key = 0n; database.state.dataBytes < BigInt(Math.floor(bytes)); ) {
    const operations = Array.from({ length: 5000 }, () => ({
      op: 'put' as const,
      key: key++,
      term: 1n,
      cmd: 2n,
      data: source.next().value as Buffer,
      ...(key % 10n === 0n && { expiry: { at: 4_000_000_000_000n } }),
    }))
    await database.write({ operations })
  }
}

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type BuiltSidecar, startBuiltSidecar } from '../bench/http/built-sidecar.ts'
import { exportRecords, importRecords, memoryOf, RECORD_BYTES } from '../bench/http/transfer.ts'

/** For any number of records: the limit is for 10 million, and `npm run bench` shows those. */
const CEILING_MIB = 300
/** As bytes more than the ceiling, so that whoever held them all would be seen. */
const RECORDS = 2_500_000

for (const engine of ['SQLite', 'LMDB', 'RocksDB'] as const)
  describe(`${RECORDS} records of 100 B on ${engine}`, () => {
    let directory: string
    let sidecar: BuiltSidecar
    beforeAll(async () => {
      directory = mkdtempSync(join(process.env.KVIDX_BENCH_DIR ?? tmpdir(), 'kvidx-transfer-'))
      sidecar = await startBuiltSidecar(join(directory, 'data'), engine)
    }, 300_000)
    afterAll(async () => {
      await sidecar?.stop()
      rmSync(directory, { recursive: true, force: true })
    })

    it(`are imported and exported by a process of less than ${CEILING_MIB} MiB`, async () => {
      await importRecords(sidecar.data, RECORDS, 3)
      const imported = memoryOf(sidecar.pid)
      expect(await exportRecords(sidecar.data)).toBe(24 + RECORDS * RECORD_BYTES)
      const exported = memoryOf(sidecar.pid)
      console.log(`${engine}: highest RSS ${imported.highest} MiB at the import, ${exported.highest} in all`)
      expect(exported.highest).toBeLessThan(CEILING_MIB)
    }, 300_000)
  })

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Pool } from 'undici'
import { afterAll, describe, expect, test } from 'vitest'
import type { EngineKind } from '../../sidecar/engine/engine.ts'
import { random } from '../support/random.ts'
import { type SidecarProcess, startSidecarProcess } from '../support/sidecar-process.ts'

/**
 * kill -9 under write load. Each of the writers owns its keys and knows, for each of them, the last acknowledged value and the one that is under
 * way; after the restart the database must hold the first or the second.
 */
const CYCLES = Number(process.env.KVIDX_FAULT_CYCLES ?? 100)
const SEED = Number(process.env.KVIDX_FAULT_SEED ?? Date.now() % 1_000_000)
const WRITERS = 16
const KEYS_EACH = 40

const root = mkdtempSync(join(tmpdir(), 'kvidx-kill-'))
afterAll(() => rmSync(root, { recursive: true }))

interface Expectation {
  /** undefined: absent */
  acknowledged: string | undefined
  pending?: { value: string | undefined }
}

describe.each<EngineKind>(['SQLite', 'LMDB', 'RocksDB'])('kill -9 under write load, %s', engine => {
  test(`loses no acknowledged write in ${CYCLES} cycles (seed ${SEED})`, { timeout: CYCLES * 60_000 }, async () => {
    const next = random(SEED + engine.length)
    const expectations = new Map<bigint, Expectation>()
    const directory = join(root, engine)
    let acknowledged = 0
    let unacknowledgedKept = 0
    let highest = 0n
    let sidecar: SidecarProcess = await startSidecarProcess(directory, engine)
    for (let cycle = 0; cycle < CYCLES; cycle++) {
      const pool = new Pool(sidecar.data, { connections: WRITERS })
      let dead = false
      const writer = async (index: number) => {
        for (let n = 0; !dead; n++) {
          const key = BigInt(index) * 2n ** 60n + BigInt(Math.floor(next() * KEYS_EACH))
          const value = next() < 0.15 ? undefined : `${cycle}.${index}.${n}.${'x'.repeat(Math.floor(next() * 200))}`
          const expectation = expectations.get(key) ?? { acknowledged: undefined }
          expectations.set(key, expectation)
          expectation.pending = { value }
          try {
            const answer = await pool.request({
              path: `/v1/records/${key}`,
              method: value === undefined ? 'DELETE' : 'PUT',
              ...(value !== undefined && { body: value }),
            })
            await answer.body.dump()
            if (answer.statusCode >= 300) continue
            expectation.acknowledged = value
            delete expectation.pending
            acknowledged++
            const seq = BigInt(String(answer.headers['kvidx-position']).split('.')[1] ?? '0')
            if (seq > highest) highest = seq
          } catch {
            return
          }
        }
      }
      const writers = Array.from({ length: WRITERS }, (_, index) => writer(index))
      await new Promise(resolve => setTimeout(resolve, 20 + next() * 400))
      await sidecar.kill('SIGKILL')
      dead = true
      await Promise.all(writers)
      await pool.destroy()

      sidecar = await startSidecarProcess(directory, engine)
      const status = (await (await fetch(`${sidecar.data}/v1/stats`)).json()) as { position: string; count: string }
      expect(BigInt(status.position.split('.')[1] ?? '0'), `cycle ${cycle}: position`).toBeGreaterThanOrEqual(highest)
      const stored = new Map<bigint, string>()
      const scan = await (
        await fetch(`${sidecar.data}/v1/records`, { headers: { accept: 'application/x-ndjson' } })
      ).text()
      for (const line of scan.trim().split('\n')) {
        const entry = JSON.parse(line) as { end?: true; key: string; data: string }
        if (!entry.end) stored.set(BigInt(entry.key), Buffer.from(entry.data, 'base64').toString())
      }
      for (const [key, expectation] of expectations) {
        const found = stored.get(key)
        if (expectation.pending && found === expectation.pending.value && found !== expectation.acknowledged) {
          unacknowledgedKept++
          expectation.acknowledged = found
        } else expect(found, `cycle ${cycle}: key ${key}`).toBe(expectation.acknowledged)
        delete expectation.pending
        stored.delete(key)
      }
      expect([...stored.keys()], `cycle ${cycle}: records that nobody wrote`).toEqual([])
      const check = await fetch(`${sidecar.data}/v1/admin/check`, { method: 'POST' })
      expect(check.status, `cycle ${cycle}: ${await check.text()}`).toBe(200)
    }
    await sidecar.kill('SIGTERM')
    console.log(
      `${engine}: ${CYCLES} kills, ${acknowledged} acknowledged writes, none lost; ${unacknowledgedKept} unacknowledged ones had reached the disk; seed ${SEED}`,
    )
  })
})

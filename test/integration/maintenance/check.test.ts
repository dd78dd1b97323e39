import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type { EngineKind } from '../../../sidecar/engine/engine.ts'
import { temporaryDirectory } from '../../support/sidecar-here.ts'
import { type SidecarProcess, startSidecarProcess } from '../../support/sidecar-process.ts'

const patience = { timeout: 20_000, interval: 50 }

/**
 * Where the engine's own check stands still. SQLite cannot be asked in the middle of its own, which may last for hours; the others are asked now and then, and
 * say nothing in between. A check that goes on to its end all the same ends the process.
 */
const HELD: Readonly<Record<EngineKind, string>> = {
  SQLite: 'check.process=sleep(600000)',
  LMDB: 'check.progress=1*sleep(4000);check.through=kill',
  RocksDB: 'check.progress=1*sleep(4000);check.through=kill',
}

async function started(engine: EngineKind): Promise<{ sidecar: SidecarProcess; directory: string }> {
  const directory = join(temporaryDirectory(), 'volume')
  const sidecar = await startSidecarProcess(directory, engine, { env: { KVIDX_FAILPOINTS: HELD[engine] } })
  onTestFinished(() => sidecar.kill('SIGKILL'))
  for (let key = 0; key < 20; key++)
    await (await fetch(`${sidecar.data}/v1/records/${key}`, { method: 'PUT', body: 'x' })).text()
  return { sidecar, directory }
}

async function checkOf({ operations }: SidecarProcess): Promise<Record<string, unknown>> {
  const { tasks } = (await (await fetch(`${operations}/status`)).json()) as { tasks: Record<string, unknown>[] }
  return tasks.find(task => task.name === 'check') ?? {}
}

/** A request for a check that has begun to run. */
async function checking(sidecar: SidecarProcess): Promise<{ answer: Promise<Response> }> {
  const answer = fetch(`${sidecar.data}/v1/admin/check`, { method: 'POST' })
  answer.catch(() => {})
  await vi.waitFor(async () => expect((await checkOf(sidecar)).running).toBe(true), patience)
  // its thread, and for SQLite its process, are there
  await new Promise(resolve => setTimeout(resolve, 1000))
  return { answer }
}

function childrenOf(pid: number): string[] {
  return readdirSync('/proc').filter(entry => {
    try {
      return (
        /^\d+$/.test(entry) && readFileSync(`/proc/${entry}/stat`, 'utf8').split(') ')[1]?.split(' ')[1] === String(pid)
      )
    } catch {
      return false
    }
  })
}

describe.each(['SQLite', 'LMDB', 'RocksDB'] as const)("%s, while the engine's own check stands still", engine => {
  test('exports go on, and the check can be cancelled', { timeout: 60_000 }, async () => {
    const { sidecar } = await started(engine)
    const { answer } = await checking(sidecar)
    // one that reads with every thread
    const exported = await fetch(`${sidecar.data}/v1/export?format=binary`)
    expect((await exported.arrayBuffer()).byteLength).toBeGreaterThan(0)
    expect((await checkOf(sidecar)).running).toBe(true)
    expect((await fetch(`${sidecar.data}/v1/admin/check`, { method: 'DELETE' })).status).toBe(204)
    expect(await (await answer).json()).toMatchObject({ code: 'cancelled' })
    expect(await checkOf(sidecar)).toMatchObject({ running: false, lastOutcome: 'cancelled' })
    expect(childrenOf(sidecar.child.pid ?? 0)).toEqual([])
  })

  test('SIGTERM ends the process in order', { timeout: 60_000 }, async () => {
    const { sidecar, directory } = await started(engine)
    const { answer } = await checking(sidecar)
    const children = childrenOf(sidecar.child.pid ?? 0)
    expect(children.length).toBe(engine === 'SQLite' ? 1 : 0)
    await sidecar.kill('SIGTERM')
    expect(sidecar.child.exitCode).toBe(0)
    expect(existsSync(join(directory, 'clean-exit.json'))).toBe(true)
    expect(await (await answer).json()).toMatchObject({ code: 'cancelled' })
    for (const pid of children) expect(existsSync(`/proc/${pid}`)).toBe(false)
  })
})

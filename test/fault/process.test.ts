import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type { EngineKind } from '../../sidecar/engine/engine.ts'
import { sidecarHere } from '../support/sidecar-here.ts'
import { startSidecarProcess } from '../support/sidecar-process.ts'

const ENGINES: readonly EngineKind[] = ['SQLite', 'LMDB', 'RocksDB']
const patience = { timeout: 20_000, interval: 100 }

function newDirectory(): string {
  const root = mkdtempSync(join(tmpdir(), 'kvidx-process-'))
  onTestFinished(() => rmSync(root, { recursive: true, force: true }))
  return join(root, 'volume')
}

const put = async (data: string, key: number, body: string) =>
  (await fetch(`${data}/v1/records/${key}`, { method: 'PUT', body })).status
const get = async (data: string, key: number) => (await fetch(`${data}/v1/records/${key}`)).text()

describe.each(ENGINES)('%s', engine => {
  test('with the writer stuck for 5 s, probes and reads answer in under 50 ms', { timeout: 60_000 }, async () => {
    const directory = newDirectory()
    const seeded = await startSidecarProcess(directory, engine)
    expect(await put(seeded.data, 1, 'one')).toBe(201)
    await seeded.kill('SIGTERM')
    const sidecar = await startSidecarProcess(directory, engine, {
      env: { KVIDX_FAILPOINTS: 'commit.before=1*sleep(5000)' },
    })
    onTestFinished(() => sidecar.kill('SIGKILL'))
    const calls = [`${sidecar.data}/v1/records/1`, `${sidecar.operations}/health`]
    for (const url of calls) await (await fetch(url)).text()
    let committed = false
    const write = put(sidecar.data, 2, 'two').then(status => {
      committed = true
      return status
    })
    const times: number[] = []
    const began = performance.now()
    while (performance.now() - began < 3000) {
      for (const url of calls) {
        const from = performance.now()
        const answer = await fetch(url)
        await answer.text()
        expect(answer.status).toBe(200)
        times.push(performance.now() - from)
      }
      await new Promise(resolve => setTimeout(resolve, 20))
    }
    expect(committed).toBe(false)
    times.sort((a, b) => a - b)
    const worst = times.at(-1) ?? 0
    const usual = times[Math.floor(times.length * 0.95)] ?? 0
    console.log(
      `${engine}: ${times.length} answers beside a stuck commit, 95 % in ${usual.toFixed(1)} ms, worst ${worst.toFixed(1)} ms`,
    )
    // other processes of the machine may cost one answer its time slice; the writer would cost all of them seconds
    expect(usual).toBeLessThan(50)
    expect(worst).toBeLessThan(1000)
    expect(await write).toBe(201)
  })

  test('no write is acknowledged before its commit: killed within it, nobody was told of success', {
    timeout: 60_000,
  }, async () => {
    const directory = newDirectory()
    const sidecar = await startSidecarProcess(directory, engine, {
      env: { KVIDX_FAILPOINTS: 'commit.within=2*sleep(60000)' },
    })
    onTestFinished(() => sidecar.kill('SIGKILL'))
    const answers = new Map<number, number>()
    const write = async (key: number) => {
      try {
        answers.set(key, await put(sidecar.data, key, `value ${key}`))
      } catch {
        // killed before an answer
      }
    }
    await write(0)
    // one group is held in its transaction, what comes meanwhile waits for the writer
    const writes = [write(1)]
    await new Promise(resolve => setTimeout(resolve, 500))
    for (let key = 2; key <= 20; key++) writes.push(write(key))
    await new Promise(resolve => setTimeout(resolve, 1500))
    await sidecar.kill('SIGKILL')
    await Promise.all(writes)
    const again = await startSidecarProcess(directory, engine)
    onTestFinished(() => again.kill('SIGKILL'))
    const stored = async (key: number) => (await fetch(`${again.data}/v1/records/${key}`)).status === 200
    const lost: number[] = []
    for (const [key, status] of answers) if (status < 300 && !(await stored(key))) lost.push(key)
    expect(lost, 'keys whose writers were told of success').toEqual([])
    // else nothing was held
    expect([...answers]).toEqual([[0, 201]])
    expect(await stored(1)).toBe(false)
  })

  test('SIGTERM under load loses nothing that was acknowledged and leaves the marker', {
    timeout: 60_000,
  }, async () => {
    const directory = newDirectory()
    const sidecar = await startSidecarProcess(directory, engine)
    const acknowledged = new Map<number, string>()
    let running = true
    const writer = async (index: number) => {
      for (let n = 0; running; n++) {
        const key = index * 1000 + (n % 50)
        const value = `${index}.${n}`
        try {
          if ((await put(sidecar.data, key, value)) < 300) acknowledged.set(key, value)
          else acknowledged.delete(key)
        } catch {
          // not acknowledged: either value may be there
          acknowledged.delete(key)
          return
        }
      }
    }
    const writers = Array.from({ length: 8 }, (_, index) => writer(index))
    await new Promise(resolve => setTimeout(resolve, 700))
    const ended = sidecar.kill('SIGTERM')
    await ended
    running = false
    await Promise.all(writers)
    expect(sidecar.child.exitCode).toBe(0)
    expect(existsSync(join(directory, 'clean-exit.json'))).toBe(true)
    expect(acknowledged.size).toBeGreaterThan(50)
    const again = await startSidecarProcess(directory, engine)
    onTestFinished(() => again.kill('SIGKILL'))
    for (const [key, value] of acknowledged) expect(await get(again.data, key), `key ${key}`).toBe(value)
    const status = (await (await fetch(`${again.operations}/status`)).json()) as { start: { lastEnd: string } }
    expect(status.start.lastEnd).toBe('clean')
  })

  const POINTS = ['beforeJournal', 'afterJournal', 'beforeQuarantine', 'betweenRenames', 'afterRenames', 'done']
  test('killed at each step of an import that replaces everything: the old or the new database, never a mix', {
    timeout: 120_000,
  }, async () => {
    for (const point of POINTS) {
      const directory = newDirectory()
      const first = await startSidecarProcess(directory, engine, { env: { KVIDX_FAILPOINTS: `swap.${point}=kill` } })
      for (let key = 1; key <= 5; key++) await put(first.data, key, `old ${key}`)
      const lines = Array.from({ length: 20 }, (_, i) =>
        JSON.stringify({
          key: String(i + 3),
          term: '0',
          cmd: '0',
          data: Buffer.from(`new ${i + 3}`).toString('base64'),
        }),
      )
      const killed = new Promise(resolve => first.child.once('exit', resolve))
      await fetch(`${first.data}/v1/import?format=ndjson&clear=true`, {
        method: 'POST',
        body: `${lines.join('\n')}\n`,
        headers: { 'content-type': 'application/x-ndjson' },
      }).then(
        async answer => expect.unreachable(`${point}: ${answer.status} ${await answer.text()}`),
        () => {},
      )
      await killed
      const again = await startSidecarProcess(directory, engine)
      const { count } = (await (await fetch(`${again.data}/v1/count`)).json()) as { count: string }
      const isNew = point !== 'beforeJournal'
      expect([point, count]).toEqual([point, isNew ? '20' : '5'])
      expect(await get(again.data, 3)).toBe(isNew ? 'new 3' : 'old 3')
      const check = await fetch(`${again.data}/v1/admin/check`, { method: 'POST' })
      expect(check.status, `${point}: ${await check.text()}`).toBe(200)
      expect(readdirSync(join(directory, 'staging'))).toEqual([])
      expect(existsSync(join(directory, 'swap.json'))).toBe(false)
      expect(readdirSync(join(directory, 'quarantine')).length).toBe(isNew ? 1 : 0)
      await again.kill('SIGKILL')
    }
  })
})

test('a second process on the same volume waits for the lock and names the holder', { timeout: 60_000 }, async () => {
  const directory = newDirectory()
  const holder = await startSidecarProcess(directory, 'SQLite')
  onTestFinished(() => holder.kill('SIGKILL'))
  await put(holder.data, 1, 'one')
  const { sidecar } = await sidecarHere({ directory })
  await new Promise(resolve => setTimeout(resolve, 2500))
  expect(sidecar.database.lifecycle).toBe('opening')
  const ready = await fetch(`${sidecar.opsAddress}/ready`)
  expect(ready.status).toBe(503)
  const status = (await (await fetch(`${sidecar.opsAddress}/status`)).json()) as {
    failure?: { code: string; message: string }
  }
  expect(status.failure?.code).toBe('locked')
  expect(status.failure?.message).toContain(`process ${holder.child.pid}`)
  expect(await put(holder.data, 2, 'two')).toBe(201)
  await holder.kill('SIGTERM')
  const data = await sidecar.serving
  expect(await get(data, 2)).toBe('two')
  expect(sidecar.database.failure).toBeUndefined()
})

describe('garbage in the files of the volume', () => {
  const GARBAGE = ['', '{', 'null', '[]', '"x"', '42', '{"formatVersion":9}', Buffer.from([0, 255, 254, 1])]

  test.each(['identity.json', 'swap.json'])(
    '%s gives a state that names the file, not a crash',
    { timeout: 60_000 },
    async name => {
      const directory = newDirectory()
      const first = await sidecarHere({ directory })
      await put(await first.sidecar.serving, 1, 'one')
      await first.sidecar.stop()
      for (const garbage of GARBAGE) {
        const before = existsSync(join(directory, name)) ? readFileSync(join(directory, name)) : undefined
        writeFileSync(join(directory, name), garbage)
        const { sidecar, status } = await sidecarHere({ directory })
        await vi.waitFor(async () => expect((await status()).failure?.code).toBe('engine_corrupt'), patience)
        expect((await status()).failure.message).toContain(name)
        await sidecar.stop()
        if (before) writeFileSync(join(directory, name), before)
        else rmSync(join(directory, name))
      }
      const { sidecar } = await sidecarHere({ directory })
      expect(await get(await sidecar.serving, 1)).toBe('one')
      await sidecar.stop()
    },
  )

  test('clean-exit.json counts as an unclean end', { timeout: 60_000 }, async () => {
    const directory = newDirectory()
    mkdirSync(directory)
    for (const garbage of GARBAGE) {
      const { sidecar, status } = await sidecarHere({ directory })
      const data = await sidecar.serving
      if (garbage !== '') expect((await status()).start.lastEnd).toBe('unclean')
      await put(data, 1, 'one')
      await sidecar.stop()
      writeFileSync(join(directory, 'clean-exit.json'), garbage)
    }
  })
})

import { join } from 'node:path'
import Database from 'better-sqlite3'
import { describe, expect, onTestFinished, test } from 'vitest'
import { temporaryDirectory } from '../../support/sidecar-here.ts'
import { type SidecarProcess, startSidecarProcess } from '../../support/sidecar-process.ts'

/** What a start makes of a run that was killed. */
interface Status {
  readonly start: { lastEnd: string; checkDue: boolean; foreignWrites: boolean }
  readonly data: { count: string }
  readonly epochs: readonly { epoch: string; forkSeq: string; reason: string }[]
}

async function started(directory: string, spec: object): Promise<{ sidecar: SidecarProcess; status: Status }> {
  const sidecar = await startSidecarProcess(directory, 'SQLite', { spec })
  onTestFinished(() => sidecar.kill('SIGKILL'))
  return { sidecar, status: (await (await fetch(`${sidecar.operations}/status`)).json()) as Status }
}

const put = async ({ data }: SidecarProcess, key: number) =>
  expect((await fetch(`${data}/v1/records/${key}`, { method: 'PUT', body: 'x' })).status).toBeLessThan(300)

describe('after an unclean end an epoch begins', () => {
  const run = async (directory: string, syncMode: string) => {
    const { sidecar, status } = await started(directory, { tuning: { syncMode } })
    await put(sidecar, 1)
    await sidecar.kill('SIGKILL')
    return status.epochs.map(({ reason }) => reason)
  }

  test('unless every commit of the run that died and of the one that begins is synced', {
    timeout: 60_000,
  }, async () => {
    const directory = join(temporaryDirectory(), 'volume')
    expect(await run(directory, 'Full')).toEqual(['created'])
    expect(await run(directory, 'Full')).toEqual(['created'])
    expect(await run(directory, 'Normal')).toEqual(['created', 'uncleanEnd'])
    // not what is set now decides, but how the run was that died
    expect(await run(directory, 'Full')).toEqual(['created', 'uncleanEnd', 'uncleanEnd'])
    expect(await run(directory, 'Full')).toEqual(['created', 'uncleanEnd', 'uncleanEnd'])
  })

  test('and not after an end in order', { timeout: 60_000 }, async () => {
    const directory = join(temporaryDirectory(), 'volume')
    const { sidecar } = await started(directory, { tuning: { syncMode: 'Off' } })
    await put(sidecar, 1)
    await sidecar.kill('SIGTERM')
    const { status } = await started(directory, { tuning: { syncMode: 'Full' } })
    expect(status.start.lastEnd).toBe('clean')
    expect(status.epochs).toHaveLength(1)
  })
})

describe('the content is compared after an unclean end', () => {
  /** A volume whose process was killed, and to which another program has written since. */
  const touched = async () => {
    const directory = join(temporaryDirectory(), 'volume')
    const { sidecar } = await started(directory, {})
    await put(sidecar, 1)
    await sidecar.kill('SIGKILL')
    const connection = new Database(join(directory, 'db', 'main.db'))
    connection.exec("INSERT INTO log (id, created, term, cmd, data) VALUES (100, 1, 7, 8, 'theirs')")
    connection.close()
    return directory
  }

  test('with fullCheck Always before it serves', { timeout: 60_000 }, async () => {
    const { status } = await started(await touched(), { recovery: { fullCheck: 'Always' } })
    expect(status.start).toMatchObject({ lastEnd: 'unclean', checkDue: false, foreignWrites: true })
    expect(status.data.count).toBe('2')
  })

  test('else beside the work', { timeout: 60_000 }, async () => {
    const { status } = await started(await touched(), {})
    expect(status.start).toMatchObject({ lastEnd: 'unclean', checkDue: true, foreignWrites: false })
  })
})

import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { blocksOf, filledIn, only } from '../support/runbook.ts'
import { made, type Stats, says, statsOf } from './support/backup.ts'
import { succeed } from './support/command.ts'
import { applyDatabase, ready } from './support/database.ts'
import { eventually } from './support/eventually.ts'
import { Direct } from './support/forward.ts'
import { find, get, kubectl } from './support/kubectl.ts'
import { testNamespace } from './support/namespace.ts'

/**
 * The Kubernetes part of the procedures of docs/backup.md, their code blocks run as they stand there, with a kubeconfig whose namespace is that of the
 * test. What is replaced: the time of the wrong delete, the epoch in the manifest, THE-LINEAGE.
 */
const namespace = testNamespace('runbooks')
const TIME = '2026-11-23T14:02:59Z'
const wrongDelete = blocksOf('Wrong delete at 14:03', 'Kubernetes')

describe('as somebody with kubectl and kvidx types it', { timeout: 300_000 }, () => {
  const directory = mkdtempSync(join(tmpdir(), 'kvidx-e2e-runbooks-'))
  let before: Stats
  let damaged: Stats
  let moment = ''

  const shell = (script: string, input?: string): Promise<string> => {
    const environment = `PATH=${directory}:$PATH; export KUBECONFIG=${directory}/kubeconfig\n`
    const given = input === undefined ? {} : { input }
    return succeed('bash', ['--norc', '-euo', 'pipefail', '-c', environment + script], { timeout: 240_000, ...given })
  }
  async function withDatabase<T>(work: (database: Direct) => Promise<T>): Promise<T> {
    const database = new Direct(namespace, 'orders')
    try {
      return await work(database)
    } finally {
      await database.stop()
    }
  }
  const stats = () => withDatabase(database => eventually('it serves', () => statsOf(database)))
  const content = ({ count, digest }: Stats) => ({ count, digest })
  /** Everything is in the store; a new epoch begins at the seq that is there already. */
  async function shipped(): Promise<Stats> {
    const now = await stats()
    await eventually('it is in the store', async () => {
      const text = await kubectl(['get', '--raw', `/api/v1/namespaces/${namespace}/pods/orders-0:8080/proxy/status`])
      const { continuous } = JSON.parse(text).backup
      expect(continuous.shipped.split('.')[1]).toBe(now.position.split('.')[1])
    })
    return now
  }

  beforeAll(async () => {
    writeFileSync(join(directory, 'kubeconfig'), await kubectl(['config', 'view', '--raw', '--minify', '--flatten']))
    writeFileSync(join(directory, 'kvidx'), `#!/bin/sh\nexec '${process.execPath}' '${resolve('bin/kvidx')}' "$@"\n`)
    chmodSync(join(directory, 'kvidx'), 0o755)
    await shell(`kubectl config set-context --current --namespace=${namespace}`)
    await applyDatabase(namespace, 'orders', {
      backup: {
        destination: { volume: { size: '512Mi' } },
        schedules: [{ name: 'yearly', schedule: '0 0 1 1 *' }],
        continuous: { enabled: true, interval: '300ms' },
        scratch: { size: '256Mi' },
      },
    })
    await ready(namespace, 'orders', 240_000)
  }, 260_000)
  afterAll(() => rmSync(directory, { recursive: true, force: true }))

  test('a wrong delete is found, tried for, undone and backed up', async () => {
    await withDatabase(async database => {
      const put = (key: number) => database.request(`/v1/records/${key}`, { method: 'PUT', body: `value ${key}` })
      for (let key = 1; key <= 8; key++) await put(key)
      await made(namespace, 'full', { database: 'orders', verify: false })
      await put(9)
      before = await statsOf(database)
      await new Promise(done => setTimeout(done, 50))
      moment = new Date().toISOString()
      await new Promise(done => setTimeout(done, 50))
      await database.request('/v1/records?start=2&end=4', { method: 'DELETE' })
      damaged = await statsOf(database)
    })
    const said = await shell(filledIn(only(wrongDelete, /kvidx changes/), { [TIME]: moment }))
    expect(said).toMatch(/^1\.\d+ .* deleteRange +2-4 +3 records$/m)
    expect(said).toMatch(/would add +3$/m)
    expect(content(await stats())).toEqual(content(before))
  })

  test('and the way back, and the same as an object', async () => {
    await shell(only(wrongDelete, /--undo/))
    expect(content(await stats())).toEqual(content(damaged))
    const position = only(wrongDelete, /status\.data\.position/)
    await eventually('the status has the new epoch', async () => expect(await shell(position)).toMatch(/^3\./))
    const object = filledIn(only(wrongDelete, /kind: KvidxRestore/), { [TIME]: moment, 'atEpoch: 1': 'atEpoch: 3' })
    await shell('kubectl apply -f -', object)
    expect(await shell(only(wrongDelete, /kubectl describe kvres/))).toMatch(/Added: +3$/m)
    expect(content(await stats())).toEqual(content(damaged))
  })

  test('a damaged volume is put aside, and the database comes back from its store', async () => {
    const last = await shipped()
    const [secure = '', remove = ''] = blocksOf('Corrupted database', 'Kubernetes')
    const old = (await shell(`${secure}\necho $PV`)).trimEnd().split('\n').at(-1) as string
    const [lost = '', restore = ''] = blocksOf('Lost volume', 'Kubernetes')
    const lineage = (await shell(lost)).trimEnd().split('\n').at(-1) as string
    expect(lineage.endsWith(last.lineage)).toBe(true)
    await says(namespace, 'orders', 'Ready', { status: 'False', reason: 'DataLost' })
    await shell(filledIn(restore, { 'THE-LINEAGE': last.lineage }))
    const now = await stats()
    expect(content(now)).toEqual(content(last))
    expect(now.lineage).not.toBe(last.lineage)
    expect((await get('', 'pv', old)).status.phase).toBe('Released')
    await shell(`PV=${old}\n${remove}`)
    await eventually('the old volume is gone', async () => (await find('', 'pv', old)) === null, { timeout: 60_000 })
  })
})

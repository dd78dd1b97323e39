import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { withDefaults } from '../../../src/api/v1alpha1/defaults.ts'
import { POD_PATHS, renderSidecarConfig, sidecarConfig } from '../../../src/api/v1alpha1/sidecar-config.ts'
import { SLOT_ANNOTATION } from '../../../src/controllers/backup/names.ts'
import { BACKUPS, newRecord } from '../../../src/controllers/backup/record.ts'
import { DATABASES } from '../../../src/controllers/database/resource.ts'
import { RESTORES } from '../../../src/controllers/restore/record.ts'
import type { KubeClient } from '../../../src/kube/client.ts'
import type { KubeObject } from '../../../src/kube/object.ts'
import { JOBS, NAMESPACES } from '../../../src/kube/resources.ts'
import { access, eventually, freshNamespace } from '../kube/access.ts'
import { type Any, conditionOf, database, find, installDefinitions, userApply } from './harness.ts'

const { kubeconfig = '', missing } = inject('controlPlane')
const ENTRY = fileURLToPath(new URL('../../support/sidecar-entry.ts', import.meta.url))
/** A command is a process that has to start first, ms. */
const START = 60_000
const KVIDX = fileURLToPath(new URL('../../../bin/kvidx', import.meta.url))

// the real engine process, the real program of the pods and a real API server: only the kubelet is missing
describe.skipIf(missing)('the pods of backups and restores', { timeout: 180_000 }, () => {
  let api: KubeClient
  let namespace: string
  let root: string
  let sidecar: ChildProcess
  let server: string
  let files: readonly string[]

  beforeAll(async () => {
    ;({ api } = await access(kubeconfig))
    await installDefinitions(api)
    namespace = await freshNamespace(api, 'pod-job')
    root = mkdtempSync(join(tmpdir(), 'kvidx-pod-job-'))
    const [config, token, backups] = [join(root, 'config.json'), join(root, 'admin'), join(root, 'backups')]
    mkdirSync(backups)
    mkdirSync(join(root, 'scratch'))
    mkdirSync(join(root, 'data'))
    writeFileSync(token, 'secret\n')
    const spec = withDefaults({
      storage: { size: '1Gi' },
      backup: {
        destination: { volume: { size: '1Gi' } },
        schedules: [
          { name: 'daily', schedule: '0 2 * * *' },
          { name: 'hourly', schedule: '15 * * * *', type: 'Incremental' },
        ],
      },
    })
    const paths = { ...POD_PATHS, backups }
    writeFileSync(config, renderSidecarConfig(sidecarConfig({ namespace, name: 'orders', spec, paths })))
    sidecar = spawn(process.execPath, [ENTRY, config, join(root, 'data')], { stdio: ['ignore', 'pipe', 'inherit'] })
    server = await new Promise<string>((resolve, reject) => {
      let out = ''
      sidecar.stdout?.on('data', chunk => {
        out += String(chunk)
        if (out.includes('\n')) resolve((JSON.parse(out.split('\n')[0] ?? '') as { data: string }).data)
      })
      sidecar.once('exit', code => reject(new Error(`the sidecar ended with ${code}`)))
    })
    files = ['--database', 'orders', '--config', config, '--server', server, '--token-file', token]
    for (let key = 1; key <= 50; key++) await put(key, `value ${key}`)
  })

  afterAll(async () => {
    sidecar?.kill('SIGTERM')
    if (sidecar?.exitCode === null) await once(sidecar, 'exit')
    await api?.delete(NAMESPACES, { name: namespace })
    await api?.close()
    rmSync(root, { recursive: true, force: true })
  })

  const put = async (key: number, body: string) => {
    const { status } = await fetch(`${server}/v1/records/${key}`, { method: 'PUT', body })
    expect(status).toBeLessThan(300)
  }
  const stats = async () =>
    (await (await fetch(`${server}/v1/stats`)).json()) as { digest: string; position: string; count: string }
  /** A Job that no controller touches. */
  const job = (name: string, annotations: Record<string, string> = {}) =>
    api.create(JOBS, {
      apiVersion: 'batch/v1',
      kind: 'Job',
      metadata: { namespace, name, annotations },
      spec: {
        suspend: true,
        backoffLimit: 0,
        template: { spec: { restartPolicy: 'Never', containers: [{ name: 'job', image: 'x' }] } },
      },
    } as KubeObject)
  const pod = async (jobName: string, ...args: readonly string[]): Promise<{ code: number | null; log: string }> => {
    const [task = '', ...rest] = args
    const child = spawn(process.execPath, [KVIDX, 'pod-job', task, ...files, ...rest], {
      env: {
        ...process.env,
        KUBECONFIG: kubeconfig,
        KVIDX_JOB: jobName,
        KVIDX_POD: 'pod',
        TMPDIR: join(root, 'scratch'),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let log = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', chunk => (log += String(chunk)))
    const [code] = (await once(child, 'close')) as [number | null]
    return { code, log }
  }

  it('make a backup by hand, verified, with the digest that the database has', async () => {
    await job('by-hand-job')
    await api.create(BACKUPS, newRecord({ namespace, name: 'by-hand', database: 'orders', type: 'Full', verify: true }))
    const { code, log } = await pod('by-hand-job', 'backup', '--name', 'by-hand')
    expect(code, log).toBe(0)
    const { status } = (await find(api, BACKUPS, namespace, 'by-hand')) as Any
    const { digest, position } = await stats()
    expect(status).toMatchObject({
      phase: 'Completed',
      type: 'Full',
      records: 50,
      digest,
      position,
      verification: 'Verified',
      job: 'by-hand-job',
      location: expect.stringContaining('/snapshots/'),
    })
    expect(readdirSync(join(root, 'scratch'))).toEqual([])
  })

  it('name a scheduled backup after its slot, and an increment after its parent', async () => {
    await put(51, 'new')
    await job('hourly-job', { [SLOT_ANNOTATION]: '2026-11-23T04:15:00+02:00' })
    const { code, log } = await pod('hourly-job', 'backup', '--schedule', 'hourly')
    expect(code, log).toBe(0)
    const record = (await find(api, BACKUPS, namespace, 'orders-hourly-20261123t0215z')) as Any
    expect(record.metadata.labels).toMatchObject({ 'kvidx.io/schedule': 'hourly', 'kvidx.io/job': 'hourly-job' })
    expect(record.status).toMatchObject({ phase: 'Completed', type: 'Incremental', parent: 'by-hand' })
  })

  it('leave the files to a store that manages retention, and remove the records of what it let go', async () => {
    const kept = (await find(api, BACKUPS, namespace, 'by-hand')) as Any
    const { location } = kept.status
    const lastWeek = new Date(Date.now() - 7 * 86_400_000).toISOString()
    const under = (location as string).replace(/[^/]+\/$/, '')
    const old = async (name: string, change: object, schedule?: string) => {
      const input = { namespace, name, database: 'orders', type: 'Full', verify: true } as const
      await api.create(BACKUPS, newRecord({ ...input, ...(schedule !== undefined && { schedule, job: 'gone' }) }))
      const status = { phase: 'Completed', completedAt: lastWeek, location: `${under}20200101T000000000Z-${name}/` }
      await api.patch(BACKUPS, { namespace, name }, { status: { ...status, ...change } }, { subresource: 'status' })
    }
    await old('expired', {}, 'daily')
    await old('stored', { location }, 'daily')
    await old('just-made', { completedAt: new Date().toISOString() }, 'daily')
    await old('elsewhere', { location: 's3://bucket/shop/orders/l0/snapshots/20200101T000000000Z-elsewhere/' }, 'daily')
    await old('mine', {})
    const config = join(root, 'store.json')
    const settings = JSON.parse(readFileSync(join(root, 'config.json'), 'utf8'))
    settings.dynamic.backup.retention.managedBy = 'Store'
    writeFileSync(config, JSON.stringify(settings))
    const before = (await api.list(BACKUPS, { namespace })).items.map(({ metadata }) => metadata.name)
    const pruned = await pod('prune-job', 'prune', '--config', config)
    expect(pruned.code, pruned.log).toBe(0)
    const after = (await api.list(BACKUPS, { namespace })).items.map(({ metadata }) => metadata.name)
    expect(after).toEqual(before.filter(name => name !== 'expired'))
    for (const name of ['stored', 'just-made', 'elsewhere', 'mine']) await api.delete(BACKUPS, { namespace, name })
  })

  it('take a backup that was stored without anybody hearing of it', async () => {
    await api.delete(BACKUPS, { namespace, name: 'by-hand' })
    await api.create(BACKUPS, newRecord({ namespace, name: 'by-hand', database: 'orders', type: 'Full', verify: true }))
    const { code, log } = await pod('by-hand-job', 'backup', '--name', 'by-hand')
    expect(code, log).toBe(0)
    const { status } = (await find(api, BACKUPS, namespace, 'by-hand')) as Any
    // the old one, from before record 51
    expect(status).toMatchObject({ phase: 'Completed', records: 50 })
  })

  it('say what went wrong, in the record and by the exit code', async () => {
    await job('unknown-job', { [SLOT_ANNOTATION]: '2026-11-23T02:15:00Z' })
    expect((await pod('unknown-job', 'backup', '--schedule', 'weekly')).code).toBe(2)
    await api.create(BACKUPS, newRecord({ namespace, name: 'bad', database: 'orders', type: 'Full', verify: true }))
    const before = files
    files = files.map(value => (value === server ? 'http://127.0.0.1:1' : value))
    try {
      expect((await pod('unknown-job', 'backup', '--name', 'bad', '--patience', '1s')).code).toBe(1)
    } finally {
      files = before
    }
    const { status } = (await find(api, BACKUPS, namespace, 'bad')) as Any
    expect(status).toMatchObject({ phase: 'Failed', error: expect.stringContaining('127.0.0.1:1') })
  })

  it('restore in place: for trial, then really, and never again', async () => {
    const wanted = ((await find(api, BACKUPS, namespace, 'by-hand')) as Any).status
    const restore = (name: string, dryRun: boolean) =>
      api.create(RESTORES, {
        apiVersion: 'kvidx.io/v1alpha1',
        kind: 'KvidxRestore',
        metadata: { namespace, name },
        spec: { database: 'orders', from: { backup: 'by-hand' }, atEpoch: 1, dryRun },
      } as KubeObject)
    await job('restore-job')
    await restore('trial', true)
    const trial = await pod('restore-job', 'restore', '--name', 'trial')
    expect(trial.code, trial.log).toBe(0)
    const counted = (await find(api, RESTORES, namespace, 'trial')) as Any
    expect(counted.status).toMatchObject({ phase: 'Completed', added: 0, removed: 1, changed: 0 })
    expect((await stats()).count).toBe('51')
    await restore('real', false)
    const real = await pod('restore-job', 'restore', '--name', 'real')
    expect(real.code, real.log).toBe(0)
    const done = (await find(api, RESTORES, namespace, 'real')) as Any
    expect(done.status).toMatchObject({ phase: 'Completed', records: 50, digest: wanted.digest, epoch: 2 })
    expect(await stats()).toMatchObject({ count: '50', digest: wanted.digest })
    await restore('late', false)
    const late = await pod('restore-job', 'restore', '--name', 'late')
    expect(late.code, late.log).toBe(2)
    const refused = (await find(api, RESTORES, namespace, 'late')) as Any
    expect(refused.status).toMatchObject({ phase: 'Failed', code: 'superseded' })
    expect(conditionOf(refused, 'Ready')).toMatchObject({
      reason: 'Superseded',
      message:
        'The database is in epoch 2, not 1: nothing was done. Make a new KvidxRestore; kvidx restore fills in the epoch.',
    })
  })

  it('give a record to each backup in the store that has none, and leave the others alone', async () => {
    const hourly = 'orders-hourly-20261123t0215z'
    const before = (await find(api, BACKUPS, namespace, hourly)) as Any
    const lost = (await find(api, BACKUPS, namespace, 'by-hand')) as Any
    await api.delete(BACKUPS, { namespace, name: hourly })
    await api.delete(BACKUPS, { namespace, name: 'by-hand' })
    const kept = newRecord({ namespace, name: hourly, database: 'orders', type: 'Incremental', verify: false })
    await api.create(BACKUPS, kept)
    await api.patch(BACKUPS, { namespace, name: hourly }, { status: { phase: 'Failed' } }, { subresource: 'status' })
    for (const _ of ['first', 'again']) {
      const { code, log } = await pod('catalog-job', 'catalog')
      expect(code, log).toBe(0)
    }
    const rebuilt = (await find(api, BACKUPS, namespace, 'by-hand')) as Any
    expect(rebuilt.metadata.labels).toMatchObject({ 'kvidx.io/imported': 'true', 'kvidx.io/database': 'orders' })
    const { conditions: _was, job: _job, observedGeneration: _generation, ...status } = lost.status
    expect(rebuilt.status).toMatchObject(status)
    expect(((await find(api, BACKUPS, namespace, hourly)) as Any).status).toEqual({ phase: 'Failed' })
    await api.delete(BACKUPS, { namespace, name: hourly })
    expect((await pod('catalog-job', 'catalog')).code).toBe(0)
    const scheduled = (await find(api, BACKUPS, namespace, hourly)) as Any
    expect(scheduled.metadata.labels).toMatchObject({ 'kvidx.io/schedule': 'hourly', 'kvidx.io/imported': 'true' })
    expect(scheduled.status).toMatchObject({ parent: 'by-hand', digest: before.status.digest })
  })

  it('are asked for by the name of the database, with kvidx backup and kvidx restore', async () => {
    await userApply(api, database(namespace, 'orders', {}))
    await api.patch(
      DATABASES,
      { namespace, name: 'orders' },
      { status: { data: { position: (await stats()).position, keys: 0, dataBytes: 0, fileBytes: 0 } } },
      { subresource: 'status' },
    )
    const cli = async (...args: readonly string[]) => {
      const env = { ...process.env, KUBECONFIG: kubeconfig }
      const child = spawn(process.execPath, [KVIDX, ...args, '-k', 'orders', '--namespace', namespace], { env })
      const said = { out: '', notes: '' }
      child.stdout.on('data', chunk => (said.out += String(chunk)))
      child.stderr.on('data', chunk => (said.notes += String(chunk)))
      const [code] = (await once(child, 'close')) as [number]
      return { code, ...said }
    }
    await job('named-job')
    const creating = cli('backup', 'create', 'by-name', '--no-verify')
    await eventually(
      () => find(api, BACKUPS, namespace, 'by-name'),
      record => record !== undefined,
      START,
    )
    // what the operator would start
    expect((await pod('named-job', 'backup', '--name', 'by-name')).code).toBe(0)
    const created = await creating
    expect([created.code, created.notes]).toEqual([0, ''])
    expect(created.out).toMatch(/phase +Completed/)
    const twice = await cli('backup', 'create', 'by-name')
    expect(twice.code).toBe(1)
    expect(twice.notes).toContain('choose another name')
    const listed = await cli('backup', 'list')
    expect(listed.out).toMatch(/^by-name +Full +Completed/m)
    const shown = JSON.parse((await cli('backup', 'show', 'by-name', '--output', 'json')).out) as Any
    expect(shown.status).toMatchObject({ digest: (await stats()).digest, verification: 'Skipped' })
    expect((await cli('backup', 'show', 'unknown')).code).toBe(3)
    const restoring = cli('restore', 'by-name', '--dry-run', '--output', 'json')
    const restore = (await eventually(
      async () => (await api.list<Any>(RESTORES, { namespace })).items.find(its => its.spec.from.backup === 'by-name'),
      record => record !== undefined,
      START,
    )) as Any
    expect((await pod('named-job', 'restore', '--name', restore.metadata.name)).code).toBe(0)
    const restored = await restoring
    expect([restored.code, restored.notes]).toEqual([0, ''])
    expect(JSON.parse(restored.out)).toMatchObject({ phase: 'Completed', added: 0, removed: 0, changed: 0 })
    await api.delete(BACKUPS, { namespace, name: 'by-name' })
    const verified = await pod('named-job', 'check', '--name', 'by-name')
    expect(verified.code, verified.log).toBe(0)
  })

  it('are rebuilt in another cluster by kvidx backup sync, which has nothing but the store', async () => {
    const elsewhere = await freshNamespace(api, 'sync')
    try {
      const child = spawn(
        process.execPath,
        [KVIDX, 'backup', 'sync', '--store', `file://${join(root, 'backups')}`, '--into', elsewhere],
        { env: { ...process.env, KUBECONFIG: kubeconfig }, stdio: ['ignore', 'pipe', 'pipe'] },
      )
      let log = ''
      for (const stream of [child.stdout, child.stderr]) stream.on('data', chunk => (log += String(chunk)))
      expect((await once(child, 'close'))[0], log).toBe(0)
      expect(log).toMatch(/3 imported into namespace/)
      const record = (await find(api, BACKUPS, elsewhere, 'by-hand')) as Any
      expect(record.status).toMatchObject({ phase: 'Completed', verification: 'Verified', records: 50 })
    } finally {
      await api.delete(NAMESPACES, { name: elsewhere })
    }
  })

  it('prune, and delete one backup unless an increment needs it', async () => {
    const pruned = await pod('prune-job', 'prune')
    expect(pruned.code, pruned.log).toBe(0)
    const needed = await pod('delete-job', 'delete', '--name', 'by-hand')
    expect(needed.code).toBe(1)
    expect(needed.log).toContain('orders-hourly-20261123t0215z')
    const child = await pod('delete-job', 'delete', '--name', 'orders-hourly-20261123t0215z')
    expect(child.code, child.log).toBe(0)
  })
})

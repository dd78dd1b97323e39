import { type ChildProcess, execFile, spawn } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { freePort, type RunningS3 } from '../../servers/versitygw.ts'
import { blocksOf, filledIn, only } from '../../support/runbook.ts'
import { s3Binary, startS3 } from '../backup/s3-server.ts'

/**
 * The procedures of docs/backup.md on one machine, their code blocks run as they stand there. What is replaced:
 *   the time of the wrong delete and the positions by those of this run; ENDPOINT, ID and SECRET by those of a real S3 server
 *   `kvidx run -f orders.yaml`, the last line of a block, is left to a terminal of its own: the test waits until it says that the database is ready
 *   ports: by the variables that the program reads
 */
const KVIDX = new URL('../../../bin/kvidx', import.meta.url).pathname
const RUN = 'kvidx run -f orders.yaml\n'
const TIME = '2026-11-23T14:02:59Z'
const ENDPOINT = 'https://s3.example'
const PATIENCE = 60_000

/** A person's directory, in which `kvidx run -f orders.yaml` was typed. */
class Machine {
  readonly directory = mkdtempSync(join(tmpdir(), 'kvidx-runbook-'))
  readonly #environment: NodeJS.ProcessEnv
  #running: ChildProcess | undefined
  #said = ''

  constructor(manifest: string) {
    const programs = join(this.directory, '.programs')
    mkdirSync(programs)
    writeFileSync(join(programs, 'kvidx'), `#!/bin/sh\nexec '${process.execPath}' '${KVIDX}' "$@"\n`)
    chmodSync(join(programs, 'kvidx'), 0o755)
    this.#environment = { ...process.env, PATH: `${programs}:${process.env.PATH}` }
    this.write('orders.yaml', manifest)
  }

  write(path: string, text: string): void {
    mkdirSync(join(this.directory, path, '..'), { recursive: true })
    writeFileSync(join(this.directory, path), text)
  }

  path(path: string): string {
    return join(this.directory, path)
  }

  /** `kvidx run`, until it says this. */
  async start(until = /^orders: ready, /m): Promise<string> {
    this.#said = ''
    // others take a port that is free for a while
    const [data, operations] = [await freePort(), await freePort()]
    Object.assign(this.#environment, {
      KVIDX_DATA_PORT: String(data),
      KVIDX_OPS_PORT: String(operations),
      KVIDX_SERVER: `http://127.0.0.1:${data}`,
    })
    const child = spawn('bash', ['--norc', '-c', `exec ${RUN}`], {
      cwd: this.directory,
      env: this.#environment,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.#running = child
    for (const stream of [child.stdout, child.stderr]) stream.on('data', chunk => (this.#said += String(chunk)))
    const ended = new Promise((_, reject) => child.once('exit', () => reject(new Error(this.#said))))
    await Promise.race([ended, vi.waitFor(() => expect(this.#said).toMatch(until), { timeout: PATIENCE })])
    return this.#said
  }

  /** Ctrl-C */
  async stop(): Promise<void> {
    const child = this.#running
    if (!child || child.exitCode !== null) return
    const ended = new Promise(resolve => child.once('exit', resolve))
    child.kill('SIGINT')
    await ended
  }

  async shell(script: string): Promise<string> {
    const all = ['--norc', '-euo', 'pipefail', '-c', script]
    const { stdout } = await promisify(execFile)('bash', all, { cwd: this.directory, env: this.#environment })
    return stdout
  }

  /** A block whose last line is `kvidx run`. */
  async block(block: string): Promise<string> {
    expect(block.endsWith(RUN)).toBe(true)
    const said = await this.shell(block.slice(0, -RUN.length))
    await this.start()
    return said
  }

  // biome-ignore lint/suspicious/noExplicitAny: a document of the program
  async json(...words: string[]): Promise<any> {
    const lines = (await this.shell(`kvidx ${words.join(' ')} --output json`)).trim().split('\n')
    return JSON.parse(lines.at(-1) as string)
  }

  /** Everything is in the store. */
  async shipped(): Promise<void> {
    const { position } = await this.json('stats')
    // a new epoch begins at the seq that is there already
    const shipped = expect.stringMatching(new RegExp(`\\.${position.split('.')[1]}$`))
    const status = async () => {
      const answer = await fetch(`http://127.0.0.1:${this.#environment.KVIDX_OPS_PORT}/status`)
      return ((await answer.json()) as { backup: { continuous: object } }).backup.continuous
    }
    await vi.waitFor(async () => expect(await status()).toMatchObject({ shipped, backlogChanges: 0 }), {
      timeout: PATIENCE,
      interval: 200,
    })
  }

  async remove(): Promise<void> {
    await this.stop()
    rmSync(this.directory, { recursive: true, force: true })
  }
}

const manifest = (destination: string, rest = '') => `apiVersion: kvidx.io/v1alpha1
kind: KvidxDatabase
metadata: { name: orders }
spec:
  engine: SQLite
  storage: { size: 1Gi }
  backup:
    destination: ${destination}
    continuous: { enabled: true, interval: 200ms }
    schedules:
      - { name: yearly, schedule: "0 0 1 1 *", type: Full }
${rest}`
const VOLUME = '{ volume: { size: 1Gi } }'

/** Records, a Full, and changes behind it that only segments have. */
async function fill(machine: Machine, credentials = ''): Promise<void> {
  await machine.shell(`${credentials}
for i in 1 2 3 4 5 6; do kvidx put $i "value $i"; done
kvidx backup create
kvidx put 7 'behind the Full'`)
}

/** What must be the same afterwards. */
async function content(machine: Machine): Promise<object> {
  const { count, digest } = await machine.json('stats')
  return { count, digest }
}

/** The restored database is sound, goes on, and is backed up. */
async function goesOn(machine: Machine, credentials = ''): Promise<void> {
  await machine.shell('kvidx check; kvidx put 8 more')
  await machine.shipped()
  expect(await machine.shell(`${credentials}\nkvidx backup create`)).toMatch(/type +Full\n.*verified +\d{4}-/s)
}

describe('on one machine with a directory', { timeout: 6 * PATIENCE }, () => {
  let machine: Machine
  beforeAll(async () => {
    machine = new Machine(manifest(VOLUME))
    await machine.start()
    await fill(machine)
  })
  afterAll(() => machine.remove())

  test('a wrong delete is undone, and what was written since is kept', async () => {
    const blocks = blocksOf('Wrong delete at 14:03', 'One machine')
    const before = await content(machine)
    await new Promise(resolve => setTimeout(resolve, 20))
    const moment = new Date().toISOString()
    await new Promise(resolve => setTimeout(resolve, 20))
    await machine.shell('kvidx delete --start 2 --end 4; kvidx put 5001 wanted')
    const after = await content(machine)
    await machine.shipped()

    const line = await machine.shell(only(blocks, /changes/))
    expect(line).toMatch(/^1\.\d+ +\d{4}-\S+ +deleteRange +2-4 +3 records\n$/)
    const [position = '', time = ''] = line.split(/ +/)
    expect(Date.parse(time)).toBeGreaterThanOrEqual(Date.parse(moment))

    const dry = await machine.shell(filledIn(only(blocks, /--dry-run/), { [TIME]: moment }))
    expect(dry).toMatch(/would add +3\n/)
    expect(dry).toMatch(/would remove +1\n/)
    expect(await content(machine)).toEqual(after)
    await machine.shell(only(blocks, /kvidx export/))
    const restore = only(blocks, /^kvidx restore --at .*Z\nkvidx count/)
    expect(await machine.shell(filledIn(restore, { [TIME]: moment }))).toMatch(/\n7\n$/)
    expect(await content(machine)).toEqual(before)

    expect(await machine.shell(only(blocks, /--undo/))).toContain('restored')
    expect(await content(machine)).toEqual(after)
    // once more, by the position of the commit before
    const [epoch, seq] = position.split('.')
    await machine.shell(filledIn(restore, { [TIME]: `${epoch}.${Number(seq) - 1}` }))
    expect(await content(machine)).toEqual(before)
    expect(await machine.shell(only(blocks, /kvidx import/))).toMatch(/verified +\d{4}-/)
    expect(await machine.shell('kvidx get 5001')).toBe('wanted')
    expect(await machine.shell('kvidx count')).toBe('8\n')
  })

  test('a database that still serves gets the newest state of the store', async () => {
    const before = await content(machine)
    await machine.shell(only(blocksOf('Corrupted database', ''), /--latest/))
    expect(await content(machine)).toEqual(before)
  })

  test('a database that does not start any more is restored beside its damaged files', async () => {
    const before = await content(machine)
    await machine.shipped()
    await machine.stop()
    overwrite(machine.path('.kvidx/default/orders/data/db/main.db'))
    await machine.start(/^orders: not ready: .*(?:engine_io|engine_corrupt|malformed|damaged)/m)
    await machine.stop()
    const [block = ''] = blocksOf('Corrupted database', 'One machine')
    const said = await machine.block(block)
    expect(await content(machine)).toEqual(before)
    expect(said).toContain((before as { digest: string }).digest)
    expect(existsSync(machine.path('.kvidx/default/orders/data-damaged/db/main.db'))).toBe(true)
    await goesOn(machine)
  })

  test('a lost volume is restored, and the lineage goes on', async () => {
    const before = await machine.json('stats')
    await machine.shipped()
    await lose(machine)
    const [block = ''] = blocksOf('Lost volume', 'One machine')
    await machine.block(block)
    const { count, digest, lineage } = await machine.json('stats')
    expect({ count, digest, lineage }).toEqual({ count: before.count, digest: before.digest, lineage: before.lineage })
    await goesOn(machine)
  })
})

test('a lost volume with encryption is restored with the key, and not without', { timeout: 3 * PATIENCE }, async () => {
  const security = '  security: { encryption: { secretRef: { name: orders-keys }, keyId: k2026 } }\n'
  const machine = new Machine(manifest(VOLUME, security))
  try {
    const key = 'ab'.repeat(32)
    machine.write('.kvidx/default/orders/encryption/k2026', key)
    machine.write('k2026.key', key)
    await machine.start()
    await fill(machine)
    await machine.shipped()
    const before = await content(machine)
    await lose(machine)
    const blocks = blocksOf('Lost volume', 'One machine')
    await expect(machine.block(blocks[0] as string)).rejects.toThrow(/encrypted with key/)
    await machine.block(only(blocks, /--key-file/))
    expect(await content(machine)).toEqual(before)
    await goesOn(machine)
  } finally {
    await machine.remove()
  }
})

describe.skipIf(!s3Binary)('with a bucket', { timeout: 6 * PATIENCE }, () => {
  let server: RunningS3
  let machine: Machine
  let before: object
  let values: Record<string, string>
  /** The line of the blocks. */
  let credentials: string
  beforeAll(async () => {
    server = await startS3()
    mkdirSync(join(server.directory, 'company-backups'))
    const { accessKeyId, secretAccessKey, endpoint } = server
    values = { 'ID=ID ': `ID=${accessKeyId} `, '=SECRET': `=${secretAccessKey}`, [ENDPOINT]: endpoint }
    const [list = ''] = blocksOf('Lost cluster')
    credentials = filledIn(list, values).split('\n')[0] as string
    const s3 = `{ s3: { bucket: company-backups, prefix: kvidx, endpoint: '${endpoint}', credentialsSecretRef: { name: orders-bucket } } }`
    machine = withCredentials(new Machine(manifest(s3)))
    await machine.start()
    await fill(machine, credentials)
    await machine.shipped()
    before = await content(machine)
  })
  afterAll(async () => {
    await machine?.remove()
    await server.stop()
  })

  function withCredentials(on: Machine): Machine {
    for (const name of ['accessKeyId', 'secretAccessKey'] as const)
      on.write(`.kvidx/default/orders/s3-credentials/${name}`, server[name])
    return on
  }

  test('a lost volume is restored from it', async () => {
    await lose(machine)
    await machine.block(filledIn(only(blocksOf('Lost volume', 'One machine'), /s3:/), values))
    expect(await content(machine)).toEqual(before)
    await goesOn(machine, credentials)
    before = await content(machine)
    await machine.stop()
  })

  test('a lost cluster: any machine lists and verifies, and the manifest with its bootstrap brings the database back', async () => {
    const blocks = blocksOf('Lost cluster')
    const step3 = filledIn(only(blocks, /bootstrap:/), { [ENDPOINT]: server.endpoint })
    const other = withCredentials(new Machine(step3))
    try {
      const said = await other.shell(filledIn(only(blocks, /backup verify/), values))
      expect(said).toMatch(/Full +1\.\d+/)
      expect(said).toMatch(/^Verified +orders-manual-/m)
      await other.start()
      expect(await content(other)).toEqual(before)
    } finally {
      await other.remove()
    }
  })

  test('a lost cluster: without one, the data into a directory and served from there', async () => {
    const other = new Machine(manifest(VOLUME))
    try {
      const block = filledIn(only(blocksOf('Lost cluster'), /--data-dir/), { [ENDPOINT]: server.endpoint })
      await other.block(`${credentials}\n${block}`)
      expect(await content(other)).toEqual(before)
    } finally {
      await other.remove()
    }
  })
})

/** The volume is gone, and the database says so. */
async function lose(machine: Machine): Promise<void> {
  await machine.stop()
  rmSync(machine.path('.kvidx/default/orders/data'), { recursive: true })
  await machine.start(/^orders: not ready: .*the database had data/m)
  await machine.stop()
}

/** All pages but the first. */
function overwrite(file: string): void {
  const handle = openSync(file, 'r+')
  const header = Buffer.alloc(18)
  readSync(handle, header, 0, 18, 0)
  const page = header.readUInt16BE(16)
  const rest = statSync(file).size - page
  writeSync(handle, Buffer.alloc(rest, 0xa5), 0, rest, page)
}

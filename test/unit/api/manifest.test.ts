import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseManifests, readManifests } from '../../../src/api/manifest.ts'
import { KvidxError } from '../../../src/common/errors.ts'

const ORDERS = `apiVersion: kvidx.io/v1alpha1
kind: KvidxDatabase
metadata:
  name: orders
spec:
  storage:
    size: 1Gi
`

function refusal(text: string): string {
  try {
    parseManifests([{ file: 'orders.yaml', text }])
  } catch (error) {
    expect(error).toBeInstanceOf(KvidxError)
    expect((error as KvidxError).code).toBe('invalid_manifest')
    return (error as KvidxError).message
  }
  throw new Error('it was taken')
}

describe('a manifest', () => {
  it('gives its objects with file and line, and leaves other groups alone', () => {
    const secret = 'apiVersion: v1\nkind: Secret\nmetadata: {name: s3}\n'
    const { objects, others } = parseManifests([
      { file: 'a.yaml', text: `# comment\n---\n${ORDERS}---\n---\n${secret}` },
      { file: 'b.yaml', text: ORDERS.replace('orders', 'users') },
    ])
    expect(objects.map(({ file, line, object }) => [file, line, object.kind, object.metadata.name])).toEqual([
      ['a.yaml', 3, 'KvidxDatabase', 'orders'],
      ['b.yaml', 1, 'KvidxDatabase', 'users'],
    ])
    expect(others).toMatchObject([{ file: 'a.yaml', line: 12, apiVersion: 'v1', kind: 'Secret' }])
  })

  it('says file, line, field and what is allowed for every mistake', () => {
    const text = ORDERS.replace('1Gi', '10GB').replace('spec:', 'spec:\n  engine: Sqlite\n  tunning: {}')
    expect(refusal(text).split('\n')).toEqual([
      "orders.yaml, line 6: spec.engine: 'Sqlite' is not one of SQLite, LMDB, RocksDB; did you mean 'SQLite'?",
      "orders.yaml, line 7: spec.tunning: there is no such field; did you mean 'tuning'? (known: engine, replicas, storage, tuning, backup, bootstrap, recovery, changeLog, limits, maintenance, monitoring, security, podTemplate, resources, image, imagePullPolicy, updatePolicy, suspend, hibernate)",
      "orders.yaml, line 9: spec.storage.size: '10GB' is not allowed; it must be a quantity from 64Mi to 64Ti",
    ])
  })

  it('means what it means to kubectl: a bare Off is a boolean, a bare time is text', () => {
    expect(refusal(`${ORDERS}  tuning: {syncMode: Off}\n`)).toBe(
      'orders.yaml, line 8: spec.tuning.syncMode: false is not allowed; it must be of type string (a word such as "Off" needs quotes in YAML)',
    )
    const text = `${ORDERS}  suspend: no
  tuning: {syncMode: "Off", busyTimeout: 1m30s}
  bootstrap: {restore: {backup: a, time: 2026-03-01T14:03:00Z}}
  maintenance: {check: {schedule: 0 4 * * 0}}
`
    const [entry] = parseManifests([{ file: 'f', text }]).objects
    expect(entry?.object.spec).toMatchObject({
      suspend: false,
      tuning: { syncMode: 'Off' },
      bootstrap: { restore: { time: '2026-03-01T14:03:00Z' } },
    })
  })

  it('points to the nearest line above when a field is missing', () => {
    expect(refusal(ORDERS.replace('    size: 1Gi', '    accessMode: ReadWriteOnce'))).toBe(
      'orders.yaml, line 6: spec.storage.size: this field is required',
    )
  })

  it('judges rules between fields, and points into lists', () => {
    const backup = `  backup:
    destination: {volume: {size: 1Gi}}
    schedules:
      - {name: daily, schedule: "0 2 * * *"}
      - name: weekly
        schedule: "0 0 31 2 *"
`
    expect(refusal(ORDERS + backup)).toBe(
      "orders.yaml, line 13: spec.backup.schedules[1].schedule: '0 0 31 2 *' is not allowed; it must be a cron schedule that has a next time",
    )
    expect(refusal(`${ORDERS}  tuning: {mapSize: 1Gi}\n`)).toBe(
      'orders.yaml, line 8: spec.tuning.mapSize: tuning.mapSize is a setting of LMDB only',
    )
  })

  it.each([
    ['', 'no object of kvidx.io is in it'],
    ['# nothing\n', 'no object of kvidx.io is in it'],
    ['apiVersion: v1\nkind: Secret\n', 'no object of kvidx.io is in it'],
    ['just text', 'line 1: a document must be an object'],
    ['- a\n- b\n', 'line 1: a document must be an object'],
    ['kind: KvidxDatabase\n', 'line 1: apiVersion: apiVersion and kind are required'],
    [
      'apiVersion: kvidx.io/v1alpha1\nkind: KvidxDatabse\n',
      "'KvidxDatabse' is not one of KvidxDatabase, KvidxBackup, KvidxRestore; did you mean 'KvidxDatabase'?",
    ],
    [
      'apiVersion: kvidx.io/v2\nkind: KvidxDatabase\nmetadata: {name: a}\nspec: {storage: {size: 1Gi}}\n',
      "line 1: apiVersion: 'kvidx.io/v2' is not allowed; it must be 'kvidx.io/v1alpha1'",
    ],
    ['a: b: c\n', 'line 1: '],
    ['a: 1\na: 2\n', 'line 2: Map keys must be unique'],
    ['a: [1, 2\n', 'line 2: '],
    ['a: *nothing\n', 'line 1: Unresolved alias'],
  ])('refuses %j', (text, message) => {
    expect(refusal(text)).toContain(message)
  })

  it('refuses two objects of one kind and name, naming both places', () => {
    expect(refusal(`${ORDERS}---\n${ORDERS}`)).toBe(
      'orders.yaml, line 9: metadata.name: KvidxDatabase default/orders is defined twice; first in orders.yaml, line 1',
    )
  })

  it('is bounded: a short file of aliases does not become gigabytes, a long one is refused', () => {
    const bomb = ['a: &a [x, x, x, x, x, x, x, x, x]']
    for (let letter = 0; letter < 12; letter++) {
      const [name, before] = [String.fromCharCode(98 + letter), String.fromCharCode(97 + letter)]
      bomb.push(`${name}: &${name} [${Array(9).fill(`*${before}`).join(', ')}]`)
    }
    expect(refusal(bomb.join('\n'))).toContain('Excessive alias count')
    expect(refusal(`#${'x'.repeat(5_000_000)}`)).toContain('at most 4194304 are allowed')
    expect(refusal('---\n'.repeat(2000))).toContain('at most 1000 are allowed')
  })

  it('shows at most twenty mistakes', () => {
    const many = Array.from({ length: 30 }, (_, index) => ORDERS.replace('orders', `o${index}`).replace('1Gi', '1'))
    const lines = refusal(many.join('---\n')).split('\n')
    expect(lines).toHaveLength(21)
    expect(lines[20]).toBe('and 10 more')
  })

  it('never throws anything but an invalid_manifest, whatever the text', () => {
    const piece = fc.constantFrom(
      'a',
      ':',
      ' ',
      '\n',
      '-',
      '[',
      '{',
      '}',
      '&x',
      '*x',
      '!!binary',
      "'",
      '"',
      '|',
      '---\n',
      ORDERS,
      '\u0000',
      '\t',
      '%YAML 9',
      '<<',
    )
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), pieces => {
        try {
          parseManifests([{ file: 'f', text: pieces.join('') }])
        } catch (error) {
          expect(error).toBeInstanceOf(KvidxError)
        }
      }),
      { numRuns: 500 },
    )
  })

  it('is read from files; one that is not there is named', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'api-manifest-'))
    try {
      const file = join(directory, 'orders.yaml')
      await writeFile(file, ORDERS)
      const { objects } = await readManifests([file])
      expect(objects[0]?.object.spec).toEqual({ storage: { size: '1Gi' } })
      await expect(readManifests([join(directory, 'other.yaml')])).rejects.toThrow(
        'other.yaml cannot be read: there is no such file',
      )
      await expect(readManifests([directory])).rejects.toThrow('it is a directory')
    } finally {
      await rm(directory, { recursive: true })
    }
  })
})

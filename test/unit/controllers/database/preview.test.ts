import { describe, expect, test } from 'vitest'
import { differences } from '../../../../src/controllers/database/differences.ts'
import { nothingThere } from '../../../../src/controllers/database/look.ts'
import { preview } from '../../../../src/controllers/database/preview.ts'
import { settled } from '../../../../src/controllers/database/settled.ts'
import { databaseOf, type Spec, TO_VOLUME } from '../backup/blueprints.ts'
import { specOf } from './scene.ts'

const edit = (from: Partial<Spec>, to: Partial<Spec>) => {
  const current = databaseOf(specOf(from))
  return preview(databaseOf(specOf(to)), current, settled(current))
}

const changes = ({ objects }: ReturnType<typeof preview>) =>
  objects.map(({ change, kind, name }) => `${change} ${kind} ${name}`)

describe('what an edit will do', () => {
  test.each([
    ['nothing', {}, {}, [], 'None'],
    ['nothing, with backups', TO_VOLUME, TO_VOLUME, [], 'None'],
    ['a threshold', {}, { monitoring: { walSize: '200Mi' } }, ['change ConfigMap orders-config'], 'None'],
    [
      'tuning',
      {},
      { tuning: { cacheSize: '128Mi' } },
      ['change ConfigMap orders-config', 'change StatefulSet orders'],
      'Restart',
    ],
    ['the image', { image: 'a:1' }, { image: 'a:2' }, ['change StatefulSet orders'], 'Restart'],
    ['sleep', {}, { hibernate: true }, ['change StatefulSet orders'], 'Stop'],
    ['waking', { hibernate: true }, {}, ['change StatefulSet orders'], 'Start'],
    [
      'a network policy less',
      {},
      { security: { networkPolicy: { enabled: false } } },
      ['delete NetworkPolicy orders'],
      'None',
    ],
    [
      'a larger volume',
      {},
      { storage: { size: '2Gi' } },
      ['change PersistentVolumeClaim data-orders-0', 'recreate StatefulSet orders'],
      'None',
    ],
    [
      'a larger volume and tuning',
      {},
      { storage: { size: '2Gi' }, tuning: { syncMode: 'Normal' } },
      ['change PersistentVolumeClaim data-orders-0', 'recreate StatefulSet orders', 'change ConfigMap orders-config'],
      'Restart',
    ],
    [
      'a container less',
      { podTemplate: { spec: { containers: [{ name: 'app', image: 'app:1' }] } } },
      {},
      ['change StatefulSet orders'],
      'Restart',
    ],
    [
      'a refused pod template',
      {},
      { podTemplate: { spec: { containers: [{ name: 'app', ports: [{ containerPort: 7400 }] }] } } },
      [],
      'None',
    ],
    ['suspending, with another edit', {}, { suspend: true, tuning: { cacheSize: '128Mi' } }, undefined, 'None'],
  ] as readonly (readonly [string, Partial<Spec>, Partial<Spec>, readonly string[] | undefined, string])[])(
    '%s',
    (_, from, to, expected, pods) => {
      const result = edit(from, to)
      if (expected) expect(changes(result)).toEqual(expected)
      expect(result.pods).toBe(pods)
      expect(result.unavailability === 'none').toBe(pods === 'None')
    },
  )

  test('a new database: everything is made', () => {
    const database = databaseOf(specOf())
    const result = preview(database, undefined, nothingThere(database))
    expect(changes(result)).toContain('create StatefulSet orders')
    expect(result.pods).toBe('Start')
  })

  test('names the fields, also inside the configuration document, and the growth', () => {
    const result = edit({}, { tuning: { cacheSize: '128Mi' }, storage: { size: '2Gi' } })
    const fields = result.objects.flatMap(object => object.fields)
    expect(fields).toContain('data.config.json: static.autoCache: true -> false')
    expect(result.volumes).toEqual([{ claim: 'data-orders-0', from: '1Gi', to: '2Gi' }])
  })

  test('says what would be refused', () => {
    const pod = { containers: [{ name: 'app', ports: [{ containerPort: 7400 }] }] }
    expect(edit({}, { podTemplate: { spec: pod } }).findings).toMatchObject([{ reason: 'PodTemplateRefused' }])
  })
})

describe('differences', () => {
  test.each([
    ['a value', { a: 1 }, { a: 2 }, undefined, ['a: 2 -> 1']],
    ['a new value', { a: { b: 1 } }, {}, undefined, ['a: (none) -> {"b":1}']],
    ['what the server added', { a: 1 }, { a: 1, b: 2 }, undefined, []],
    ['a field that is dropped', { a: 1 }, { a: 1, b: 2 }, { a: 1, b: 2 }, ['b: 2 -> (none)']],
    ['items by name', { c: [{ name: 'x', v: 1 }] }, { c: [{ name: 'x', v: 2 }] }, undefined, ['c[x].v: 2 -> 1']],
    [
      'an item that goes',
      { c: [{ name: 'x' }] },
      { c: [{ name: 'x' }, { name: 'y' }] },
      undefined,
      ['c[y]: {"name":"y"} -> (none)'],
    ],
  ])('%s', (_, desired, live, previous, expected) => {
    expect(differences(desired, live, previous)).toEqual(expected)
  })
})

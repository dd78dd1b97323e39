import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { withDefaults } from '../../../../src/api/v1alpha1/defaults.ts'
import type { KvidxDatabase } from '../../../../src/api/v1alpha1/kvidx-database.ts'
import { authSecret } from '../../../../src/controllers/database/objects/auth-secret.ts'
import { type Blueprint, blueprintOf } from '../../../../src/controllers/database/objects/blueprint.ts'
import { COMPONENTS } from '../../../../src/controllers/database/objects/desired.ts'
import { podTemplateV1 } from '../../../../src/controllers/database/objects/pod-template-v1.ts'
import { podTemplateV2 } from '../../../../src/controllers/database/objects/pod-template-v2.ts'
import {
  knowsTemplate,
  NEWEST_TEMPLATE,
  statefulSet,
} from '../../../../src/controllers/database/objects/stateful-set.ts'
import { databaseOf } from '../backup/blueprints.ts'

const EXAMPLES = ['minimal', 'production', 'application', 'lmdb', 'rocksdb'] as const

function blueprintOfExample(example: string): Blueprint {
  const { metadata, spec } = parse(readFileSync(`examples/${example}.yaml`, 'utf8'), {
    version: '1.1',
  }) as KvidxDatabase
  return blueprintOf(databaseOf(spec, metadata.name), withDefaults(spec), 'kvidx:1.0.0', 1)
}

const text = (value: unknown) => `${JSON.stringify(value, undefined, 2)}\n`

describe.each(EXAMPLES)('examples/%s.yaml', example => {
  const blueprint = blueprintOfExample(example)

  test('gives the objects that were agreed', async () => {
    const objects = COMPONENTS.filter(({ resource }) => resource.plural !== 'cronjobs').flatMap(component =>
      component.desired(blueprint),
    )
    await expect(text([...objects, authSecret(blueprint, () => 'random')])).toMatchFileSnapshot(
      `golden/objects-${example}.json`,
    )
  })

  // a change of these files restarts the pods of everybody: write version 3 of the template instead
  test.each([
    [1, podTemplateV1],
    [2, podTemplateV2],
  ])('gives version %i of the pod as it was released', async (version, render) => {
    await expect(text(render(blueprint))).toMatchFileSnapshot(`golden/pod-template-v${version}-${example}.json`)
  })

  test('gives the same bytes each time, whatever the status says beside image, version and lineage', () => {
    const again = blueprintOfExample(example)
    expect(text(statefulSet(again))).toBe(text(statefulSet(blueprint)))
    const known = { ...again, lineage: '6b0b7b1e-0000-4000-8000-000000000001' }
    expect(text(statefulSet(known))).toBe(text(statefulSet(blueprint)))
  })
})

describe('pods', () => {
  test('are rendered by a version that is known', () => {
    expect(knowsTemplate(NEWEST_TEMPLATE)).toBe(true)
    // the one before, for databases that have not moved yet
    expect(knowsTemplate(NEWEST_TEMPLATE - 1)).toBe(true)
    expect(knowsTemplate(99)).toBe(false)
    expect(() => statefulSet({ ...blueprintOfExample('minimal'), templateVersion: 99 })).toThrow('version 99')
  })

  test('have what Pod Security restricted asks for', () => {
    for (const example of EXAMPLES) {
      // biome-ignore lint/suspicious/noExplicitAny: rendered objects are looked into freely
      const pod = podTemplateV1(blueprintOfExample(example)) as any
      expect(pod.securityContext).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } })
      expect(pod.containers[0].securityContext).toMatchObject({
        allowPrivilegeEscalation: false,
        capabilities: { drop: ['ALL'] },
      })
      expect(pod.automountServiceAccountToken).toBe(false)
    }
  })

  test.each([
    ['neither', {}, '320Mi', '1152Mi'],
    ['a request above the default limit', { requests: { memory: '4Gi' } }, '4Gi', '4096Mi'],
    ['a limit below the default request', { limits: { memory: '128Mi' } }, '128Mi', '128Mi'],
    ['both', { requests: { memory: '1Gi' }, limits: { memory: '2Gi' } }, '1Gi', '2Gi'],
  ])('get memory that fits where the spec names %s', (_, resources, request, limit) => {
    const spec = withDefaults({ storage: { size: '1Gi' }, resources } as KvidxDatabase['spec'])
    // biome-ignore lint/suspicious/noExplicitAny: rendered objects are looked into freely
    const [container] = podTemplateV1({ ...blueprintOfExample('minimal'), spec }).containers as any[]
    expect(container.resources.requests.memory).toBe(request)
    expect(container.resources.limits.memory).toBe(limit)
  })

  test('get no CPU request above their limit', () => {
    const spec = withDefaults({ storage: { size: '1Gi' }, resources: { limits: { cpu: '50m' } } })
    // biome-ignore lint/suspicious/noExplicitAny: rendered objects are looked into freely
    const [container] = podTemplateV1({ ...blueprintOfExample('minimal'), spec }).containers as any[]
    expect(container.resources.requests.cpu).toBe('50m')
  })

  test('mount the socket into every application container once', () => {
    const spec = withDefaults({
      storage: { size: '1Gi' },
      podTemplate: {
        spec: {
          containers: [
            { name: 'one' },
            { name: 'two', volumeMounts: [{ name: 'socket', mountPath: '/run/kvidx', readOnly: true }] },
          ],
        },
      },
    })
    const mounts = (value: boolean) =>
      (
        podTemplateV1({
          ...blueprintOfExample('minimal'),
          spec: { ...spec, security: { ...spec.security, socket: value } },
          // biome-ignore lint/suspicious/noExplicitAny: rendered objects are looked into freely
        }).containers as any[]
      )
        .slice(1)
        .map(container => container.volumeMounts?.length ?? 0)
    expect(mounts(true)).toEqual([1, 1])
    expect(mounts(false)).toEqual([0, 1])
  })
})

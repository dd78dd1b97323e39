import { describe, expect, test } from 'vitest'
import { withDefaults } from '../../../../src/api/v1alpha1/defaults.ts'
import { readiness } from '../../../../src/controllers/database/health.ts'
import { podTemplateProblem } from '../../../../src/controllers/database/objects/pod-template-problem.ts'
import { podTemplateV1 } from '../../../../src/controllers/database/objects/pod-template-v1.ts'
import { planAll } from '../../../../src/controllers/database/plan.ts'
import { findingsInWords, inWords, scene, specOf } from './scene.ts'

const app = (more: object) => ({ containers: [{ name: 'app', image: 'app:1', ...more }] })

describe('a pod template is refused when it', () => {
  test.each([
    [
      'listens on the data port',
      app({ ports: [{ containerPort: 7400 }] }),
      'podTemplate.spec.containers[app].ports: port 7400',
    ],
    ['listens on the operations port', app({ ports: [{ name: 'web', containerPort: 8080 }] }), 'port 8080'],
    [
      'names a port like one of the database',
      app({ ports: [{ name: 'data', containerPort: 3000 }] }),
      "the name 'data'",
    ],
    ['mounts the data volume', app({ volumeMounts: [{ name: 'data', mountPath: '/x' }] }), "volume 'data'"],
    ['mounts the tokens', app({ volumeMounts: [{ name: 'auth', mountPath: '/x' }] }), "volume 'auth'"],
    ['mounts the backups', app({ volumeMounts: [{ name: 'backups', mountPath: '/x' }] }), "volume 'backups'"],
    [
      'mounts the data volume in an init container',
      { initContainers: [{ name: 'init', volumeMounts: [{ name: 'data', mountPath: '/x' }] }] },
      'podTemplate.spec.initContainers[init].volumeMounts',
    ],
    [
      'has a name twice',
      { initContainers: [{ name: 'app' }], containers: [{ name: 'app' }] },
      'podTemplate.spec.containers[app]: the name is there twice',
    ],
    ['has a volume twice', { volumes: [{ name: 'a' }, { name: 'a' }] }, 'podTemplate.spec.volumes[a]'],
  ])('%s', (_, pod, problem) => {
    const spec = withDefaults(specOf({ podTemplate: { spec: pod } } as never))
    expect(podTemplateProblem(spec)).toContain(problem)
  })
})

test.each([
  ['nothing', undefined],
  [
    'an application with its own port, the socket and /tmp',
    app({
      ports: [{ name: 'http', containerPort: 3000 }],
      volumeMounts: [
        { name: 'socket', mountPath: '/run/kvidx' },
        { name: 'tmp', mountPath: '/tmp' },
      ],
    }),
  ],
  ['what is no list', app({ ports: 'x', volumeMounts: { a: 1 } })],
])('a pod template with %s is taken', (_, pod) => {
  const spec = withDefaults(specOf(pod === undefined ? {} : ({ podTemplate: { spec: pod } } as never)))
  expect(podTemplateProblem(spec)).toBeUndefined()
})

describe('a refused pod template', () => {
  const spec = {
    podTemplate: { spec: app({ ports: [{ containerPort: 7400 }] }) },
    tuning: { cacheSize: '80Mi' },
  } as never

  test('leaves the pods as they are, and the database Ready', () => {
    const { blueprint, observed } = scene({ spec })
    const before = scene().observed
    const settled = { ...observed, owned: before.owned, statefulSet: before.statefulSet }
    const plan = planAll(blueprint, settled)
    expect(inWords(plan.actions)).toEqual(['apply ConfigMap orders-config'])
    expect(findingsInWords(readiness(blueprint, settled, plan.findings, true))).toEqual([
      'Stalled=True/PodTemplateRefused',
      'Ready=True/Ready',
    ])
  })

  test('keeps a new database from getting pods, and is why it is not Ready', () => {
    const { blueprint, observed } = scene({ spec })
    const fresh = { ...observed, owned: new Map(), statefulSet: undefined, pods: [], claims: [], probe: undefined }
    const plan = planAll(blueprint, fresh)
    expect(inWords(plan.actions)).not.toContain('apply StatefulSet orders')
    expect(findingsInWords(readiness(blueprint, fresh, plan.findings, true))).toEqual([
      'Stalled=True/PodTemplateRefused',
      'Ready=False/PodTemplateRefused',
    ])
  })
})

describe('a pod reaches the place that its first data comes from', () => {
  const s3 = { bucket: 'old', credentialsSecretRef: { name: 'old-bucket' }, caSecretRef: { name: 'old-ca' } }
  const own = {
    destination: { s3: { bucket: 'own', credentialsSecretRef: { name: 'own-bucket' } } },
    schedules: [{ name: 'daily', schedule: '@daily' }],
  }
  const encryption = { secretRef: { name: 'keys' }, keyId: 'k1' }
  test.each([
    ['a bucket of its own', { restore: { source: { database: 'old', s3 } } }, {}, ['old-bucket', 'old-ca']],
    ['a bucket with a file', { import: { format: 'JSON', path: 'a.json', s3 } }, {}, ['old-bucket', 'old-ca']],
    ['its own destination', { restore: { backup: 'daily' } }, { backup: own }, ['own-bucket']],
    ['its own destination by database', { restore: { source: { database: 'old' } } }, { backup: own }, ['own-bucket']],
    [
      'its own destination with keys',
      { restore: { backup: 'daily' } },
      { backup: own, security: { encryption } },
      ['own-bucket', 'keys'],
    ],
    [
      'what continuous backup has anyway, once',
      { restore: { backup: 'daily' } },
      { backup: { ...own, continuous: { enabled: true } } },
      ['own-bucket'],
    ],
    ['no bucket where it takes over a volume', { adopt: 'x' }, { backup: own }, []],
    ['no bucket without bootstrap', undefined, { backup: own }, []],
  ])('%s', (_, bootstrap, more, secrets) => {
    const { blueprint } = scene({ spec: { ...more, ...(bootstrap && { bootstrap }) } as never })
    // biome-ignore lint/suspicious/noExplicitAny: rendered objects are looked into freely
    const pod = podTemplateV1(blueprint) as any
    const mounted = pod.volumes.flatMap(
      (volume: { secret?: { secretName: string } }) => volume.secret?.secretName ?? [],
    )
    expect(mounted.filter((name: string) => name !== 'orders-auth').sort()).toEqual([...secrets].sort())
    const names = ['data', ...pod.volumes.map((volume: { name: string }) => volume.name)]
    expect(new Set(names).size).toBe(names.length)
    for (const { name } of pod.containers[0].volumeMounts) expect(names).toContain(name)
  })

  test('a volume, which it cannot write', () => {
    const source = { database: 'old', volume: { claimName: 'old-backups' } }
    const { blueprint } = scene({ spec: { bootstrap: { restore: { source } } } as never })
    // biome-ignore lint/suspicious/noExplicitAny: rendered objects are looked into freely
    const pod = podTemplateV1(blueprint) as any
    expect(pod.volumes).toContainEqual({ name: 'bootstrap', persistentVolumeClaim: { claimName: 'old-backups' } })
    expect(pod.containers[0].volumeMounts).toContainEqual({
      name: 'bootstrap',
      mountPath: '/bootstrap',
      readOnly: true,
    })
  })
})

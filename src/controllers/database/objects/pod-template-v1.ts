import { DATA_PORT, OPERATIONS_PORT, USER_ID } from '../names.ts'
import type { Blueprint } from './blueprint.ts'
import { bootstrapMounts } from './bootstrap-mounts.ts'
import { CONFIG_KEY } from './config-map.ts'
import type { PodTemplate } from './pod-template.ts'
import { containerResources } from './resources.ts'

const SOCKET_DIRECTORY = '/run/kvidx'
const GRACE_SECONDS = 120

type Named = Readonly<{ name: string }> & Readonly<Record<string, unknown>>

/** Version 1 of the pod. Never change what it gives for a spec: write a version 2. */
export function podTemplateV1(blueprint: Blueprint): PodTemplate['spec'] {
  const { names, spec, image } = blueprint
  const { security, backup } = spec
  const extra = spec.podTemplate.spec
  const volumes: Named[] = [
    { name: 'config', configMap: { name: names.configMap } },
    { name: 'auth', secret: { secretName: security.auth.secretRef?.name ?? names.authSecret, defaultMode: 0o440 } },
    { name: 'socket', emptyDir: {} },
    { name: 'tmp', emptyDir: { sizeLimit: '64Mi' } },
  ]
  const mounts: Named[] = [
    { name: 'data', mountPath: '/data' },
    { name: 'config', mountPath: '/etc/kvidx/config', readOnly: true },
    { name: 'auth', mountPath: '/etc/kvidx/auth', readOnly: true },
    { name: 'socket', mountPath: SOCKET_DIRECTORY },
    { name: 'tmp', mountPath: '/tmp' },
  ]
  const secretVolume = (name: string, secretName: string, mountPath: string) => {
    volumes.push({ name, secret: { secretName, defaultMode: 0o440 } })
    mounts.push({ name, mountPath, readOnly: true })
  }
  if (security.tls) secretVolume('tls', security.tls.secretRef.name, '/etc/kvidx/tls')
  if (backup?.destination.volume) {
    // for restores in place, also where nothing is shipped
    volumes.push({ name: 'backups', persistentVolumeClaim: { claimName: names.backupClaim } })
    mounts.push({ name: 'backups', mountPath: '/backups' })
  }
  if (security.encryption && backup && (backup.destination.volume || backup.continuous.enabled))
    secretVolume('encryption', security.encryption.secretRef.name, '/etc/kvidx/encryption')
  if (backup?.continuous.enabled) {
    // segments are shipped by this very process
    const s3 = backup.destination.s3
    if (s3?.credentialsSecretRef)
      secretVolume('s3-credentials', s3.credentialsSecretRef.name, '/etc/kvidx/s3-credentials')
    if (s3?.caSecretRef) secretVolume('s3-ca', s3.caSecretRef.name, '/etc/kvidx/s3-ca')
  }
  const { claim, secrets } = bootstrapMounts(blueprint)
  for (const { volume, secret, path } of secrets) secretVolume(volume, secret, path)
  if (claim) {
    volumes.push({ name: 'bootstrap', persistentVolumeClaim: { claimName: claim.name } })
    mounts.push({ name: 'bootstrap', mountPath: claim.path, readOnly: true })
  }
  const probe = (path: string, settings: object) => ({
    httpGet: { path, port: 'operations' },
    timeoutSeconds: 3,
    ...settings,
  })
  const database = {
    name: 'kvidx',
    image,
    imagePullPolicy: spec.imagePullPolicy,
    args: [
      'sidecar',
      '--config',
      `/etc/kvidx/config/${CONFIG_KEY}`,
      '--data-dir',
      '/data',
      '--host',
      '0.0.0.0',
      '--data-port',
      String(DATA_PORT),
      '--ops-port',
      String(OPERATIONS_PORT),
      '--token-dir',
      '/etc/kvidx/auth',
      ...(security.socket ? ['--socket', `${SOCKET_DIRECTORY}/kvidx.sock`] : []),
      ...(security.tls ? ['--tls-dir', '/etc/kvidx/tls'] : []),
    ],
    env: [
      { name: 'KVIDX_POD', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
      { name: 'KVIDX_NODE', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } },
    ],
    ports: [
      { name: 'data', containerPort: DATA_PORT, protocol: 'TCP' },
      { name: 'operations', containerPort: OPERATIONS_PORT, protocol: 'TCP' },
    ],
    // health answers from the first moment, whatever the recovery takes; only a process that does not come up at all is killed
    startupProbe: probe('/health', { periodSeconds: 2, failureThreshold: 60 }),
    livenessProbe: probe('/health', { periodSeconds: 10, failureThreshold: 3 }),
    readinessProbe: probe('/ready', { periodSeconds: 2, failureThreshold: 2 }),
    resources: containerResources(spec),
    securityContext: { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } },
    volumeMounts: mounts,
  }
  const withSocket = (container: Named): Named => {
    const own = (container.volumeMounts ?? []) as readonly { mountPath?: string }[]
    const has = own.some(mount => mount.mountPath === SOCKET_DIRECTORY)
    return security.socket && !has
      ? { ...container, volumeMounts: [...own, { name: 'socket', mountPath: SOCKET_DIRECTORY }] }
      : container
  }
  const {
    containers = [],
    initContainers,
    volumes: ownVolumes = [],
    terminationGracePeriodSeconds,
    ...scheduling
  } = extra ?? {}
  return {
    serviceAccountName: names.podAccount,
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    terminationGracePeriodSeconds: terminationGracePeriodSeconds ?? GRACE_SECONDS,
    securityContext: {
      runAsNonRoot: true,
      runAsUser: USER_ID,
      runAsGroup: USER_ID,
      fsGroup: USER_ID,
      fsGroupChangePolicy: 'OnRootMismatch',
      seccompProfile: { type: 'RuntimeDefault' },
    },
    ...scheduling,
    ...(initContainers && { initContainers }),
    containers: [database, ...containers.map(withSocket)],
    volumes: [...volumes, ...ownVolumes],
  } as PodTemplate['spec']
}

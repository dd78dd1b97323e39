import { POD_PATHS } from '../../../api/v1alpha1/sidecar-config.ts'
import { bytes } from '../../../common/quantity.ts'
import { DATA_PORT, labelsOf, selectorOf, USER_ID } from '../names.ts'
import type { Blueprint } from './blueprint.ts'
import { CONFIG_KEY } from './config-map.ts'
import { withDefaultAmounts } from './resources.ts'

/** Of the pods that make, verify, prune and restore backups. */
export const JOB_CONTAINER = 'job'
export const SCRATCH_DIRECTORY = '/scratch'
/** Where a copy of a data volume is mounted. */
export const COPY_DIRECTORY = '/copy'

/** Up to here the scratch space is an emptyDir on the node's disk. */
const LARGEST_EMPTY_DIR = 5 * 1024 ** 3
/** The job's process says what was wrong with what it was asked for; asking again changes nothing. */
export const EXIT_POINTLESS = 2
const GRACE_SECONDS = 60

const MEMORY_REQUEST = 256 * 1024 ** 2
const MEMORY_LIMIT = 768 * 1024 ** 2

export interface JobPodInput {
  /** Arguments of `kvidx` before the common ones: `['pod-job', 'backup', '--schedule', 'daily']`. */
  readonly args: readonly string[]
  /** Mounts the destination with its credentials and keys, and scratch space. A VolumeSnapshot needs none of them. */
  readonly store: boolean
  /** A VolumeSnapshot of which the pod gets a copy that goes with it, and its size in bytes. */
  readonly copyOf?: { readonly snapshot: string; readonly size: number }
}

type Named = Readonly<{ name: string }> & Readonly<Record<string, unknown>>

/** Labels of the pods of jobs: not those of the database's own, which Services select. */
export function jobLabels(database: string): Record<string, string> {
  return { ...labelsOf(database), 'app.kubernetes.io/component': 'backup' }
}

/** `http(s)://<service>.<namespace>.svc:7400` */
export function serverUrl({ names, namespace, spec }: Blueprint): string {
  return `${spec.security.tls ? 'https' : 'http'}://${names.service}.${namespace}.svc:${DATA_PORT}`
}

/** The template of a job's pod. Passes Pod Security `restricted`. */
export function jobPod(blueprint: Blueprint, { args, store, copyOf }: JobPodInput): object {
  const { names, name, spec, image } = blueprint
  const { security, backup } = spec
  const job = backup?.job
  const volumes: Named[] = [
    { name: 'config', configMap: { name: names.configMap } },
    {
      name: 'auth',
      secret: {
        secretName: security.auth.secretRef?.name ?? names.authSecret,
        items: [{ key: 'admin', path: 'admin' }],
        defaultMode: 0o440,
      },
    },
    { name: 'tmp', emptyDir: { sizeLimit: '64Mi' } },
  ]
  const mounts: Named[] = [
    { name: 'config', mountPath: '/etc/kvidx/config', readOnly: true },
    { name: 'auth', mountPath: '/etc/kvidx/auth', readOnly: true },
    { name: 'tmp', mountPath: '/tmp' },
  ]
  const environment: Named[] = [
    { name: 'KVIDX_POD', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
    { name: 'KVIDX_NODE', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } },
    { name: 'KVIDX_JOB', valueFrom: { fieldRef: { fieldPath: "metadata.labels['batch.kubernetes.io/job-name']" } } },
  ]
  const secretVolume = (volume: string, secret: object, mountPath: string) => {
    volumes.push({ name: volume, secret: { ...secret, defaultMode: 0o440 } })
    mounts.push({ name: volume, mountPath, readOnly: true })
  }
  if (security.tls) {
    // the authority that signed the server's certificate, where the Secret has it; never the private key
    const items = [{ key: 'ca.crt', path: 'ca.crt' }]
    secretVolume('tls', { secretName: security.tls.secretRef.name, items, optional: true }, '/etc/kvidx/tls')
    environment.push({ name: 'NODE_EXTRA_CA_CERTS', value: '/etc/kvidx/tls/ca.crt' })
  }
  if (store && backup) {
    const { volume, s3 } = backup.destination
    if (volume) {
      volumes.push({ name: 'backups', persistentVolumeClaim: { claimName: names.backupClaim } })
      mounts.push({ name: 'backups', mountPath: POD_PATHS.backups })
    }
    if (s3?.credentialsSecretRef)
      secretVolume('s3-credentials', { secretName: s3.credentialsSecretRef.name }, POD_PATHS.s3Credentials)
    if (s3?.caSecretRef) secretVolume('s3-ca', { secretName: s3.caSecretRef.name }, POD_PATHS.s3Ca)
    if (security.encryption)
      secretVolume('encryption', { secretName: security.encryption.secretRef.name }, POD_PATHS.encryption)
    volumes.push(scratchVolume(blueprint))
    mounts.push({ name: 'scratch', mountPath: SCRATCH_DIRECTORY })
    // what is restored to be compared must not land on the node's own disk
    environment.push({ name: 'TMPDIR', value: SCRATCH_DIRECTORY })
  }
  if (copyOf) {
    volumes.push(copyVolume(blueprint, copyOf))
    mounts.push({ name: 'copy', mountPath: COPY_DIRECTORY })
  }
  const pullSecrets = spec.podTemplate.spec?.imagePullSecrets
  // a volume of one node at a time: all that use it run beside the database, which has it too when it ships changes
  const beside = store && backup?.destination.volume !== undefined && blueprint.replicas > 0
  return {
    metadata: { labels: jobLabels(name) },
    spec: {
      restartPolicy: 'Never',
      serviceAccountName: names.jobAccount,
      automountServiceAccountToken: true,
      enableServiceLinks: false,
      terminationGracePeriodSeconds: GRACE_SECONDS,
      securityContext: {
        runAsNonRoot: true,
        runAsUser: USER_ID,
        runAsGroup: USER_ID,
        fsGroup: USER_ID,
        fsGroupChangePolicy: 'OnRootMismatch',
        seccompProfile: { type: 'RuntimeDefault' },
      },
      ...(pullSecrets && { imagePullSecrets: pullSecrets }),
      ...(job?.priorityClassName !== undefined && { priorityClassName: job.priorityClassName }),
      ...(job?.nodeSelector && { nodeSelector: job.nodeSelector }),
      ...(job?.tolerations && { tolerations: job.tolerations }),
      ...(beside && {
        affinity: {
          podAffinity: {
            requiredDuringSchedulingIgnoredDuringExecution: [
              { labelSelector: { matchLabels: selectorOf(name) }, topologyKey: 'kubernetes.io/hostname' },
            ],
          },
        },
      }),
      containers: [
        {
          name: JOB_CONTAINER,
          image,
          imagePullPolicy: spec.imagePullPolicy,
          args: [
            ...args,
            ...['--database', name, '--config', `/etc/kvidx/config/${CONFIG_KEY}`, '--server', serverUrl(blueprint)],
            ...['--token-file', '/etc/kvidx/auth/admin'],
          ],
          env: environment,
          resources: withDefaultAmounts(job?.resources, 'spec.backup.job.resources', MEMORY_REQUEST, MEMORY_LIMIT),
          securityContext: {
            allowPrivilegeEscalation: false,
            readOnlyRootFilesystem: true,
            capabilities: { drop: ['ALL'] },
          },
          terminationMessagePolicy: 'FallbackToLogsOnError',
          volumeMounts: mounts,
        },
      ],
      volumes,
    },
  }
}

function scratchVolume({ spec }: Blueprint): Named {
  const size = spec.backup?.scratch.size ?? spec.storage.size
  if (bytes(size, 'spec.backup.scratch.size') <= LARGEST_EMPTY_DIR)
    return { name: 'scratch', emptyDir: { sizeLimit: String(size) } }
  const storageClassName = spec.backup?.scratch.storageClassName ?? spec.storage.storageClassName
  return {
    name: 'scratch',
    ephemeral: {
      volumeClaimTemplate: {
        spec: {
          accessModes: ['ReadWriteOnce'],
          resources: { requests: { storage: String(size) } },
          ...(storageClassName !== undefined && { storageClassName }),
        },
      },
    },
  }
}

function copyVolume({ spec }: Blueprint, { snapshot, size }: NonNullable<JobPodInput['copyOf']>): Named {
  const { storageClassName } = spec.storage
  const storage = Math.max(bytes(spec.storage.size, 'spec.storage.size'), size)
  const claim = {
    accessModes: ['ReadWriteOnce'],
    resources: { requests: { storage: String(storage) } },
    ...(storageClassName !== undefined && { storageClassName }),
    dataSource: { apiGroup: 'snapshot.storage.k8s.io', kind: 'VolumeSnapshot', name: snapshot },
  }
  return { name: 'copy', ephemeral: { volumeClaimTemplate: { spec: claim } } }
}

/** The parts of a Job's spec that all of ours share. @param deadline seconds that all attempts together may take */
export function jobSpec(blueprint: Blueprint, input: JobPodInput, deadline: number): Record<string, unknown> {
  return {
    activeDeadlineSeconds: deadline,
    // a third attempt rarely finds what two did not
    backoffLimit: 1,
    podFailurePolicy: {
      rules: [
        {
          action: 'FailJob',
          onExitCodes: { containerName: JOB_CONTAINER, operator: 'In', values: [EXIT_POINTLESS] },
        },
        // an eviction or a drained node is not the backup's fault; the deadline bounds how often
        { action: 'Ignore', onPodConditions: [{ type: 'DisruptionTarget' }] },
      ],
    },
    template: jobPod(blueprint, input),
  }
}

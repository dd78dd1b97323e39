import { Type } from '@sinclair/typebox'
import { block, defaultBlock, integer, list, map, optional, passThrough, text } from '../schema-types.ts'
import { objectName, secretRef } from './parts.ts'

/** Names in the pod that are ours. */
export const RESERVED_CONTAINERS = ['kvidx', 'kvidx-init'] as const
export const RESERVED_VOLUMES = [
  'data',
  'config',
  'auth',
  'socket',
  'tls',
  'tmp',
  'encryption',
  'backups',
  's3-credentials',
  's3-ca',
  'bootstrap',
  'bootstrap-s3-credentials',
  'bootstrap-s3-ca',
  'api-token',
] as const

const quoted = (names: readonly string[]): string => `[${names.map(name => `'${name}'`).join(', ')}]`

const labelName = (description: string) =>
  text({
    description,
    minLength: 1,
    maxLength: 63,
    pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$',
    form: 'at most 63 lower-case letters, digits and -',
  })

/** An object of the pod's own schema of which we read the name alone. */
function named(description: string, nameDescription: string) {
  return Type.Unsafe<Readonly<{ name: string }> & Readonly<Record<string, unknown>>>({
    type: 'object',
    description,
    properties: { name: labelName(nameDescription) },
    required: ['name'],
    'x-kubernetes-preserve-unknown-fields': true,
  })
}

const metadataMap = (description: string, maxLength: number) =>
  map(text({ description: 'Value.', maxLength }), { description, maxProperties: 64 })

export const podTemplate = defaultBlock(
  {
    description:
      'What is added to the pods of this database. A change restarts the pod, except of labels and annotations.',
  },
  {
    metadata: optional(
      block(
        {
          description: 'Labels and annotations of the pods.',
          rules: [
            {
              rule: "!has(self.labels) || self.labels.all(key, !key.startsWith('kvidx.io/') && !key.startsWith('app.kubernetes.io/'))",
              message: 'labels that begin with kvidx.io/ or app.kubernetes.io/ are the operator’s',
              fieldPath: '.labels',
            },
            {
              rule: "!has(self.annotations) || self.annotations.all(key, !key.startsWith('kvidx.io/'))",
              message: 'annotations that begin with kvidx.io/ are the operator’s',
              fieldPath: '.annotations',
            },
          ],
        },
        {
          labels: optional(metadataMap('Labels.', 63)),
          annotations: optional(metadataMap('Annotations.', 65_536)),
        },
      ),
    ),
    spec: optional(
      block(
        {
          description: 'Parts of a pod.',
          rules: [
            {
              rule: `!has(self.containers) || self.containers.all(c, !(c.name in ${quoted(RESERVED_CONTAINERS)}))`,
              message: `container names ${RESERVED_CONTAINERS.join(', ')} are the operator’s; its resources are in spec.resources`,
              fieldPath: '.containers',
            },
            {
              rule: `!has(self.initContainers) || self.initContainers.all(c, !(c.name in ${quoted(RESERVED_CONTAINERS)}))`,
              message: `container names ${RESERVED_CONTAINERS.join(', ')} are the operator’s`,
              fieldPath: '.initContainers',
            },
            {
              rule: `!has(self.volumes) || self.volumes.all(v, !(v.name in ${quoted(RESERVED_VOLUMES)}))`,
              message: `volume names ${RESERVED_VOLUMES.join(', ')} are the operator’s`,
              fieldPath: '.volumes',
            },
          ],
        },
        {
          containers: optional(
            list(named('A container as in a pod.', 'Name of the container.'), {
              description: 'Containers of the application. Each gets the directory /run/kvidx with the Unix socket.',
              maxItems: 16,
              keys: ['name'],
            }),
          ),
          initContainers: optional(
            list(named('An init container as in a pod.', 'Name of the container.'), {
              description: 'Init containers of the application.',
              maxItems: 16,
              keys: ['name'],
            }),
          ),
          volumes: optional(
            list(named('A volume as in a pod.', 'Name of the volume.'), {
              description: 'Volumes of the application.',
              maxItems: 32,
              keys: ['name'],
            }),
          ),
          nodeSelector: optional(metadataMap('Labels that a node must have.', 63)),
          affinity: optional(passThrough('Affinity as in a pod.')),
          tolerations: optional(
            list(passThrough('A toleration as in a pod.'), { description: 'Tolerations.', maxItems: 32 }),
          ),
          topologySpreadConstraints: optional(
            list(passThrough('A constraint as in a pod.'), { description: 'How replicas are spread.', maxItems: 16 }),
          ),
          priorityClassName: optional(objectName('PriorityClass of the pods.')),
          runtimeClassName: optional(objectName('RuntimeClass of the pods.')),
          schedulerName: optional(objectName('Scheduler of the pods.')),
          imagePullSecrets: optional(
            list(secretRef('A Secret of type kubernetes.io/dockerconfigjson.'), {
              description: 'Secrets for pulling images.',
              maxItems: 16,
              keys: ['name'],
            }),
          ),
          terminationGracePeriodSeconds: optional(
            integer({
              description: 'Seconds for a clean shutdown, 30 to 3600. Default 120.',
              minimum: 30,
              maximum: 3600,
            }),
          ),
          hostAliases: optional(
            list(passThrough('An entry as in a pod.'), { description: 'Entries of /etc/hosts.', maxItems: 32 }),
          ),
          dnsConfig: optional(passThrough('DNS settings as in a pod.')),
        },
      ),
    ),
  },
)

import type { ResolvedDatabaseSpec } from '../../../api/v1alpha1/database-spec.ts'
import { DATA_PORT, OPERATIONS_PORT } from '../names.ts'

/** Volumes of the pod that only the database may mount: its files, its tokens and keys, what it is configured by. */
const PRIVATE_VOLUMES = [
  'data',
  'config',
  'auth',
  'tls',
  'encryption',
  'backups',
  's3-credentials',
  's3-ca',
  'bootstrap',
  'bootstrap-s3-credentials',
  'bootstrap-s3-ca',
  'api-token',
]
const RESERVED_PORTS: readonly number[] = [DATA_PORT, OPERATIONS_PORT]

interface Container {
  readonly name: string
  readonly ports?: unknown
  readonly volumeMounts?: unknown
  readonly volumeDevices?: unknown
}

/**
 * Why `spec.podTemplate` would break the database, or undefined. What the schema refuses already (names of containers and volumes) is not
 * looked at again. Pure.
 */
export function podTemplateProblem(spec: ResolvedDatabaseSpec): string | undefined {
  const pod = spec.podTemplate.spec
  if (!pod) return undefined
  const names = new Set<string>()
  for (const list of ['initContainers', 'containers'] as const) {
    for (const container of (pod[list] ?? []) as readonly Container[]) {
      const field = `podTemplate.spec.${list}[${container.name}]`
      if (names.has(container.name)) return `${field}: the name is there twice`
      names.add(container.name)
      const problem = containerProblem(container)
      if (problem !== undefined) return `${field}.${problem}`
    }
  }
  const volumes = new Set<string>()
  for (const { name } of pod.volumes ?? []) {
    if (volumes.has(name)) return `podTemplate.spec.volumes[${name}]: the name is there twice`
    volumes.add(name)
  }
  return undefined
}

function containerProblem(container: Container): string | undefined {
  for (const mount of listOf(container.volumeMounts)) {
    const { name } = mount
    if (typeof name === 'string' && PRIVATE_VOLUMES.includes(name))
      return `volumeMounts: volume '${name}' is the database's alone; the application talks to the socket in /run/kvidx`
  }
  for (const port of listOf(container.ports)) {
    // one network for all containers of a pod: the second one that listens on a port fails
    const number = port.containerPort
    if (typeof number === 'number' && RESERVED_PORTS.includes(number))
      return `ports: port ${number} is the database's (${RESERVED_PORTS.join(' and ')} are taken)`
    if (port.name === 'data' || port.name === 'operations')
      return `ports: the name '${port.name}' is the database's, the Services lead to it`
  }
  return undefined
}

function listOf(value: unknown): readonly Readonly<Record<string, unknown>>[] {
  return Array.isArray(value) ? value.filter(item => typeof item === 'object' && item !== null) : []
}

import { parseAllDocuments } from 'yaml'
import { type CommandOptions, type CommandResult, command, succeed } from './command.ts'

/** A Kubernetes object as JSON; tests look into it freely. */
export interface Manifest {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: {
    readonly name: string
    readonly namespace?: string
    readonly uid?: string
    readonly resourceVersion?: string
    readonly generation?: number
    readonly labels?: Readonly<Record<string, string>>
    readonly annotations?: Readonly<Record<string, string>>
    readonly finalizers?: readonly string[]
    readonly deletionTimestamp?: string
    readonly ownerReferences?: readonly { readonly kind: string; readonly name: string; readonly uid: string }[]
  }
  // biome-ignore lint/suspicious/noExplicitAny: an object of any kind
  readonly spec?: any
  // biome-ignore lint/suspicious/noExplicitAny: an object of any kind
  readonly status?: any
  readonly [field: string]: unknown
}

export interface Condition {
  readonly type: string
  readonly status: 'True' | 'False' | 'Unknown'
  readonly reason?: string
  readonly message?: string
  readonly observedGeneration?: number
}

/** `kubectl ARGS`; rejects when it fails. Resolves with its output. */
export function kubectl(args: readonly string[], options?: CommandOptions): Promise<string> {
  return succeed('kubectl', args, options)
}

/** `kubectl ARGS`, whatever its exit code: for what must be refused. */
export function tryKubectl(args: readonly string[], options?: CommandOptions): Promise<CommandResult> {
  return command('kubectl', args, options)
}

/** `kubectl ARGS -o json`, parsed. */
export async function kubectlJson<T>(args: readonly string[]): Promise<T> {
  return JSON.parse(await kubectl([...args, '-o', 'json'])) as T
}

/** One object. Rejects when it is not there. */
export function get(namespace: string, kind: string, name: string): Promise<Manifest> {
  return kubectlJson<Manifest>(['-n', namespace, 'get', kind, name])
}

/** One object, or null when it is not there (for which `eventually` waits). */
export async function find(namespace: string, kind: string, name: string): Promise<Manifest | null> {
  const text = await kubectl(['-n', namespace, 'get', kind, name, '--ignore-not-found', '-o', 'json'])
  return text === '' ? null : (JSON.parse(text) as Manifest)
}

/** All objects of a kind in a namespace. */
export async function list(namespace: string, kind: string, selector?: string): Promise<readonly Manifest[]> {
  const only = selector === undefined ? [] : ['-l', selector]
  return (await kubectlJson<{ items: Manifest[] }>(['-n', namespace, 'get', kind, ...only])).items
}

export interface ApplyOptions {
  readonly namespace?: string
  /** The server checks everything and stores nothing. */
  readonly dryRun?: boolean
}

const applyArgs = ({ namespace, dryRun }: ApplyOptions): string[] => [
  'apply',
  ...(namespace === undefined ? [] : ['-n', namespace]),
  ...(dryRun ? ['--dry-run=server'] : []),
  '-f',
  '-',
]

/** Applies manifests, given as YAML text or as objects; rejects when one is refused. */
export function apply(manifests: string | readonly object[], options: ApplyOptions = {}): Promise<string> {
  return kubectl(applyArgs(options), { input: toYaml(manifests) })
}

/** The same, whatever comes of it. */
export function tryApply(manifests: string | readonly object[], options: ApplyOptions = {}): Promise<CommandResult> {
  return tryKubectl(applyArgs(options), { input: toYaml(manifests) })
}

/** A merge patch, of the spec or of whatever `body` names. */
export function patch(namespace: string, kind: string, name: string, body: object): Promise<string> {
  return kubectl(['-n', namespace, 'patch', kind, name, '--type=merge', '-p', JSON.stringify(body)])
}

/** A condition of an object's status, or undefined. */
export function condition(object: Manifest | null | undefined, type: string): Condition | undefined {
  return (object?.status?.conditions as readonly Condition[] | undefined)?.find(candidate => candidate.type === type)
}

/** The objects of a YAML file, read as kubectl reads it (YAML 1.1); throws on what is not YAML. */
export function parseManifests(text: string): readonly Manifest[] {
  return parseAllDocuments(text, { version: '1.1' }).flatMap(document => {
    if (document.errors[0]) throw document.errors[0]
    const value = document.toJS() as Manifest | null
    return value === null ? [] : [value]
  })
}

function toYaml(manifests: string | readonly object[]): string {
  return typeof manifests === 'string'
    ? manifests
    : manifests.map(object => `${JSON.stringify(object)}\n`).join('---\n')
}

import { Command, Option } from 'commander'
import type { KvidxDatabase } from '../api/v1alpha1/kvidx-database.ts'
import { KvidxError } from '../common/errors.ts'
import type { ObjectChange, Preview } from '../controllers/database/preview.ts'
import { type Io, write } from './io.ts'

interface PlanFlags {
  readonly file: string[]
  readonly from?: string[]
  readonly serverSide?: true
  readonly namespace?: string
  readonly kubeconfig?: string
  readonly detailedExitcode?: true
  readonly output: 'text' | 'json'
}

const CHANGES = 10
const RESTARTS = 11

/** `kvidx plan`: what an edit will do, before it is applied. Nothing is changed. */
export function planCommand(io: Io): Command {
  return new Command('plan')
    .description('print what a changed manifest will do: objects, restart, unavailability, growth; changes nothing')
    .requiredOption('-f, --file <file...>', 'manifest (YAML) as it is to be applied')
    .option('--from <file...>', 'manifest as it is now, to compare without a cluster; without it all is new')
    .option('--server-side', 'compare with the cluster, which also checks the edit (kubectl apply --dry-run=server)')
    .option(
      '-n, --namespace <name>',
      'namespace of objects that name none; default: with --server-side that of the kubeconfig, else "default"',
    )
    .option('--kubeconfig <file>', 'how to reach the cluster; default $KUBECONFIG')
    .option(
      '--detailed-exitcode',
      `exit code 0: nothing changes, ${CHANGES}: changes without a restart, ${RESTARTS}: pods restart or stop (without this option all are 0)`,
    )
    .addOption(new Option('-o, --output <form>', 'form of the output').choices(['text', 'json']).default('text'))
    .action(async (flags: PlanFlags) => {
      if (flags.from && flags.serverSide)
        throw new KvidxError('invalid_parameter', '--from and --server-side exclude each other', { field: 'from' })
      const previews = flags.serverSide ? await withCluster(flags) : await withoutCluster(flags)
      await write(
        io.output,
        flags.output === 'json' ? `${JSON.stringify(previews, undefined, 2)}\n` : previews.map(inWords).join('\n'),
      )
      if (flags.detailedExitcode) process.exitCode = Math.max(0, ...previews.map(codeOf))
    })
}

async function databasesOf(files: readonly string[], namespace: string): Promise<readonly KvidxDatabase[]> {
  const { readManifests } = await import('../api/manifest.ts')
  const { objects } = await readManifests(files)
  const databases = objects.map(entry => entry.object).filter(object => object.kind === 'KvidxDatabase')
  if (databases.length === 0)
    throw new KvidxError('invalid_manifest', `${files.join(', ')}: no KvidxDatabase in it`, { field: 'kind' })
  return databases.map(database => ({ ...database, metadata: { namespace, ...database.metadata } }))
}

async function withoutCluster(flags: PlanFlags): Promise<readonly Preview[]> {
  const { preview } = await import('../controllers/database/preview.ts')
  const { nothingThere } = await import('../controllers/database/look.ts')
  const { settled } = await import('../controllers/database/settled.ts')
  const { validate } = await import('../api/validate.ts')
  const { kvidxDatabaseSchema } = await import('../api/v1alpha1/kvidx-database.ts')
  const before = flags.from ? await databasesOf(flags.from, flags.namespace ?? 'default') : []
  return (await databasesOf(flags.file, flags.namespace ?? 'default')).map(changed => {
    const current = before.find(
      ({ metadata }) => metadata.name === changed.metadata.name && metadata.namespace === changed.metadata.namespace,
    )
    if (!current) return preview(changed, undefined, nothingThere(changed))
    const bare = (database: KvidxDatabase) => ({
      apiVersion: database.apiVersion,
      kind: database.kind,
      metadata: { name: database.metadata.name },
      spec: database.spec,
    })
    const problem = validate(kvidxDatabaseSchema, bare(changed), bare(current))[0]
    if (problem)
      throw new KvidxError('invalid_manifest', `${changed.metadata.name}: ${problem.field}: ${problem.message}`, {
        field: problem.field,
      })
    return preview(changed, current, settled(current))
  })
}

async function withCluster(flags: PlanFlags): Promise<readonly Preview[]> {
  const { KubeClient } = await import('../kube/client.ts')
  const { Connection } = await import('../kube/connection.ts')
  const { undefinedIfMissing } = await import('../kube/api-error.ts')
  const { DATABASES } = await import('../controllers/database/resource.ts')
  const { look, nothingThere } = await import('../controllers/database/look.ts')
  const { preview } = await import('../controllers/database/preview.ts')
  const connection = await Connection.load(flags.kubeconfig === undefined ? {} : { kubeconfig: flags.kubeconfig })
  const api = new KubeClient({ connection })
  try {
    const previews: Preview[] = []
    for (const wanted of await databasesOf(flags.file, flags.namespace ?? connection.namespace)) {
      const { name, namespace } = wanted.metadata
      const current = await undefinedIfMissing(api.get<KvidxDatabase & KubeLike>(DATABASES, { name, namespace }))
      // the server fills in defaults, merges what others own and judges every rule
      const changed = await api.apply<KvidxDatabase & KubeLike>(DATABASES, wanted as KvidxDatabase & KubeLike, {
        dryRun: true,
        fieldManager: 'kubectl-kvidx',
        fieldValidation: 'Strict',
      })
      previews.push(preview(changed, current, current ? await look(api, current) : nothingThere(changed)))
    }
    return previews
  } finally {
    await api.close()
  }
}

type KubeLike = import('../kube/object.ts').KubeObject

function codeOf({ objects, pods }: Preview): number {
  if (pods === 'Restart' || pods === 'Stop') return RESTARTS
  return objects.length > 0 ? CHANGES : 0
}

const SIGNS: Readonly<Record<ObjectChange['change'], string>> = { create: '+', change: '~', delete: '-', recreate: '±' }

function inWords(preview: Preview): string {
  const lines = [`KvidxDatabase ${preview.namespace}/${preview.name}`]
  for (const { change, kind, name, fields } of preview.objects) {
    lines.push(`  ${SIGNS[change]} ${change} ${kind} ${name}`)
    for (const field of fields) lines.push(`      ${field}`)
  }
  if (preview.objects.length === 0) lines.push('  nothing changes')
  for (const { claim, from, to } of preview.volumes) lines.push(`  volume ${claim}: grows from ${from} to ${to}`)
  for (const { reason, values } of preview.findings)
    lines.push(`  refused: ${reason}: ${Object.values(values ?? {}).join(', ')}`)
  if (preview.suspended) lines.push('  suspended: nothing of this is done before spec.suspend is false')
  lines.push(`  pods: ${preview.pods === 'None' ? 'no restart' : preview.pods.toLowerCase()}`)
  lines.push(`  unavailability: ${preview.unavailability}`)
  return `${lines.join('\n')}\n`
}

import { readFile } from 'node:fs/promises'
import { Command } from 'commander'
import { parseSidecarConfig } from '../api/v1alpha1/sidecar-config.ts'
import { systemClock } from '../common/clock.ts'
import { milliseconds } from '../common/duration.ts'
import { environment } from '../common/environment.ts'
import { KvidxError } from '../common/errors.ts'
import { createLog } from '../common/log.ts'
import { waitForSignal } from './signals.ts'

interface PodJobFlags {
  readonly dryRun?: true
  readonly all?: true
  readonly newest?: true
  readonly schedule?: string
  readonly name?: string
  readonly database: string
  readonly config: string
  readonly server: string
  readonly tokenFile: string
  readonly patience: string
}

const TASKS = ['backup', 'prune', 'delete', 'drill', 'restore', 'catalog', 'verify', 'check'] as const
const NAMELESS: readonly string[] = ['prune', 'drill', 'catalog']
type Task = (typeof TASKS)[number]

/** `kvidx pod-job`: what the pods of CronJobs and Jobs run: `kvidx job`, and around it the KvidxBackup that tells of it. */
export function podJobCommand(): Command {
  const command = new Command('pod-job').description('the work of a backup pod on Kubernetes')
  for (const task of TASKS) {
    const child = command.command(task).description(DESCRIPTIONS[task])
    if (task === 'backup') child.option('--schedule <name>', 'the schedule that this is a run of')
    if (!NAMELESS.includes(task)) child.option('--name <name>', 'the KvidxBackup or KvidxRestore that this is for')
    if (task === 'prune') child.option('--dry-run', 'only say what would go')
    if (task === 'check') child.option('--all', 'every backup').option('--newest', 'the newest backup')
    child
      .requiredOption('--database <name>', 'the KvidxDatabase')
      .requiredOption('--config <file>', 'configuration document of the database')
      .requiredOption('--server <address>', 'its data API')
      .requiredOption('--token-file <file>', 'the admin token')
      .option('--patience <duration>', 'how long the database may not answer, at most', '10m')
      .action(async (flags: PodJobFlags) => {
        process.exitCode = await run(task, flags)
      })
  }
  return command
}

const DESCRIPTIONS: Readonly<Record<Task, string>> = {
  backup: 'make a backup and keep its KvidxBackup',
  prune: 'remove what retention lets go',
  delete: 'remove the files of one backup',
  drill: 'restore a random moment for trial',
  restore: 'restore the database in place and keep its KvidxRestore',
  verify: 'open the copy of a VolumeSnapshot and compare it',
  catalog: 'make a KvidxBackup of each backup in the store',
  check: 'restore backups for trial and compare them, and keep their KvidxBackups',
}

async function run(task: Task, flags: PodJobFlags): Promise<number> {
  if (task === 'backup' && (flags.schedule === undefined) === (flags.name === undefined))
    throw new KvidxError('invalid_parameter', 'exactly one of --schedule and --name is allowed', { field: 'schedule' })
  const [{ KubeClient }, { Connection }, { childRunner }, { awaitDatabase }, servers] = await Promise.all([
    import('../kube/client.ts'),
    import('../kube/connection.ts'),
    import('../pod-job/child.ts'),
    import('../pod-job/await-database.ts'),
    import('../pod-job/server.ts'),
  ])
  const { askServer, freezableServer, restoreServer } = servers
  const config = parseSidecarConfig(await readFile(flags.config, 'utf8'), flags.config)
  const { logger: log } = createLog({ name: 'job', level: environment.read('KVIDX_LOG_LEVEL') ?? 'Info' })
  const connection = await Connection.load()
  const api = new KubeClient({ connection })
  const abort = new AbortController()
  void waitForSignal().then(signal => abort.abort(new Error(`the pod was stopped by ${signal}`)))
  const program = process.argv[1]
  if (program === undefined) throw new KvidxError('internal', 'the path of this program is not known')
  const access = { server: flags.server, tokenFile: flags.tokenFile }
  const patience = milliseconds(flags.patience, '--patience')
  const context = {
    api,
    namespace: config.static.namespace,
    database: flags.database,
    job: environment.read('KVIDX_JOB') ?? '',
    pod: environment.read('KVIDX_POD') ?? '',
    clock: systemClock,
    log,
    signal: abort.signal,
    databaseAnswers: () =>
      awaitDatabase({ clock: systemClock, log, signal: abort.signal }, () => askServer(access), patience),
    runJob: childRunner({ program }),
  }
  const common = ['--config', flags.config, '--server', flags.server, '--token-file', flags.tokenFile]
  /** What needs no record of it. */
  const alone = async (what: readonly string[]) =>
    (await context.runJob([...what, ...common], () => {}, abort.signal)).exitCode === 0 ? 0 : 1
  try {
    // a backup has its record first, and nobody is asked about a copy of a volume
    if (task !== 'backup' && task !== 'verify') await context.databaseAnswers()
    switch (task) {
      case 'backup': {
        const { runBackup } = await import('../pod-job/backup-run.ts')
        const { snapshotVolume } = await import('../pod-job/snapshot-run.ts')
        const server = freezableServer(access)
        return await runBackup(context, {
          ...(flags.schedule !== undefined && { schedule: flags.schedule }),
          ...(flags.name !== undefined && { name: flags.name }),
          config,
          flags: common,
          snapshotVolume: keeper => snapshotVolume(context, server, keeper),
        })
      }
      case 'prune': {
        if (flags.dryRun) return await alone(['prune', '--dry-run'])
        const { runPrune } = await import('../pod-job/prune-run.ts')
        return await runPrune(context, { config, flags: common })
      }
      case 'verify': {
        const { runVolumeVerification } = await import('../pod-job/volume-run.ts')
        const { COPY_DIRECTORY } = await import('../controllers/database/objects/job-pod.ts')
        return await runVolumeVerification(context, flags.name ?? '', COPY_DIRECTORY)
      }
      case 'catalog': {
        const { runCatalog } = await import('../pod-job/catalog-run.ts')
        return await runCatalog(context, common)
      }
      case 'check': {
        const { runVerify } = await import('../pod-job/verify-run.ts')
        const which = flags.name !== undefined ? ['--name', flags.name] : flags.all ? ['--all'] : []
        return await runVerify(context, [...which, ...(flags.newest ? ['--newest'] : []), ...common])
      }
      case 'delete':
        return await alone(['delete', '--name', flags.name ?? ''])
      case 'drill': {
        const { recordVerified } = await import('../pod-job/verify-run.ts')
        const end = await context.runJob(['drill', ...common], () => {}, abort.signal)
        await recordVerified(context, end.result)
        return end.exitCode === 0 ? 0 : 1
      }
      case 'restore': {
        const { runRestore } = await import('../pod-job/restore-run.ts')
        return await runRestore(context, restoreServer(access), flags.name ?? '')
      }
    }
  } finally {
    await api.close()
  }
}

import { writeFileSync } from 'node:fs'
import { Command, Option } from 'commander'
import { manualName, scheduledName } from '../../sidecar/job/names.ts'
import type { DynamicConfig, SidecarConfig } from '../api/v1alpha1/sidecar-config.ts'
import { systemClock } from '../common/clock.ts'
import { environment } from '../common/environment.ts'
import { KvidxError } from '../common/errors.ts'
import { stepBack } from '../common/priority.ts'
import { type ConnectionFlags, connected, withConnection } from './connection-options.ts'
import { interruptible } from './interrupt.ts'
import { type Io, write } from './io.ts'
import { resultError } from './result-error.ts'
import { withScratch } from './scratch.ts'
import { OURS_ALONE } from './umask.ts'

interface JobFlags extends ConnectionFlags {
  readonly config?: string
  readonly scratch?: string
  readonly resultFile?: string
}

type BackupConfig = NonNullable<DynamicConfig['backup']>

/** `kvidx job`: what CronJobs and `kvidx run` start. One line of JSON on standard output says how it ended; exit code 0 only when what was asked is true. */
export function jobCommand(io: Io): Command {
  return new Command('job')
    .description('work on the backups of a database, as a job: one line of JSON says how it ended')
    .hook('preAction', () => void process.umask(OURS_ALONE))
    .addCommand(backupJob(io))
    .addCommand(verifyJob(io))
    .addCommand(pruneJob(io))
    .addCommand(deleteJob(io))
    .addCommand(drillJob(io))
    .addCommand(restoreJob(io))
    .addCommand(catalogJob(io))
    .addCommand(volumeJob(io))
}

function withJob(command: Command): Command {
  return withConnection(command)
    .option('--config <file>', 'configuration document of the sidecar (JSON); default $KVIDX_CONFIG')
    .option('--scratch <dir>', 'directory for restores on trial; default: that for temporary files')
    .option('--result-file <file>', 'the result line goes there, too')
}

interface BackupJobFlags extends JobFlags {
  readonly schedule?: string
  readonly name?: string
  readonly slot?: string
  readonly type?: 'Full' | 'Incremental'
  readonly verify?: boolean
}

function backupJob(io: Io): Command {
  return withJob(new Command('backup'))
    .description('make a backup, read it back, with --verify restore and compare it')
    .option('--schedule <name>', 'the schedule that asks: its type and verification hold unless flags say otherwise')
    .option('--name <name>', 'name of the backup; default: <database>-<schedule>-<slot>')
    .option('--slot <time>', 'when the schedule was due (RFC 3339); a retry has the same')
    .addOption(new Option('--type <type>', 'kind of backup').choices(['Full', 'Incremental']))
    .option('--verify', 'restore it for trial and compare with what the database recorded')
    .action((flags: BackupJobFlags) => {
      const slot = flags.slot === undefined ? systemClock.now() : timeFlag(flags.slot, '--slot')
      const named = ({ static: { name } }: SidecarConfig) =>
        flags.name ??
        (flags.schedule === undefined ? manualName(name, slot) : scheduledName(name, flags.schedule, slot))
      const work = async ({ config, backup, context, client, signal, finish }: JobParts) => {
        const { runBackupJob } = await import('../../sidecar/job/backup-job.ts')
        const schedule = backup.schedules.find(candidate => candidate.name === flags.schedule)
        if (flags.schedule !== undefined && !schedule && flags.type === undefined)
          throw new KvidxError('invalid_parameter', `--schedule: there is no schedule '${flags.schedule}'`, {
            field: '--schedule',
          })
        const type = flags.type ?? schedule?.type ?? 'Full'
        if (type === 'VolumeSnapshot')
          throw new KvidxError('invalid_parameter', 'a VolumeSnapshot is made by Kubernetes, not by this job', {
            field: '--type',
          })
        const name = named(config)
        let told = false
        const result = await withScratch(flags.scratch, scratch =>
          runBackupJob(
            context,
            client,
            {
              name,
              retry: flags.name !== undefined || flags.schedule !== undefined,
              ...(flags.schedule !== undefined && { schedule: flags.schedule }),
              type,
              verify: flags.verify ?? (flags.type === undefined && schedule?.verify === true),
              incrementalSchedules: backup.schedules.filter(s => s.type === 'Incremental').map(s => s.name),
              scratch,
            },
            stage => {
              if (told || !stage.startsWith('verifying')) return
              told = true
              void io.output.write(`${JSON.stringify({ name, phase: 'Verifying' })}\n`)
            },
          ),
        )
        await finish(result)
        if (result.phase !== 'Completed' || signal.aborted) throw resultError(result)
      }
      const { schedule } = flags
      return run(flags, io, work, config => ({ kind: 'backup', name: named(config), ...(schedule && { schedule }) }))
    })
}

function verifyJob(io: Io): Command {
  return withJob(new Command('verify'))
    .description('restore backups for trial and compare them')
    .option('--name <name>', 'this backup; default: every one that is not verified')
    .option('--all', 'every backup')
    .option('--newest', 'the newest backup')
    .action((flags: JobFlags & { readonly name?: string; readonly all?: true; readonly newest?: true }) =>
      run(flags, io, async ({ context, client, home, finish }) => {
        const { readLineage } = await import('../../sidecar/backup/catalog.ts')
        const { runVerifyJob } = await import('../../sidecar/job/verify-job.ts')
        const { pickBackup } = await import('./backup-list.ts')
        const catalog = await readLineage(context.store, home, context.signal)
        const chosen =
          flags.name !== undefined
            ? [pickBackup(catalog, flags.name)]
            : flags.newest
              ? catalog.backups.slice(-1)
              : catalog.backups.filter(backup => flags.all || !backup.verified)
        const failed: string[] = []
        const results: object[] = []
        await withScratch(flags.scratch, async scratch => {
          for await (const result of runVerifyJob(context, client, home, chosen, { scratch })) {
            results.push(result)
            if (result.result !== 'Verified' && result.result !== 'Consistent') failed.push(result.name)
          }
        })
        await finish({ phase: failed.length === 0 ? 'Completed' : 'Failed', results })
        if (failed.length > 0) throw new KvidxError('backup_corrupt', `not sound: ${failed.join(', ')}`)
      }),
    )
}

function pruneJob(io: Io): Command {
  return withJob(new Command('prune'))
    .description('remove what retention does not keep')
    .option('--dry-run', 'only say what would go')
    .action((flags: JobFlags & { readonly dryRun?: true }) =>
      run(flags, io, async ({ backup, context, home, finish }) => {
        const { readLineage } = await import('../../sidecar/backup/catalog.ts')
        const { planPrune, prune } = await import('../../sidecar/backup/prune.ts')
        const { pruneResult } = await import('../../sidecar/job/prune-result.ts')
        const { retention, timeZone } = backup
        const { window: windowMs, managedBy, ...counts } = retention
        const plan = planPrune(
          await readLineage(context.store, home, context.signal),
          { ...counts, windowMs, timeZone },
          systemClock.now(),
        )
        const dryRun = flags.dryRun === true
        const byStore = managedBy === 'Store'
        const result = dryRun || byStore ? undefined : await prune(context.store, plan, context.signal)
        await finish({ ...pruneResult(plan, context.store.location, { byStore, dryRun, result }) })
      }),
    )
}

function deleteJob(io: Io): Command {
  return withJob(new Command('delete'))
    .description('remove one backup; refused while an increment continues it')
    .requiredOption('--name <name>', 'this backup')
    .action((flags: JobFlags & { readonly name: string }) =>
      run(flags, io, async ({ context, home, finish }) => {
        const { readLineage } = await import('../../sidecar/backup/catalog.ts')
        const { removeBackup } = await import('../../sidecar/backup/prune.ts')
        const catalog = await readLineage(context.store, home, context.signal)
        const backup = catalog.backups.find(candidate => candidate.name === flags.name)
        // gone already is what was asked for: a retry must not fail
        const bytes = backup ? await removeBackup(context.store, catalog, backup, context.signal) : 0
        await finish({ phase: 'Completed', name: flags.name, found: backup !== undefined, bytes })
      }),
    )
}

function drillJob(io: Io): Command {
  return withJob(new Command('drill'))
    .description('restore a random moment of the recovery window for trial')
    .action((flags: JobFlags) => {
      const startedAt = new Date(systemClock.now()).toISOString()
      const work = async ({ settings, context, home, client, signal, config, finish }: JobParts) => {
        const { runDrill } = await import('../../sidecar/job/drill-job.ts')
        const { verifyNewIncrements } = await import('../../sidecar/job/increments.ts')
        const { engine } = config.static
        const [result, increments] = await withScratch(flags.scratch, async scratch => [
          await runDrill(settings, home, { clock: systemClock, scratch, engine, signal, client }),
          await verifyNewIncrements(context, client, home, { scratch, engine }),
        ])
        await client.report(result).catch(() => undefined)
        await finish({ ...result, ...(increments.length > 0 && { increments }) })
        if (result.phase !== 'Completed') throw resultError(result)
      }
      const ended = () => ({ startedAt, completedAt: new Date(systemClock.now()).toISOString() })
      return run(flags, io, work, () => ({ kind: 'drill', ...ended() }))
    })
}

function restoreJob(io: Io): Command {
  return withJob(new Command('restore'))
    .description('restore the database in place; it serves until the swap')
    .requiredOption('--at <target>', 'latest, a time (RFC 3339), a position (EPOCH.SEQ) or the name of a backup')
    .option('--at-epoch <n>', 'only if the database is in this epoch')
    .option('--dry-run', 'only count what would change')
    .action((flags: JobFlags & { readonly at: string; readonly atEpoch?: string; readonly dryRun?: true }) =>
      connected(flags, async caller => {
        const { parseTarget, targetQuery } = await import('./restore-target.ts')
        const query = {
          ...targetQuery(parseTarget(flags.at)),
          ...(flags.atEpoch !== undefined && { atEpoch: flags.atEpoch }),
          ...(flags.dryRun && { dryRun: true }),
        }
        const answer = await caller.call('POST', '/v1/admin/restore', { query, long: true })
        await finish(io, flags, await answer.json())
      }),
    )
}

function catalogJob(io: Io): Command {
  return withJob(new Command('catalog'))
    .description('print a line for each backup in the store, of all lineages of the database')
    .action((flags: JobFlags) =>
      run(flags, io, async ({ context, home, finish }) => {
        const { readCatalog } = await import('../../sidecar/backup/catalog.ts')
        const { catalogEntries } = await import('../../sidecar/job/catalog-job.ts')
        const catalogs = await readCatalog(context.store, home, context.signal)
        const entries = catalogEntries(catalogs, context.store.location)
        for (const entry of entries) await write(io.output, `${JSON.stringify(entry)}\n`)
        const damaged = catalogs.flatMap(({ damaged }) => damaged.map(({ key, error }) => ({ key, code: error.code })))
        await finish({ phase: 'Completed', backups: entries.length, damaged })
      }),
    )
}

function volumeJob(io: Io): Command {
  return new Command('volume')
    .description('open a copy of a data volume, which is written to, and read it from end to end')
    .requiredOption('--data-dir <dir>', 'the copy')
    .option('--result-file <file>', 'the result line goes there, too')
    .action(async (flags: { readonly dataDir: string; readonly resultFile?: string }) => {
      const { runVolumeJob } = await import('../../sidecar/job/volume-job.ts')
      const { createLog } = await import('../common/log.ts')
      const interrupt = interruptible()
      try {
        const { logger } = createLog({ name: 'job', level: 'Warn' })
        const result = await runVolumeJob(flags.dataDir, systemClock, logger, interrupt.signal)
        await finish(io, flags, result)
        if (result.phase !== 'Completed') throw resultError(result)
      } finally {
        interrupt.end()
      }
    })
}

interface JobParts {
  readonly config: SidecarConfig
  readonly backup: BackupConfig
  readonly settings: import('../../sidecar/backup/store/settings.ts').StoreSettings
  readonly context: import('../../sidecar/backup/backup.ts').BackupContext
  readonly client: import('../../sidecar/job/database-client.ts').DatabaseClient
  readonly home: import('../../sidecar/backup/layout.ts').Home
  readonly signal: AbortSignal
  /** Says how it ended. */
  readonly finish: (result: object) => Promise<void>
}

/**
 * As `begin`; what fails before the work could tell of itself gets a result line, too, and with `what` the database hears of it.
 * @param what members of the report
 */
async function run(
  flags: JobFlags,
  io: Io,
  work: (parts: JobParts) => Promise<void>,
  what?: (config: SidecarConfig) => object,
): Promise<void> {
  let told = false
  const tell = async (result: object) => {
    told = true
    await finish(io, flags, result)
  }
  const failed = async (thrown: unknown, report?: (failure: object) => Promise<void>) => {
    if (told) return
    const { failureOf } = await import('../../sidecar/job/job-report.ts')
    const { code, message } = failureOf(thrown)
    const failure = { phase: 'Failed', error: message, code }
    await report?.(failure).catch(() => undefined)
    await tell(failure)
  }
  stepBack()
  try {
    await begin(flags, tell, work, (thrown, client, config) =>
      failed(thrown, what && (failure => client.report({ ...what(config), ...failure }))),
    )
  } catch (thrown) {
    await failed(thrown)
    throw thrown
  }
}

/** Store and database of the configuration, opened and closed. `failed` hears of what went wrong once the database could be asked. */
async function begin(
  flags: JobFlags,
  finish: JobParts['finish'],
  work: (parts: JobParts) => Promise<void>,
  failed: (thrown: unknown, client: JobParts['client'], config: SidecarConfig) => Promise<void>,
): Promise<void> {
  const { readConfigFile } = await import('../../sidecar/settings.ts')
  const { configuredStore, openStore } = await import('../../sidecar/backup/store/settings.ts')
  const { DatabaseClient } = await import('../../sidecar/job/database-client.ts')
  const { SOFTWARE } = await import('../common/software.ts')
  const file = flags.config ?? environment.read('KVIDX_CONFIG')
  if (file === undefined)
    throw new KvidxError('invalid_parameter', 'a job needs --config FILE or $KVIDX_CONFIG', { field: '--config' })
  const config = readConfigFile(file)
  const { backup } = config.dynamic
  if (!backup)
    throw new KvidxError('invalid_parameter', `${file}: the database has no backup block`, { field: 'backup' })
  const settings = configuredStore(backup)
  const interrupt = interruptible()
  const { signal } = interrupt
  const inStore = async (client: JobParts['client']) => {
    const opened = await openStore(settings, systemClock)
    try {
      const { lineage } = await client.source()
      const { namespace, name } = config.static
      const context = { ...opened, clock: systemClock, software: SOFTWARE, signal }
      const home = { namespace, database: name, lineage }
      await work({ config, backup, settings, context, client, home, signal, finish })
    } finally {
      await opened.store.close()
    }
  }
  try {
    await connected(flags, async caller => {
      const client = new DatabaseClient(caller as ConstructorParameters<typeof DatabaseClient>[0])
      await inStore(client).catch(async (thrown: unknown) => {
        await failed(thrown, client, config)
        throw thrown
      })
    })
  } finally {
    interrupt.end()
  }
}

async function finish(io: Io, flags: JobFlags, result: object): Promise<void> {
  const line = `${JSON.stringify(result)}\n`
  if (flags.resultFile !== undefined) writeFileSync(flags.resultFile, line, { mode: 0o600 })
  await write(io.output, line)
}

function timeFlag(text: string, field: string): number {
  const ms = Date.parse(text)
  if (Number.isNaN(ms))
    throw new KvidxError('invalid_parameter', `${field}: '${text}' is no time (allowed: RFC 3339)`, { field })
  return ms
}

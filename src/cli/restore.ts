import { Command } from 'commander'
import { KvidxError } from '../common/errors.ts'
import { problemOf, type ServerClient } from './client.ts'
import { type ClusterFlags, inCluster, withCluster } from './cluster.ts'
import { type ConnectionFlags, connected, withConnection } from './connection-options.ts'
import { Unreachable } from './exit-code.ts'
import { interruptible } from './interrupt.ts'
import { type Io, linesOf, write } from './io.ts'
import { stagedProgress } from './progress.ts'
import { parseTarget, targetQuery } from './restore-target.ts'
import { fields } from './table.ts'

interface RestoreFlags extends ConnectionFlags, ClusterFlags {
  readonly at?: string
  readonly latest?: true
  readonly undo?: true | string
  readonly dryRun?: true
  readonly atEpoch?: string
  readonly cancel?: true
}

/** `kvidx restore [NAME] [--at ...]`: in place, while the database serves; `--undo` goes back. */
export function restoreCommand(io: Io): Command {
  return withCluster(withConnection(new Command('restore')))
    .description(
      'restore a running database in place (admin token): staged and checked while it serves, then swapped; the data before it goes to quarantine',
    )
    .argument('[backup]', 'a backup by its name')
    .option('--at <target>', 'time (RFC 3339), position (EPOCH.SEQ) or name of a backup')
    .option('--latest', 'the newest change in the store')
    .option('--undo [quarantine]', 'back to the data before the last restore, or to a named entry of the quarantine')
    .option('--dry-run', 'change nothing: count the records that would be added, removed and changed')
    .option('--at-epoch <n>', 'do it only if the database is in this epoch; default: the one it is in now')
    .option('-n, --namespace <name>', 'with -k: namespace of the database; default: that of the kubeconfig')
    .option('--cancel', 'stop the restore that runs, before its swap')
    .action(async (backup: string | undefined, flags: RestoreFlags) => {
      if (flags.kubernetes !== undefined) {
        if (flags.cancel || flags.undo !== undefined)
          throw new KvidxError(
            'invalid_parameter',
            'with -k there is neither --undo nor --cancel: ask the database itself (kubectl port-forward pod/NAME-0 7400, then without -k)',
            { field: flags.cancel ? '--cancel' : '--undo' },
          )
        const query = what(backup, flags)
        const { restoreInCluster } = await import('./cluster-restore.ts')
        const options = { dryRun: flags.dryRun === true, atEpoch: flags.atEpoch }
        return inCluster(flags, async cluster => say(await restoreInCluster(cluster, query, options, io), flags, io))
      }
      return connected(flags, async client => {
        if (flags.cancel) {
          await (await client.call('DELETE', '/v1/admin/restore')).bytes()
          return write(io.output, flags.output === 'json' ? '{"cancelled":true}\n' : 'the restore is being cancelled\n')
        }
        const query = {
          ...what(backup, flags),
          atEpoch: flags.atEpoch ?? (await epochNow(client)),
          ...(flags.dryRun && { dryRun: true }),
        }
        return say(await follow(client, query, flags, io), flags, io)
      })
    })
}

async function say(status: Record<string, unknown>, flags: RestoreFlags, io: Io): Promise<void> {
  const { from, phase, target, records, digest, added, removed, changed, quarantine, position, complete, damaged } =
    status
  await write(
    io.output,
    flags.output === 'json'
      ? `${JSON.stringify(status)}\n`
      : fields({
          restored: from,
          phase: flags.dryRun ? 'dry run: nothing was changed' : phase,
          'source position': target,
          records,
          digest,
          'damaged, not needed': Array.isArray(damaged) ? damaged.join('; ') : undefined,
          'would add': added,
          'would remove': removed,
          'would change': changed,
          position,
          'data before it': quarantine && `quarantine ${String(quarantine)} (back: kvidx restore --undo)`,
          note: complete === false ? 'the store has no change behind this; later ones are not in it' : undefined,
        }),
  )
}

function what(backup: string | undefined, flags: RestoreFlags): Record<string, string> {
  const given = [backup, flags.at, flags.latest, flags.undo].filter(value => value !== undefined)
  if (given.length !== 1)
    throw new KvidxError(
      'invalid_parameter',
      `${given.length === 0 ? 'nothing says' : 'several say'} what to restore (allowed: one of NAME, --at, --latest, --undo)`,
      { field: '--at' },
    )
  if (flags.undo !== undefined) return { undo: flags.undo === true ? 'latest' : flags.undo }
  if (flags.latest) return { latest: 'Change' }
  return targetQuery(backup === undefined ? parseTarget(flags.at) : { kind: 'backup', name: backup })
}

async function epochNow(client: ServerClient): Promise<string> {
  const stats = await (await client.call('GET', '/v1/stats')).json()
  return String(stats.position).split('.')[0] as string
}

/** On the way out; what becomes of the restore is told by its own answer. */
async function cancel(flags: RestoreFlags, io: Io): Promise<void> {
  try {
    // the answer to the restore has the other connection
    await connected(flags, async client => (await client.call('DELETE', '/v1/admin/restore')).bytes())
    await write(io.notes, 'the restore is being cancelled; nothing is changed before its swap\n')
  } catch (error) {
    await write(
      io.notes,
      `the restore goes on: ${(error as Error).message} (back, once it has ended: kvidx restore --undo)\n`,
    )
  }
}

async function follow(
  client: ServerClient,
  query: Readonly<Record<string, string | boolean>>,
  flags: RestoreFlags,
  io: Io,
): Promise<Record<string, unknown>> {
  const headers = { accept: 'application/x-ndjson' }
  const interrupt = interruptible()
  let cancelled: Promise<void> | undefined
  // the database goes on without us: whoever presses Ctrl-C means the restore
  const abort = () => {
    cancelled = cancel(flags, io)
  }
  interrupt.signal.addEventListener('abort', abort, { once: true })
  const answer = await client.call('POST', '/v1/admin/restore', { query, headers, long: true })
  const bar = stagedProgress(io)
  try {
    for await (const line of linesOf(answer.body)) {
      const told = JSON.parse(line) as Record<string, unknown>
      if (told.problem) {
        const { status } = told.problem as { status?: number }
        throw problemOf(status ?? 500, Buffer.from(JSON.stringify(told.problem)))
      }
      if (told.end) {
        const { end: _, ...status } = told
        return status
      }
      bar.show(`${String(told.phase)} ${String(told.progress ?? '')}`.trim(), 0)
    }
  } finally {
    bar.end()
    // the restore may answer first, and what became of the wish to cancel it is said all the same
    await cancelled
    interrupt.end()
  }
  throw new Unreachable('the answer was cut; whether the restore has ended is not known: ask GET /v1/admin/restore')
}

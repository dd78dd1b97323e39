import { Command } from 'commander'
import type { KvidxError } from '../common/errors.ts'
import { formatBytes } from '../common/quantity.ts'
import { problemOf } from './client.ts'
import { type ConnectionFlags, connected, withConnection } from './connection-options.ts'
import { Unreachable } from './exit-code.ts'
import { type Io, linesOf, write } from './io.ts'
import { progressBar } from './progress.ts'
import { fields } from './table.ts'

/** The long tasks of a database that people may start, with what their help says. */
export const TASKS = {
  checkpoint: 'move the write-ahead log into the database file',
  vacuum: 'give unused space back to the file system, in slices between writes',
  compact: 'rewrite the files of the engine without gaps; writes wait',
  expire: 'remove records whose expiry has passed, now',
  check: 'check the engine, and count and digest against a full scan',
} as const

export type TaskVerb = keyof typeof TASKS

/** `kvidx checkpoint`, `vacuum`, `compact`, `expire`, `check`: starts a task, or joins the one that runs, and waits for it. */
export function taskCommand(name: TaskVerb, io: Io): Command {
  const command = withConnection(new Command(name))
    .description(`${TASKS[name]} (admin token)`)
    .option('--cancel', 'stop the one that runs instead')
  if (name === 'check')
    command.option('--accept', 'where count and digest differ the content is right: count it anew, in a new epoch')
  return command.action((flags: ConnectionFlags & { readonly cancel?: true; readonly accept?: true }) =>
    connected(flags, async client => {
      const path = `/v1/admin/${name}`
      if (flags.cancel) {
        await (await client.call('DELETE', path)).bytes()
        return write(io.output, flags.output === 'json' ? '{"cancelled":true}\n' : `${name} is being cancelled\n`)
      }
      const query = flags.accept ? { accept: true } : {}
      const headers = { accept: 'application/x-ndjson' }
      const answer = await client.call('POST', path, { query, headers, long: true })
      const bar = progressBar(io, name, 'share')
      try {
        for await (const line of linesOf(answer.body)) {
          const told = JSON.parse(line) as Record<string, unknown>
          if (told.problem) throw problemFrom(told.problem)
          if (!told.end) {
            if (typeof told.progress === 'number') bar.show(told.progress, 1)
            continue
          }
          const { end: _, ...result } = told
          bar.end()
          return await write(
            io.output,
            flags.output === 'json' ? `${JSON.stringify(result)}\n` : fields(forPeople(result)),
          )
        }
      } finally {
        bar.end()
      }
      throw new Unreachable(`the answer was cut; whether ${name} has ended is not known`)
    }),
  )
}

/** `freedBytes: 4096` is `freed: 4.00 KiB` to people. */
function forPeople(result: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(result).map(([name, value]) => {
      if (typeof value !== 'number') return [name, value]
      if (name.endsWith('Bytes')) return [name.slice(0, -'Bytes'.length), formatBytes(value)]
      return name === 'fragmentation' ? [name, `${(value * 100).toFixed(1)} %`] : [name, value]
    }),
  )
}

function problemFrom(problem: unknown): KvidxError {
  const { status } = problem as { status?: number }
  return problemOf(status ?? 500, Buffer.from(JSON.stringify(problem)))
}

import { Command } from 'commander'
import { formatBytes } from '../common/quantity.ts'
import { type ConnectionFlags, connected, withConnection } from './connection-options.ts'
import { type Io, write } from './io.ts'
import { row } from './table.ts'

interface Entry {
  readonly name: string
  readonly reason: string
  readonly time: string
  readonly bytes: number
}

/** `kvidx quarantine list|remove`: databases that a restore, an import or an undo put out of the way. */
export function quarantineCommand(io: Io): Command {
  return new Command('quarantine')
    .description('what was put out of the way and is kept for a while (admin token)')
    .addCommand(
      withConnection(new Command('list'))
        .description('list it, newest first')
        .action((flags: ConnectionFlags) =>
          connected(flags, async client => {
            const { entries } = (await (await client.call('GET', '/v1/admin/quarantine')).json()) as {
              entries: Entry[]
            }
            if (flags.output === 'json') return write(io.output, `${JSON.stringify(entries)}\n`)
            const lines = entries.map(entry => [entry.name, entry.reason, formatBytes(entry.bytes), entry.time])
            const head = ['NAME', 'REASON', 'SIZE', 'SINCE']
            const widths = head.map((title, i) => Math.max(title.length, ...lines.map(line => line[i]?.length ?? 0)))
            return write(io.output, [head, ...lines].map(line => row(line, widths)).join(''))
          }),
        ),
    )
    .addCommand(
      withConnection(new Command('remove'))
        .description('remove an entry for good')
        .argument('<name>', 'its name')
        .action((name: string, flags: ConnectionFlags) =>
          connected(flags, async client => {
            await (await client.call('DELETE', '/v1/admin/quarantine', { query: { name } })).bytes()
            return write(io.output, flags.output === 'json' ? '{"removed":true}\n' : `${name} was removed\n`)
          }),
        ),
    )
}

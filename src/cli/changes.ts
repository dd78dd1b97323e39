import { Command } from 'commander'
import { type ConnectionFlags, connected, withConnection } from './connection-options.ts'
import { Unreachable } from './exit-code.ts'
import { type Io, linesOf, write } from './io.ts'
import { instant, preview, row } from './table.ts'

interface ChangesFlags extends ConnectionFlags {
  readonly since?: string
  readonly follow?: true
}

/** One line of the feed: a change, or the last line, whose `end` is true. */
type ChangeLine = Readonly<
  Partial<Record<'position' | 'time' | 'op' | 'key' | 'start' | 'removed' | 'data' | 'expiresAt', string>>
> & {
  readonly end?: string | true
}

const WIDTHS = [14, 24, 11, 20]

/** `kvidx changes`: the change feed. */
export function changesCommand(io: Io): Command {
  return withConnection(new Command('changes'))
    .description('print the changes of a database in their order')
    .option('--since <position>', 'behind this position (epoch.seq); default: all that the change log still has')
    .option('--follow', 'go on with changes as they are made; Ctrl-C ends')
    .action((flags: ChangesFlags) =>
      connected(flags, async client => {
        const answer = await client.call('GET', '/v1/changes', {
          query: { since: flags.since, follow: flags.follow },
          headers: { accept: 'application/x-ndjson' },
          long: true,
        })
        if (flags.output !== 'json') await write(io.output, row(['POSITION', 'TIME', 'OP', 'KEY', 'DATA'], WIDTHS))
        let ended = false
        for await (const line of linesOf(answer.body)) {
          const change = JSON.parse(line) as ChangeLine
          // a removed range has an `end` too, which is a key
          ended = change.end === true
          if (flags.output === 'json') await write(io.output, `${line}\n`)
          else if (!ended) await write(io.output, row(cells(change), WIDTHS))
        }
        if (!ended) throw new Unreachable('the feed was cut before its end')
      }),
    )
}

function cells(change: ChangeLine): string[] {
  const { position = '', time = '0', op = '', key, start, end, removed, data, expiresAt } = change
  const what =
    data !== undefined
      ? preview(Buffer.from(data, 'base64'))
      : op === 'deleteRange'
        ? `${removed} records`
        : op === 'expiry'
          ? expiresAt === undefined
            ? 'never'
            : instant(expiresAt)
          : ''
  return [position, instant(time), op, key ?? `${start}-${end}`, what]
}

import { Command } from 'commander'
import { type ConnectionFlags, connected, withConnection } from './connection-options.ts'
import { Unreachable } from './exit-code.ts'
import { type Io, linesOf, write } from './io.ts'
import { type RangeFlags, rangeQuery, withRange } from './range-options.ts'
import { instant, preview, row } from './table.ts'

interface ScanFlags extends ConnectionFlags, RangeFlags {
  readonly limit?: string
  readonly desc?: true
  readonly keysOnly?: true
}

interface ScanLine {
  readonly key: string
  readonly term: string
  readonly cmd: string
  readonly data?: string
  readonly expiresAt?: string
  readonly end?: true
}

const WIDTHS = [20, 8, 8, 24]

/** `kvidx scan`: the records of a range. */
export function scanCommand(io: Io): Command {
  return withRange(withConnection(new Command('scan')))
    .description('list the records of a range, all of one moment')
    .option('--limit <n>', 'at most so many')
    .option('--desc', 'from the last key down')
    .option('--keys-only', 'without data')
    .action((flags: ScanFlags) =>
      connected(flags, async client => {
        const answer = await client.call('GET', '/v1/records', {
          query: {
            ...rangeQuery(flags),
            limit: flags.limit,
            order: flags.desc && 'desc',
            ...(flags.keysOnly && { values: false }),
          },
          headers: { accept: 'application/x-ndjson' },
          long: true,
        })
        if (flags.output !== 'json') await write(io.output, row(['KEY', 'TERM', 'CMD', 'EXPIRES', 'DATA'], WIDTHS))
        let ended = false
        for await (const line of linesOf(answer.body)) {
          if (flags.output === 'json') {
            ended = line.startsWith('{"end":true')
            await write(io.output, `${line}\n`)
            continue
          }
          const record = JSON.parse(line) as ScanLine
          if (record.end) {
            ended = true
            break
          }
          const expires = record.expiresAt === undefined ? 'never' : instant(record.expiresAt)
          const data = record.data === undefined ? '' : preview(Buffer.from(record.data, 'base64'))
          await write(io.output, row([record.key, record.term, record.cmd, expires, data], WIDTHS))
        }
        if (!ended) throw new Unreachable('the answer was cut before its end')
      }),
    )
}

import { Command } from 'commander'
import { type ConnectionFlags, connected, withConnection } from './connection-options.ts'
import { type Io, write } from './io.ts'
import { type RangeFlags, rangeQuery, withRange } from './range-options.ts'

/** `kvidx count`: how many records a range has. */
export function countCommand(io: Io): Command {
  return withRange(withConnection(new Command('count')))
    .description('count the records of a range, exactly')
    .action((flags: ConnectionFlags & RangeFlags) =>
      connected(flags, async client => {
        const answer = await client.call('GET', '/v1/count', { query: rangeQuery(flags), long: true })
        const result = await answer.json()
        await write(io.output, flags.output === 'json' ? `${JSON.stringify(result)}\n` : `${result.count}\n`)
      }),
    )
}

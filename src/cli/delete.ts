import { Command } from 'commander'
import { KvidxError } from '../common/errors.ts'
import { type ConnectionFlags, connectedUntilSignal, withConnection } from './connection-options.ts'
import { type Io, write } from './io.ts'
import { conditions } from './put.ts'
import { type RangeFlags, rangeQuery, withRange } from './range-options.ts'
import { fields } from './table.ts'

interface DeleteFlags extends ConnectionFlags, RangeFlags {
  readonly all?: true
  readonly atomic: boolean
  readonly ifMatch?: string
  readonly ifTerm?: string
}

/** `kvidx delete`: removes a record, or a range. */
export function deleteCommand(io: Io): Command {
  return withRange(withConnection(new Command('delete')))
    .description('remove a record, or a range with --start and --end')
    .argument('[key]', 'decimal or 0x hex')
    .option('--all', 'remove every record')
    .option('--no-atomic', 'remove a range in slices of one commit each: for ranges above the limits of one commit')
    .option('--if-match <etag>', 'only if the record has this ETag')
    .option('--if-term <n>', 'only if the record has this term')
    .action((key: string | undefined, flags: DeleteFlags) =>
      connectedUntilSignal(flags, async client => {
        const ranged = flags.start !== undefined || flags.end !== undefined || flags.all === true
        if ((key !== undefined) === ranged)
          throw new KvidxError('invalid_parameter', 'give a key, or --start and --end, or --all')
        const answer =
          key !== undefined
            ? await client.call('DELETE', `/v1/records/${encodeURIComponent(key)}`, {
                query: { ifTerm: flags.ifTerm },
                headers: conditions(flags),
              })
            : await client.call('DELETE', '/v1/records', {
                query: { ...rangeQuery(flags), all: flags.all, ...(!flags.atomic && { atomic: false }) },
                long: true,
              })
        const body = await answer.bytes()
        const done =
          body.length > 0
            ? (JSON.parse(body.toString()) as Record<string, unknown>)
            : { position: answer.header('kvidx-position') }
        await write(io.output, flags.output === 'json' ? `${JSON.stringify(done)}\n` : fields(done))
      }),
    )
}

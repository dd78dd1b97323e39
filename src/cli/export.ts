import { Command, Option } from 'commander'
import { KvidxError } from '../common/errors.ts'
import { type ConnectionFlags, connectedUntilSignal, withConnection } from './connection-options.ts'
import { toFile } from './get.ts'
import { counted, formatOf } from './import.ts'
import { type Io, write } from './io.ts'
import { progressBar } from './progress.ts'
import { type RangeFlags, rangeQuery, withRange } from './range-options.ts'

interface ExportFlags extends ConnectionFlags, RangeFlags {
  readonly format?: string
}

/** `kvidx export`: the records of a range into a file. */
export function exportCommand(io: Io): Command {
  return withRange(withConnection(new Command('export')))
    .description("export the records of a range in one of kvidxkit's formats, or NDJSON; all of one moment")
    .argument('[file]', 'default, and -: the standard output')
    .addOption(
      new Option('--format <format>', 'default: what the name of the file tells, else binary').choices([
        'binary',
        'json',
        'csv',
        'ndjson',
      ]),
    )
    .action((name: string | undefined, flags: ExportFlags) =>
      connectedUntilSignal(flags, async client => {
        const file = name === '-' ? undefined : name
        const format = flags.format ?? (file === undefined ? undefined : formatOf(file)) ?? 'binary'
        if (file === undefined && format === 'binary' && (io.output as { isTTY?: boolean }).isTTY)
          throw new KvidxError('invalid_parameter', 'a terminal cannot show the binary format: name a file')
        const answer = await client.call('GET', '/v1/export', { query: { ...rangeQuery(flags), format }, long: true })
        const bar = progressBar(io, 'export', 'bytes')
        let bytes = 0
        const chunks = counted(answer.body, done => {
          bytes = done
          bar.show(done)
        })
        try {
          if (file !== undefined) await toFile(chunks, file)
          else for await (const chunk of chunks) await write(io.output, chunk)
        } finally {
          bar.end()
        }
        if (file === undefined) return
        const done = { file, bytes, position: answer.header('kvidx-position') }
        await write(
          io.output,
          flags.output === 'json'
            ? `${JSON.stringify(done)}\n`
            : `${bytes} bytes in ${file}, position ${done.position}\n`,
        )
      }),
    )
}

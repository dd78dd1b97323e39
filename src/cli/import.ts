import { createReadStream } from 'node:fs'
import { Readable } from 'node:stream'
import { Command, Option } from 'commander'
import { KvidxError } from '../common/errors.ts'
import { type ConnectionFlags, connectedUntilSignal, withConnection } from './connection-options.ts'
import { sizeOfGiven } from './given-file.ts'
import { isReadHere, readDatabase } from './import-database.ts'
import { type Io, write } from './io.ts'
import { progressBar } from './progress.ts'
import { withScratch } from './scratch.ts'
import { fields } from './table.ts'

const FORMATS = ['binary', 'json', 'csv', 'ndjson'] as const
type Format = (typeof FORMATS)[number]

const BY_ENDING: Readonly<Record<string, Format>> = {
  bin: 'binary',
  kvidx: 'binary',
  json: 'json',
  csv: 'csv',
  ndjson: 'ndjson',
  jsonl: 'ndjson',
}

interface ImportFlags extends ConnectionFlags {
  readonly format?: Format
  readonly onDuplicate?: string
  readonly clear?: true
  readonly atomic: boolean
}

/** The format that a file's name tells; undefined when it tells none. */
export function formatOf(file: string): Format | undefined {
  const ending = /\.([a-z]+)$/i.exec(file)?.[1]?.toLowerCase()
  return ending === undefined ? undefined : BY_ENDING[ending]
}

/** `kvidx import`: a file of records into a database. */
export function importCommand(io: Io): Command {
  return withConnection(new Command('import'))
    .description(
      "import a file in one of kvidxkit's formats or NDJSON (also compressed), or a database of kvidxkit as it lies on this machine (SQLite file, LMDB or RocksDB directory, not in use); all of it is checked before anything changes",
    )
    .argument('<path>', 'a file or a directory; - is the standard input')
    .addOption(new Option('--format <format>', 'default: what the name of the file tells').choices(FORMATS))
    .addOption(
      new Option('--on-duplicate <what>', 'a key exists already; default fail').choices(['fail', 'skip', 'replace']),
    )
    .option('--clear', 'the file takes the place of all records')
    .option('--no-atomic', 'in slices of one commit each: for files above the limits of one commit')
    .action((file: string, flags: ImportFlags) =>
      connectedUntilSignal(flags, client =>
        withScratch(undefined, async scratch => {
          const upload = await uploadOf(file, flags.format, io, scratch)
          const bar = progressBar(io, 'import', 'bytes')
          try {
            const answer = await client.call('POST', '/v1/import', {
              query: {
                format: upload.format,
                onDuplicate: flags.onDuplicate,
                clear: flags.clear,
                ...(!flags.atomic && { atomic: false }),
              },
              headers: {
                'content-type': 'application/octet-stream',
                ...(upload.total !== undefined && { 'content-length': String(upload.total) }),
              },
              body: Readable.from(
                counted(upload.chunks, done => bar.show(done, upload.total)),
                { objectMode: false },
              ),
              long: true,
            })
            const result = { ...(await answer.json()), ...upload.found?.() }
            bar.end()
            await write(io.output, flags.output === 'json' ? `${JSON.stringify(result)}\n` : fields(result))
          } finally {
            bar.end()
            await upload.close()
          }
        }),
      ),
    )
}

/** What is sent, and in which format. */
interface Upload {
  readonly format: Format
  readonly chunks: AsyncIterable<Uint8Array>
  /** Bytes, where they are known. */
  readonly total?: number
  /** What was found on the way, beside what the server tells. */
  readonly found?: () => Readonly<Record<string, unknown>>
  readonly close: () => void | Promise<void>
}

async function uploadOf(file: string, given: Format | undefined, io: Io, scratch: string): Promise<Upload> {
  if (await isReadHere(file)) {
    const records = await readDatabase(file, scratch)
    return {
      format: 'ndjson',
      chunks: records.lines,
      found: () => {
        const { kind, orphanExpiries } = records.report()
        return { source: kind, ...(orphanExpiries > 0 && { orphanExpiries }) }
      },
      close: () => records.close(),
    }
  }
  // before the format: of a file that is not there, the name is not what is wrong
  const total = file === '-' ? undefined : await sizeOfGiven(file)
  const format = given ?? formatOf(file)
  if (format === undefined)
    throw new KvidxError(
      'invalid_parameter',
      `--format: the name '${file}' does not tell the format (allowed: ${FORMATS.join(', ')})`,
    )
  if (total === undefined) return { format, chunks: io.input, close() {} }
  const input = createReadStream(file, { highWaterMark: 256 * 1024 })
  return { format, chunks: input, total, close: () => void input.destroy() }
}

/** The same chunks; `seen` is told how many bytes have passed. */
export async function* counted(
  chunks: AsyncIterable<Uint8Array>,
  seen: (bytes: number) => void,
): AsyncGenerator<Uint8Array> {
  let bytes = 0
  for await (const chunk of chunks) {
    bytes += chunk.length
    seen(bytes)
    yield chunk
  }
}

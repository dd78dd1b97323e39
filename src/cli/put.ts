import { createReadStream } from 'node:fs'
import type { Readable } from 'node:stream'
import { Command } from 'commander'
import { KvidxError } from '../common/errors.ts'
import { type ConnectionFlags, connected, withConnection } from './connection-options.ts'
import { sizeOfGiven } from './given-file.ts'
import { type Io, write } from './io.ts'
import { fields } from './table.ts'

interface PutFlags extends ConnectionFlags {
  readonly file?: string
  readonly term?: string
  readonly cmd?: string
  readonly ttl?: string
  readonly expiresAt?: string
  readonly ifAbsent?: true
  readonly ifPresent?: true
  readonly ifMatch?: string
  readonly ifTerm?: string
}

/** `kvidx put`: writes a record. */
export function putCommand(io: Io): Command {
  return withConnection(new Command('put'))
    .description('write a record')
    .argument('<key>', 'decimal or 0x hex')
    .argument('[value]', 'the data as text; without it and without --file the standard input')
    .option('--file <file>', 'the data is what the file holds; - is the standard input')
    .option('--term <n>', "the record's term, default 0")
    .option('--cmd <n>', "the record's cmd, default 0")
    .option('--ttl <duration>', 'expires after, as in 90s or 1h')
    .option('--expires-at <time>', 'expires at: Unix ms or RFC 3339')
    .option('--if-absent', 'only if there is no such record')
    .option('--if-present', 'only if there is one')
    .option('--if-match <etag>', 'only if the record has this ETag')
    .option('--if-term <n>', 'only if the record has this term')
    .action((key: string, value: string | undefined, flags: PutFlags) =>
      connected(flags, async client => {
        if (value !== undefined && flags.file !== undefined)
          throw new KvidxError('invalid_parameter', 'a value and --file are both given (allowed: one of them)')
        const body = value !== undefined ? Buffer.from(value) : await source(io, flags.file)
        const answer = await client.call('PUT', `/v1/records/${encodeURIComponent(key)}`, {
          query: { term: flags.term, cmd: flags.cmd, ttl: flags.ttl, expiresAt: flags.expiresAt, ifTerm: flags.ifTerm },
          headers: conditions(flags),
          body,
        })
        const written = {
          created: answer.status === 201,
          etag: answer.header('etag')?.replaceAll('"', ''),
          position: answer.header('kvidx-position'),
        }
        await answer.bytes()
        await write(io.output, flags.output === 'json' ? `${JSON.stringify(written)}\n` : fields(written))
      }),
    )
}

async function source(io: Io, file: string | undefined): Promise<Readable> {
  if (file === undefined || file === '-') {
    // a person who left the value out would wait for us
    if ((io.input as { isTTY?: boolean }).isTTY) io.notes.write('reading the data from the terminal; Ctrl-D ends it\n')
    return io.input
  }
  await sizeOfGiven(file, `--file: ${file}`)
  return createReadStream(file)
}

/** Conditions as headers of the data API. */
export function conditions(flags: Pick<PutFlags, 'ifAbsent' | 'ifPresent' | 'ifMatch'>): Record<string, string> {
  if (flags.ifPresent && flags.ifMatch !== undefined)
    throw new KvidxError('invalid_parameter', '--if-present and --if-match are both given (allowed: one of them)')
  const tag = flags.ifMatch?.replace(/^"?([^"]*)"?$/, '"$1"')
  return {
    ...(flags.ifAbsent && { 'if-none-match': '*' }),
    ...(flags.ifPresent && { 'if-match': '*' }),
    ...(tag !== undefined && { 'if-match': tag }),
  }
}

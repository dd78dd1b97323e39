import { createWriteStream } from 'node:fs'
import { rename, rm, stat } from 'node:fs/promises'
import { pipeline } from 'node:stream/promises'
import { Command } from 'commander'
import { KvidxError } from '../common/errors.ts'
import { type ConnectionFlags, connectedUntilSignal, withConnection } from './connection-options.ts'
import { type Io, write } from './io.ts'
import { fields, instant, preview } from './table.ts'

const LINE_FEED = 10

interface GetFlags extends ConnectionFlags {
  readonly file?: string
}

/** `kvidx get`: the data of a record, or all of it with --output. */
export function getCommand(io: Io): Command {
  return withConnection(new Command('get'))
    .description('print the data of a record as it is; with --output its fields')
    .argument('<key>', 'decimal or 0x hex')
    .option('--file <file>', 'write the data to a file')
    .action((key: string, flags: GetFlags) =>
      connectedUntilSignal(flags, async client => {
        const path = `/v1/records/${encodeURIComponent(key)}`
        if (flags.output === 'json') {
          const answer = await client.call('GET', path, { headers: { accept: 'application/json' } })
          return write(io.output, `${JSON.stringify(await answer.json())}\n`)
        }
        const answer = await client.call('GET', path)
        if (flags.file !== undefined) return toFile(answer.body, flags.file)
        if (flags.output !== 'table') {
          let last: number | undefined
          for await (const chunk of answer.body) {
            await write(io.output, chunk)
            last = chunk.at(-1)
          }
          // the shell's next line begins on its own; a pipe or a file gets the data alone
          if ((io.output as { isTTY?: boolean }).isTTY && last !== LINE_FEED) await write(io.output, '\n')
          return undefined
        }
        const data = await answer.bytes()
        const expires = answer.header('kvidx-expires-at')
        return write(
          io.output,
          fields({
            key,
            term: answer.header('kvidx-term'),
            cmd: answer.header('kvidx-cmd'),
            expires: expires === undefined ? 'never' : instant(expires),
            etag: answer.header('etag'),
            bytes: data.length,
            data: preview(data),
            position: answer.header('kvidx-position'),
          }),
        )
      }),
    )
}

/**
 * Under another name until it is whole: a file that is there is complete; into a device or a pipe as it comes. Errors: invalid_parameter when there can be no such file, and what
 * the chunks throw.
 */
export async function toFile(chunks: AsyncIterable<Uint8Array>, file: string): Promise<void> {
  const partial = `${file}.partial`
  try {
    // a device or a pipe, such as /dev/stdout: a rename would put a file in its place
    const there = await stat(file).catch(() => undefined)
    if (there && !there.isFile() && !there.isDirectory()) return await pipeline(chunks, createWriteStream(file))
    await pipeline(chunks, createWriteStream(partial))
    await rename(partial, file)
  } catch (error) {
    await rm(partial, { force: true })
    const { code, syscall } = error as NodeJS.ErrnoException
    const why = syscall === 'open' || syscall === 'rename' ? NO_FILE[code ?? ''] : undefined
    if (why === undefined) throw error
    throw new KvidxError('invalid_parameter', `${file} cannot be written: ${why}`, {}, error)
  }
}

const NO_FILE: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such directory',
  ENOTDIR: 'a part of the path is no directory',
  EISDIR: 'it is a directory',
  EACCES: 'this user may not',
  EPERM: 'this user may not',
  EROFS: 'the file system is read-only',
}

import { PassThrough, Readable, Writable } from 'node:stream'
import type { Io } from '../../../src/cli/io.ts'
import { runCli } from '../../../src/cli/program.ts'

export interface Ran {
  readonly code: number
  readonly out: string
  readonly bytes: Buffer
  readonly notes: string
}

function sink(): { stream: Writable; bytes: () => Buffer } {
  const pieces: Buffer[] = []
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      pieces.push(Buffer.from(chunk))
      done()
    },
  })
  return { stream, bytes: () => Buffer.concat(pieces) }
}

/** Runs one command line in this process, as `kvidx` would. */
export async function kvidx(
  args: readonly string[],
  given: { readonly input?: string | Buffer; readonly watched?: boolean } = {},
): Promise<Ran> {
  const [output, notes] = [sink(), sink()]
  const io: Io = {
    input: given.input === undefined ? new PassThrough().end() : Readable.from([Buffer.from(given.input)]),
    output: output.stream,
    notes: notes.stream,
    watched: given.watched ?? false,
  }
  const code = await runCli(args, io)
  return { code, bytes: output.bytes(), out: output.bytes().toString(), notes: notes.bytes().toString() }
}

import { readFile } from 'node:fs/promises'
import { type Command, Option } from 'commander'
import { environment } from '../common/environment.ts'
import { KvidxError } from '../common/errors.ts'
import { ServerClient } from './client.ts'
import { unreadable } from './given-file.ts'
import { interruptible } from './interrupt.ts'
import { DEFAULT_SERVER, parseServer } from './server-address.ts'

export interface ConnectionFlags {
  readonly server?: string
  readonly token?: string
  readonly tokenFile?: string
  readonly ca?: string
  readonly output?: 'table' | 'json'
}

/** What every command that talks to a server understands. */
export function withConnection(command: Command): Command {
  return command
    .option(
      '--server <address>',
      `http://host:port, https://host:port or unix:///path; default $KVIDX_SERVER, else ${DEFAULT_SERVER}`,
    )
    .option(
      '--token <token>',
      'token; default $KVIDX_TOKEN (other users of this machine can see arguments: prefer the variable or a file)',
    )
    .option('--token-file <file>', 'file whose first line is the token')
    .option('--ca <file>', 'certificates (PEM) to trust')
    .addOption(new Option('--output <form>', 'form of the output').choices(['table', 'json']))
}

/** As `connected`, for work that has something to put away: a signal cuts the connection, and so ends the work in order. */
export function connectedUntilSignal<T>(
  flags: ConnectionFlags,
  work: (client: ServerClient) => Promise<T>,
): Promise<T> {
  return connected(flags, async client => {
    const interrupt = interruptible()
    interrupt.signal.addEventListener('abort', () => void client.close(), { once: true })
    try {
      return await work(client)
    } finally {
      interrupt.end()
    }
  })
}

/** Runs a command's work with a connection, and closes it. Errors: invalid_parameter, and what the work throws. */
export async function connected<T>(flags: ConnectionFlags, work: (client: ServerClient) => Promise<T>): Promise<T> {
  const given = flags.server ?? environment.read('KVIDX_SERVER') ?? DEFAULT_SERVER
  const client = await ServerClient.open(
    parseServer(given, flags.server === undefined ? 'KVIDX_SERVER' : '--server'),
    await tokenOf(flags),
    flags.ca,
  )
  try {
    return await work(client)
  } finally {
    await client.close()
  }
}

async function tokenOf(flags: ConnectionFlags): Promise<string | undefined> {
  if (flags.token !== undefined && flags.tokenFile !== undefined)
    throw new KvidxError('invalid_parameter', '--token and --token-file are both given (allowed: one of them)')
  if (flags.tokenFile === undefined) return flags.token ?? environment.read('KVIDX_TOKEN')
  let content: string
  try {
    content = await readFile(flags.tokenFile, 'utf8')
  } catch (error) {
    throw unreadable(`--token-file: ${flags.tokenFile}`, error)
  }
  // a file of the server has up to two tokens; each of them will do
  const token = content.split(/\s+/).find(part => part !== '')
  if (token === undefined) throw new KvidxError('invalid_parameter', `--token-file: ${flags.tokenFile} is empty`)
  return token
}

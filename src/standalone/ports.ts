import { createServer } from 'node:net'
import { refused } from '../common/errors.ts'

/** Where one database listens. */
export interface DatabasePorts {
  readonly data: number
  readonly ops: number
}

/**
 * Ports for so many databases, in a row from the first ones; 0 gives each any free one. Asked before anything is started: a port that is taken
 * is the answer to a command, not a process that dies again and again beside somebody else's.
 * Errors: invalid_parameter naming the flag, the port and what else can be done.
 */
export async function claimPorts(
  host: string,
  first: DatabasePorts,
  names: readonly string[],
): Promise<readonly DatabasePorts[]> {
  const claimed: DatabasePorts[] = []
  const taken = new Set<number>()
  for (const [index, name] of names.entries()) {
    const claim = async (flag: string, port: number): Promise<number> => {
      const wanted = port === 0 ? 0 : port + index
      const where = `${name} would listen on port ${wanted}`
      if (wanted > 65535) throw refused(flag, `${where}, which does not exist (allowed: up to 65535)`)
      if (wanted !== 0 && taken.has(wanted))
        throw refused(flag, `${where}, which another database of this manifest has (data and operations ports overlap)`)
      const got = await free(host, wanted).catch((error: NodeJS.ErrnoException) => {
        throw refused(flag, `${where} of ${host}: ${reasonOf(error)}`)
      })
      taken.add(got)
      return got
    }
    claimed.push({ data: await claim('--data-port', first.data), ops: await claim('--ops-port', first.ops) })
  }
  return claimed
}

/** Listens and stops: the port that it had. */
function free(host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen({ host, port, exclusive: true }, () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address ? address.port : port))
    })
  })
}

function reasonOf({ code, message }: NodeJS.ErrnoException): string {
  if (code === 'EADDRINUSE') return 'another program listens there (choose another one, or 0 for any)'
  if (code === 'EACCES') return 'this user may not (ports below 1024 belong to root)'
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND') return 'this machine does not have that address'
  return message
}

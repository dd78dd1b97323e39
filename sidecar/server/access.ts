import type { IncomingMessage } from 'node:http'
import { KvidxError } from '../../src/common/errors.ts'
import { isLoopback } from './config.ts'
import type { Rights } from './endpoint.ts'
import type { TokenStore } from './tokens.ts'

const RANK: Readonly<Record<Rights, number>> = { none: 0, read: 1, write: 2, admin: 3 }

/** Who may do what on one listener. */
export interface Access {
  /** Answers who calls, as it stands in the log: the token's right, or the listener that needs none. Errors: unauthorized, forbidden. */
  check(req: IncomingMessage, needed: Rights): string
}

/** The Unix socket: whoever may open it has the rights of a writer, and nobody those of an admin. */
export const socketAccess: Access = {
  check(_req, needed) {
    if (needed === 'admin')
      throw new KvidxError('forbidden', 'the Unix socket has no admin rights; use the data port with the admin token')
    return 'socket'
  },
}

/** A listener with tokens: every call but the public ones needs one. */
export function tokenAccess(tokens: TokenStore): Access {
  return {
    check(req, needed) {
      if (needed === 'none') return 'anybody'
      const header = req.headers.authorization
      if (header === undefined)
        throw new KvidxError('unauthorized', 'the header Authorization: Bearer <token> is missing')
      const match = /^Bearer +([\x21-\x7e]+) *$/i.exec(header)
      const rights = match ? tokens.rightsOf(match[1] as string) : 'none'
      if (rights === 'none') throw new KvidxError('unauthorized', 'the token is not valid')
      if (RANK[rights] < RANK[needed])
        throw new KvidxError('forbidden', `the token has the right to ${rights}; this call needs ${needed}`, { needed })
      return `token ${rights}`
    },
  }
}

/**
 * A loopback listener without tokens: every program of this machine may do everything. Web pages in a browser of this machine may not: they
 * are told by the headers that only a browser sends, and by a host name that is not this machine's (DNS rebinding).
 */
export const loopbackAccess: Access = {
  check(req) {
    const { origin, host } = req.headers
    const site = req.headers['sec-fetch-site']
    if (origin !== undefined || (site !== undefined && site !== 'none' && site !== 'same-origin'))
      throw new KvidxError('forbidden', 'calls from web pages need a listener with tokens')
    if (host !== undefined && !isLocalHost(host))
      throw new KvidxError(
        'forbidden',
        `Host: '${host}' does not name this machine; without tokens only loopback is served`,
      )
    return 'loopback'
  },
}

/** Clients of one machine mostly say the same name, and it is looked at for every request. */
let knownLocal = ''

function isLocalHost(host: string): boolean {
  if (host === knownLocal) return true
  const name = host.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1')
  const local = name === '' || isLoopback(name)
  if (local) knownLocal = host
  return local
}

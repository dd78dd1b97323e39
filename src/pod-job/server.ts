import type { ServerClient } from '../cli/client.ts'
import { type ConnectionFlags, connected } from '../cli/connection-options.ts'
import { formatDuration } from '../common/duration.ts'
import { KvidxError } from '../common/errors.ts'
import type { RestoreServer } from './restore-run.ts'
import type { FreezableServer } from './snapshot-run.ts'

/** The data port of the database, with the admin token. A connection for each call: they are few, and the pod may be replaced between two. */
export function freezableServer(flags: ConnectionFlags): FreezableServer {
  const ask = asker(flags)
  return {
    async freeze(lease) {
      const answer = await ask('POST', '/v1/admin/freeze', { lease: formatDuration(lease) })
      return { token: String(answer.token), expiresAt: Number(answer.expiresAt) }
    },
    async thaw(token) {
      return (await ask('POST', '/v1/admin/thaw', { token })).withinLease === true
    },
    async state() {
      const stats = await ask('GET', '/v1/stats')
      const text = (name: string) => String(stats[name] ?? '')
      return {
        lineage: text('lineage'),
        engine: text('engine'),
        position: text('position'),
        records: text('count'),
        dataBytes: text('dataBytes'),
        digest: text('digest'),
      }
    },
  }
}

/** One question that costs nothing. */
export async function askServer(flags: ConnectionFlags): Promise<void> {
  await asker(flags)('GET', '/v1/stats')
}

/** The restore calls of the same port. */
export function restoreServer(flags: ConnectionFlags): RestoreServer {
  const ask = asker(flags)
  return {
    begin: query => ask('POST', '/v1/admin/restore', query),
    async progress() {
      try {
        return await ask('GET', '/v1/admin/restore')
      } catch (error) {
        if (error instanceof KvidxError && error.code === 'not_found') return undefined
        throw error
      }
    },
    async epochs() {
      const { epochs } = await ask('GET', '/v1/stats')
      return Array.isArray(epochs) ? (epochs as readonly Readonly<Record<string, unknown>>[]) : []
    },
  }
}

function asker(flags: ConnectionFlags) {
  return (method: 'GET' | 'POST', path: string, query: Readonly<Record<string, string>> = {}) =>
    connected(flags, async (client: ServerClient) => (await client.call(method, path, { query })).json())
}

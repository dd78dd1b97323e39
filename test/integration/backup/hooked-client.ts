import { onTestFinished, vi } from 'vitest'
import type { LocalDatabase } from '../../../sidecar/database/local-database.ts'
import { type CallerAnswer, DatabaseClient } from '../../../sidecar/job/database-client.ts'
import { type Answer, ServerClient } from '../../../src/cli/client.ts'
import { KvidxError } from '../../../src/common/errors.ts'

/** One call, before the database knows of it. */
export interface Call {
  readonly path: string
  readonly query: Readonly<Record<string, unknown>>
  /** Of the whole snapshot: what a backup reads first. */
  readonly whole: boolean
  readonly slice: boolean
}

/** A real client of a real server, that lets a test do something between its calls. `answered` has the answer before its body is read. */
export async function hookedClient(
  origin: string,
  hooks: { before?(call: Call): Promise<void>; answered?(call: Call, answer: Answer): Promise<CallerAnswer> },
): Promise<DatabaseClient> {
  const server = await ServerClient.open({ origin })
  onTestFinished(() => server.close())
  return new DatabaseClient({
    async call(method, path, options = {}) {
      const call = {
        ...{ path, query: options.query ?? {} },
        ...{ whole: path === '/v1/admin/snapshot', slice: path === '/v1/admin/slice' },
      }
      await hooks.before?.(call)
      const answer = await server.call(method, path, options)
      return (await hooks.answered?.(call, answer)) ?? answer
    },
  })
}

/** As the keeper of space does when the files grow too much. */
export function cutSnapshots(database: LocalDatabase): void {
  for (const snapshot of database.session().readers.held)
    snapshot.cut(new KvidxError('snapshot_cut', 'the test lets go of every snapshot'))
}

/** From now on every snapshot is let go of as soon as it is held, `times` in all. */
export function cutEverySnapshot(database: LocalDatabase, times = Number.POSITIVE_INFINITY): void {
  const { readers } = database.session()
  const { snapshot } = readers
  let left = times
  vi.spyOn(readers, 'snapshot').mockImplementation(async (...args) => {
    const held = await snapshot.apply(readers, args)
    if (left-- > 0) cutSnapshots(database)
    return held
  })
}

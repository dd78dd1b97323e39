import Database from 'better-sqlite3'
import { KvidxError } from '../../../src/common/errors.ts'
import { guarded } from '../../engine/sqlite/errors.ts'
import { isSqliteFile } from './sqlite-copy.ts'

export type SqliteConnection = Database.Database

/** kvidxkit's table of records. */
const LOG_COLUMNS = ['id', 'created', 'term', 'cmd', 'data'] as const
const KVIDXKIT = new Set(['log', 'controlBlock', '_kvidx_ttl', '_kvidx_schema'])
const OURS = new Set(['_kvidx_meta', '_kvidx_changes'])

export interface SqliteSchema {
  /** It has kvidxkit's table `log`. */
  readonly isKvidxkit: boolean
  /** Why not. */
  readonly problem?: string
  /** kvidxkit made its table of expiries (it does with the first one). */
  readonly hasExpiries: boolean
  /** This software has written to it: metadata and change log are there. */
  readonly managed: boolean
  /** Tables of somebody else. */
  readonly otherTables: readonly string[]
}

/** Opens a database file that nobody else uses, without changing anything. Errors: `invalid_body` (no SQLite file), `engine_corrupt`, `locked`, `engine_io`. */
export async function openSqlite(path: string): Promise<SqliteConnection> {
  if (!(await isSqliteFile(path))) {
    throw new KvidxError('invalid_body', `${path} does not begin with "SQLite format 3": it is not a SQLite database`, {
      path,
    })
  }
  return guarded(path, `open ${path}`, () => {
    // read-write, because a WAL or a hot journal must be recovered first; query_only keeps everything else out
    const connection = new Database(path, { fileMustExist: true })
    try {
      connection.pragma('query_only = ON')
      connection.pragma('trusted_schema = OFF')
      connection.prepare('SELECT count(*) FROM sqlite_schema').get()
      return connection
    } catch (thrown) {
      connection.close()
      throw thrown
    }
  })
}

export function readSchema(connection: SqliteConnection): SqliteSchema {
  const tables = connection
    .prepare<[], string>(
      "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    )
    .pluck()
    .all()
  const columnsOf = (table: string) =>
    connection
      .prepare<[string], { name: string; type: string; pk: number }>(
        'SELECT name, type, pk FROM pragma_table_info(?) ORDER BY cid',
      )
      .all(table)
  const problem = tables.includes('log') ? logProblem(columnsOf('log')) : 'it has no table log'
  const expiries = columnsOf('_kvidx_ttl').map(column => column.name)
  return {
    isKvidxkit: problem === undefined,
    ...(problem === undefined ? {} : { problem }),
    hasExpiries: expiries.includes('id') && expiries.includes('expires_at'),
    managed: [...OURS].every(table => tables.includes(table)),
    otherTables: tables.filter(table => !KVIDXKIT.has(table) && !OURS.has(table)),
  }
}

function logProblem(columns: readonly { name: string; type: string; pk: number }[]): string | undefined {
  const names = columns.map(column => column.name)
  if (!LOG_COLUMNS.every(name => names.includes(name))) {
    return `its table log has the columns ${names.join(', ')} where kvidxkit's has ${LOG_COLUMNS.join(', ')}`
  }
  const id = columns.find(column => column.name === 'id')
  // only INTEGER PRIMARY KEY is the row id; any other key could hold what is not an integer
  if (id?.pk !== 1 || id.type.toUpperCase() !== 'INTEGER')
    return 'the column id of its table log is not INTEGER PRIMARY KEY'
  return undefined
}

import Database from 'better-sqlite3'
import { failpoint } from '../../../src/common/failpoint.ts'

/**
 * The program of a process of its own: rewrites a database file. SQLite cannot be asked to stop in the middle of it, but a process can be ended, and then the
 * transaction never was. Arguments: the file, what to wait for its lock (ms).
 */
const [, , file = '', timeout] = process.argv
const connection = new Database(file, { fileMustExist: true, timeout: Number(timeout) })
connection.pragma('synchronous = FULL')
failpoint('vacuum.before')
connection.exec('VACUUM')
failpoint('vacuum.after')
connection.close()

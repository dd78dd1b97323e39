import Database from 'better-sqlite3'

/**
 * The program of a process of its own: rewrites a database file. SQLite cannot be asked to stop in the middle of it, but a process can be ended, and then the
 * transaction never was. Arguments: the file, what to wait for its lock (ms).
 */
const [, , file = '', timeout] = process.argv
const connection = new Database(file, { fileMustExist: true, timeout: Number(timeout) })
connection.pragma('synchronous = FULL')
connection.exec('VACUUM')
connection.close()

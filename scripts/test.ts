// `npm test`: lint, then unit and integration tests. The last lines say what ran, and which engines.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { lint } from './lint.ts'
import { run } from './run.ts'

interface FileResult {
  readonly name: string
  readonly status: string
  readonly message?: string
  readonly assertionResults: readonly { readonly fullName: string; readonly status: string }[]
}

const ENGINES = ['SQLite', 'LMDB', 'RocksDB']
const inCi = process.env.CI === 'true'
const began = performance.now()

const checks = await lint()
const filters = process.argv.slice(2)
const exitCodes: number[] = []
const directory = mkdtempSync(join(tmpdir(), 'kvidx-test-'))
const results: FileResult[] = []
await vitest('unit', 'integration')
// on a machine that builds its API server just now, the tests above ran meanwhile
if (inCi) await run('test/cluster/cluster', ['build', '--control-plane'])
await vitest('kubernetes')
rmSync(directory, { recursive: true, force: true })

async function vitest(...projects: string[]): Promise<void> {
  const file = join(directory, `${projects.join('-')}.json`)
  const selected = projects.flatMap(project => ['--project', project])
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${file}`]
  const { code } = await run('vitest', ['run', '--passWithNoTests', ...selected, ...reporters, ...filters])
  exitCodes.push(code)
  try {
    const report = JSON.parse(readFileSync(file, 'utf8')) as { testResults: FileResult[] }
    results.push(...report.testResults)
  } catch (error) {
    // without tests there is no report; every other reason shows in the exit code as well
    if (code !== 0) console.error(`vitest left no report: ${error}`)
  }
}

const tests = results.flatMap(({ assertionResults }) => assertionResults)
const passed = tests.filter(({ status }) => status === 'passed')
const notRun = tests.filter(({ status }) => status !== 'passed' && status !== 'failed')
// a file that cannot be loaded has no tests to count, and is one failure
const broken = results.filter(
  ({ status, assertionResults }) => status === 'failed' && !assertionResults.some(test => test.status === 'failed'),
)
const problems = [
  ...checks.filter(({ ok }) => !ok).map(({ name }) => `${name} found something`),
  ...broken.map(({ name, message }) => `${name} did not run: ${message?.split('\n')[0] ?? ''}`),
]
if (notRun.length > 0) {
  console.log(`\nSKIPPED: ${notRun.length} tests did not run:`)
  for (const { fullName } of notRun.slice(0, 20)) console.log(`  ${fullName}`)
  if (notRun.length > 20) console.log(`  ... and ${notRun.length - 20} more`)
  if (inCi) problems.push(`${notRun.length} tests were skipped, and CI=true allows none`)
}
const engines = ENGINES.map(engine => ({
  engine,
  count: passed.filter(({ fullName }) => fullName.toLowerCase().includes(engine.toLowerCase())).length,
}))
const absent = engines.filter(({ count }) => count === 0).map(({ engine }) => engine)
if (inCi && filters.length === 0 && absent.length > 0) problems.push(`no test ran on ${absent.join(', ')}`)
const failedTests = tests.filter(({ status }) => status === 'failed').length
// vitest can fail without a failed test: an unhandled error, a global setup
const code = exitCodes.find(code => code !== 0)
if (code !== undefined && failedTests + problems.length === 0) problems.push(`vitest ended with exit code ${code}`)
const failures = failedTests + problems.length

console.log('')
for (const problem of problems) console.log(`FAILED: ${problem}`)
console.log(
  `engines: ${engines.map(({ engine, count }) => (count > 0 ? `${engine} ran (${count} tests)` : `${engine} DID NOT RUN`)).join(', ')}` +
    (absent.includes('RocksDB') ? '; RocksDB needs the system library (Debian: apt-get install librocksdb7.8)' : ''),
)
console.log(`lint, unit and integration tests: ${((performance.now() - began) / 1000).toFixed(0)} s`)
console.log(
  `${passed.length + checks.filter(({ ok }) => ok).length} passed, ${failures} failed${notRun.length > 0 ? `, ${notRun.length} skipped` : ''}`,
)
process.exitCode = failures === 0 ? 0 : 1

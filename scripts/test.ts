// `npm test`: lint, then unit and integration tests. The last lines say what ran, and which engines.
import { lint } from './lint.ts'
import { run } from './run.ts'
import { brokenFiles, deaths, runVitest, type TestFile } from './vitest-report.ts'

const ENGINES = ['SQLite', 'LMDB', 'RocksDB']
const inCi = process.env.CI === 'true'
const began = performance.now()

const checks = await lint()
const filters = process.argv.slice(2)
const exitCodes: number[] = []
const results: TestFile[] = []
const died: string[] = []
await vitest('unit', 'integration')
// on a machine that builds its API server just now, the tests above ran meanwhile
if (inCi) await run('test/cluster/cluster', ['build', '--control-plane'])
await vitest('kubernetes')

async function vitest(...projects: string[]): Promise<void> {
  const selected = projects.flatMap(project => ['--project', project])
  const { code, files, unhandled } = await runVitest(['--passWithNoTests', ...selected, ...filters])
  // A test that fails is tried again by vitest; a process that died (a fault of native code) is not, and its file is one of hundreds.
  const dead = inCi ? deaths(unhandled) : []
  const again = new Map<string, TestFile>()
  for (const { file, message } of dead) {
    const { code, files } = await runVitest([...selected, file])
    for (const result of files) if (code === 0) again.set(result.name, result)
    died.push(`${message}; ${code === 0 ? 'its tests passed' : 'it failed'} when it ran again`)
  }
  exitCodes.push(again.size > 0 && again.size === unhandled.length ? 0 : code)
  results.push(...files.map(file => again.get(file.name) ?? file))
}

const tests = results.flatMap(({ assertionResults }) => assertionResults)
const passed = tests.filter(({ status }) => status === 'passed')
const notRun = tests.filter(({ status }) => status !== 'passed' && status !== 'failed')
const broken = brokenFiles(results)
const problems = [
  ...checks.filter(({ ok }) => !ok).map(({ name }) => `${name} found something`),
  ...broken.map(
    ({ name, message }) =>
      `${name} did not run to its end: ${message?.split('\n')[0] || 'its process died, see DIED or Unhandled Errors'}`,
  ),
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
for (const death of died) console.log(`DIED: ${death}`)
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

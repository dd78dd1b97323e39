// `npm run test:fault [-- --short] [-- VITEST ARGUMENTS]`: kill -9, power loss, full disks, damaged files and stores.
//   --short   the selection of CI: every kind of fault, few repetitions; about ten minutes on two quiet cores
// Set KVIDX_FAULT_SEED to repeat a run. The last line is `N passed, N failed`.
import { brokenFiles, runVitest } from './vitest-report.ts'

const SHORT = {
  KVIDX_FAULT_CYCLES: '4',
  KVIDX_FAULT_FLIPS: '150',
  KVIDX_FAULT_MOMENTS: '4',
  KVIDX_FAULT_LOAD_MS: '9000',
  KVIDX_FAULT_ROUNDS: '1',
}
/** They guard memory, not data, and take as long as all the others. */
const LONG = ['backup-memory', 'transfer-memory'].flatMap(name => ['--exclude', `test/fault/${name}.test.ts`])

const args = process.argv.slice(2)
const short = args.includes('--short')
const filters = args.filter(arg => arg !== '--short')
const env = short ? { ...SHORT, ...process.env } : process.env
const { code, files } = await runVitest(['--project', 'fault', ...(short ? LONG : []), ...filters], { env })

const tests = files.flatMap(({ assertionResults }) => assertionResults)
const count = (wanted: string) => tests.filter(({ status }) => status === wanted).length
const broken = brokenFiles(files)
for (const { name } of broken) console.log(`FAILED: ${name} did not run`)
const skipped =
  filters.length > 0 ? [] : tests.filter(({ status }) => ['skipped', 'pending', 'disabled'].includes(status))
for (const { fullName } of skipped) console.log(`SKIPPED: ${fullName}`)
for (const { fullName, status } of tests) if (status === 'todo') console.log(`OPEN: ${fullName}`)
let failed = count('failed') + broken.length + (process.env.CI === 'true' ? skipped.length : 0)
if (code !== 0 && failed === 0) failed = 1
console.log(`${count('passed')} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1

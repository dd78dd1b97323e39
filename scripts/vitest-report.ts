import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { run } from './run.ts'

/** Of vitest's JSON report, what the suites count. Times are Unix ms. */
export interface TestFile {
  readonly name: string
  readonly status: string
  readonly message?: string
  readonly startTime: number
  readonly endTime: number
  readonly assertionResults: readonly { readonly fullName: string; readonly status: string }[]
}

export interface VitestRun {
  readonly code: number
  readonly files: readonly TestFile[]
  /** Messages of errors that belong to no test: a process that died, a rejection that nobody handled. */
  readonly unhandled: readonly string[]
}

/** Runs vitest and reads its reports. Without one (a global setup failed, say) there are no files, and the exit code is not 0 unless no test is allowed. */
export async function runVitest(
  args: readonly string[],
  { reporter = 'default', env = process.env }: { readonly reporter?: string; readonly env?: NodeJS.ProcessEnv } = {},
): Promise<VitestRun> {
  const directory = mkdtempSync(join(tmpdir(), 'kvidx-vitest-'))
  const file = join(directory, 'report.json')
  const unhandled = join(directory, 'unhandled.json')
  const reporters = [
    ...[`--reporter=${reporter}`, '--reporter=json', `--outputFile.json=${file}`],
    '--reporter=./scripts/unhandled-reporter.ts',
  ]
  const { code } = await run('vitest', ['run', ...reporters, ...args], {
    env: { ...env, VITEST_UNHANDLED_REPORT: unhandled },
  })
  try {
    const { testResults } = JSON.parse(readFileSync(file, 'utf8')) as { testResults: TestFile[] }
    return { code, files: testResults, unhandled: JSON.parse(readFileSync(unhandled, 'utf8')) as string[] }
  } catch (error) {
    if (code === 0 && args.includes('--passWithNoTests')) return { code, files: [], unhandled: [] }
    console.error(`vitest left no report: ${error}`)
    return { code: code || 1, files: [], unhandled: [] }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/** A file that cannot be loaded has no tests to count, and is one failure. */
export function brokenFiles(files: readonly TestFile[]): TestFile[] {
  return files.filter(
    ({ status, assertionResults }) => status === 'failed' && !assertionResults.some(test => test.status === 'failed'),
  )
}

/** Of the unhandled errors of a run, those that say that the process of a test file died. */
export function deaths(unhandled: readonly string[]): { readonly file: string; readonly message: string }[] {
  return unhandled.flatMap(message => {
    const file = /exited unexpectedly with .* while running test file (\S+)$/.exec(message)?.[1]
    return file ? [{ file, message }] : []
  })
}

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
}

/** Runs vitest and reads its report. Without a report (a global setup failed, say) there are no files, and the exit code is not 0 unless no test is allowed. */
export async function runVitest(
  args: readonly string[],
  { reporter = 'default', env = process.env }: { readonly reporter?: string; readonly env?: NodeJS.ProcessEnv } = {},
): Promise<VitestRun> {
  const directory = mkdtempSync(join(tmpdir(), 'kvidx-vitest-'))
  const file = join(directory, 'report.json')
  const reporters = [`--reporter=${reporter}`, '--reporter=json', `--outputFile.json=${file}`]
  const { code } = await run('vitest', ['run', ...reporters, ...args], { env })
  try {
    const { testResults } = JSON.parse(readFileSync(file, 'utf8')) as { testResults: TestFile[] }
    return { code, files: testResults }
  } catch (error) {
    if (code === 0 && args.includes('--passWithNoTests')) return { code, files: [] }
    console.error(`vitest left no report: ${error}`)
    return { code: code || 1, files: [] }
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

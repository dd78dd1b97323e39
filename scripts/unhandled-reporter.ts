import { writeFileSync } from 'node:fs'
import type { Reporter } from 'vitest/node'

/** The errors of a run that belong to no test, which vitest's JSON report leaves out: above all test processes that died. `VITEST_UNHANDLED_REPORT` names the file. */
export default class UnhandledReporter implements Reporter {
  onTestRunEnd(...[, errors]: Parameters<NonNullable<Reporter['onTestRunEnd']>>): void {
    const file = process.env.VITEST_UNHANDLED_REPORT
    if (!file) return
    writeFileSync(file, JSON.stringify(errors.map(({ message, cause }) => cause?.message ?? message)))
  }
}
